"""Entries of the target itself: proposed first, never dropped, always relaxed by the last model."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk

from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.matcher import Matcher
from csp.protocols import Evaluation, Label, Proposals, Provenance
from csp.relaxation.relax import RelaxationResult, Status
from csp.search.funnel import Funnel
from csp.search.search import Search
from csp.settings import SearchSettings
from csp.store.store import Store
from csp.target import Target
from generators.templates.metric_learning import MetricLearningGenerator
from generators.templates.template import TemplateGenerator
from tests.lennard_jones import LennardJones
from tests.places import SHARED, needs

STRUCTURES = SHARED / "data" / "mp_structures.parquet"
KNOWN = ("zincblende", "rocksalt")


class Known:
    """Two entries of the target, the second stretched out of all measure, and many strained others."""

    name = "template"

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        crystals, provenance = [], []
        for i in range(start, start + n):
            own = i < len(KNOWN)
            crystal = bulk("NaCl", KNOWN[i] if own else "cesiumchloride", a=(5.6, 7.2)[i] if own else 3.1)
            if not own:
                strain = np.random.default_rng([seed, i]).uniform(0.97, 1.1, 3)
                crystal.set_cell(crystal.cell.array * strain, scale_atoms=True)
            crystals.append(crystal)
            name = f"mine-{i}"
            provenance.append(Provenance(self.name, i, seed, 221, name, score=-20.0 * own, own=own))
        return Proposals(Crystals.from_atoms(crystals), provenance, n, Counter())


class Blind(LennardJones):
    """A surrogate to which entries of the target are the worst of all: it knows no unlike pairs."""

    label = Label("LJ", "blind", "1")

    def evaluate(self, crystals: Crystals, *, forces: bool = False, **more: Any) -> Evaluation:
        found = super().evaluate(crystals, forces=forces, **more)
        worse = crystals.volumes / crystals.n_atoms > 20.0
        return Evaluation(found.label, found.energy + 50.0 * worse, found.forces, found.stress)


@pytest.mark.parametrize("surrogate", [True, False])
def test_they_reach_the_ranking_whatever_speaks_against_them(tmp_path: Path, surrogate: bool) -> None:
    """Worst scores, an implausible volume, a surrogate that is wrong, no room."""
    settings = SearchSettings.read(
        formula="NaCl",
        candidates=20,
        screened=20,
        relaxed=3,
        refined=2,
        rattled=0,
        max_steps=40,
        max_force=0.05,
    )
    store = Store.begin(tmp_path, {}, formula="NaCl", versions={})
    models = [*([Blind()] if surrogate else []), LennardJones()]
    search = Search(settings, settings.target(), [Known()], models, 16.0, store)
    prediction = search.run()
    assert {"mine-0", "mine-1"} <= {result.template_id for result in prediction.results}
    assert {216, 225} <= {result.spacegroup_number for result in prediction.results}
    if surrogate:
        starts = search.funnel.refine_starts()
        assert [one[0].template_id for one in starts.provenance[:2]] == ["mine-0", "mine-1"]
        assert len(starts.ids) == 3  # half of `refined` is for what is new
        assert prediction.funnel["refined"] == 3


def cubic(kind: str, a: float) -> Crystals:
    return Crystals.from_atoms([bulk("NaCl", kind, a=a)])


def test_what_the_first_model_makes_of_an_entry_is_not_taken_for_it(tmp_path: Path) -> None:
    """Zinc blende, an entry, and CsCl both become rock salt, which is refined beside the entry. Where CsCl
    becomes zinc blende as well, it only speaks for the entry."""
    starts = Crystals.cat([cubic("zincblende", 5.6), cubic("cesiumchloride", 3.1)])
    entry = Provenance("template", 0, 0, 216, "mine", own=True)
    other = Provenance("random", 0, 0, 221)
    for ends, refined, proposed in (
        (["rocksalt", "rocksalt"], 2, (entry,)),
        (["zincblende", "zincblende"], 1, (entry, other)),
    ):
        store = Store.begin(tmp_path / ends[0], {}, formula="NaCl", versions={})
        for k, one in enumerate((entry, other)):
            store.write_proposals(one.generator, 0, Proposals(starts[[k]], [one], 1, Counter()))
        relaxed = Crystals.cat([cubic(ends[0], 5.64), cubic(ends[1], 5.641)])
        energies, steps = torch.tensor([-6.0, -6.0]).double(), torch.tensor([3, 3])
        ids = starts.ids()
        store.write_relaxed(
            "relax",
            0,
            ids,
            RelaxationResult(relaxed, Blind.label, energies, energies * 0, steps, [Status.CONVERGED] * 2),
        )
        settings = SearchSettings.read(formula="NaCl", refined=5)
        funnel = Funnel(settings, [Blind(), LennardJones()], 16.0, store)
        found = funnel.refine_starts()
        assert len(found.ids) == refined
        assert (found.ids[0], found.provenance[0]) == (ids[0], proposed)
        assert (
            Matcher.DEFAULT.fits(cubic("rocksalt", 5.64), found.crystals).tolist() == [False, True][:refined]
        )


def test_equal_entries_are_refined_once(tmp_path: Path) -> None:
    twice = Crystals.cat([cubic("rocksalt", 5.64)] * 2)
    entries = [Provenance("template", k, 0, 225, f"mine-{k}", own=True) for k in range(2)]
    store = Store.begin(tmp_path, {}, formula="NaCl", versions={})
    store.write_proposals("template", 0, Proposals(twice, entries, 2, Counter()))
    funnel = Funnel(SearchSettings.read(formula="NaCl"), [Blind(), LennardJones()], 16.0, store)
    assert funnel.pool.provenance == [(entries[0],)]


@needs(STRUCTURES)
@pytest.mark.parametrize("formula", ["MoS2", "PbI2", "TaS2", "CrCl3", "Cs"])
def test_all_that_structure_matcher_tells_apart_are_proposed_first(formula: str) -> None:
    target, library = Target.parse(formula, max_atoms=120), Library.open(STRUCTURES)
    own = library.own_rows(target)
    few = library.hiding(
        np.setdiff1d(library.all_rows(), np.union1d(own, library.rows(target.anonymous)[::20]))
    )
    small = Library.open(STRUCTURES).hiding(few.hidden)
    crystals = library.crystals(own)
    groups = Matcher.DEFAULT.group(crystals).tolist()
    for make in (TemplateGenerator, MetricLearningGenerator):
        generator = make(small, VolumePrior.load())
        proposals = generator.propose(target, 100, seed=0)
        as_they_are = [one.own for one in proposals.provenance]
        n = sum(as_they_are)
        assert as_they_are[:n] == [True] * n
        assert n >= len(set(groups))
        for k in sorted(set(groups)):
            assert Matcher.DEFAULT.fits(crystals[k], proposals.crystals[:n]).any(), library.material_id[
                own[k]
            ]
    without = TemplateGenerator(small.excluding(target), VolumePrior.load())
    assert not any(one.own for one in without.propose(target, 100, seed=0).provenance)
