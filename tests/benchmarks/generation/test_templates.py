"""The generators' benchmark: its held-out rule, its answers, its counts."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.cif import CifWriter

from benchmarks.generation.templates import ARMS, Placed, place, summary
from benchmarks.ground_truth import read_truths
from benchmarks.targets import Known, _answer, held_out, write_alike, write_held_out
from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.matcher import Matcher
from csp.protocols import Proposals, Provenance
from csp.target import Target
from csp.training.splits import HELD_OUT, composition_name, fold
from surrogates.zoo import load_model


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.open()


def test_the_fold_is_hidden_whole_and_its_single_entries_are_targets(library: Library) -> None:
    view, found = held_out(library, None, seed=0)
    known = list(found)
    numbers, counts = view.compositions(view.all_rows())
    names = [composition_name(z, n) for z, n in zip(numbers.tolist(), counts.tolist(), strict=True)]
    assert not any(fold(name) == HELD_OUT for name in names)
    assert 0 < len(known) <= len(library) - len(view)
    for one in known:
        assert fold(composition_name(one.target.numbers, one.target.counts)) == HELD_OUT
        assert set(one.crystal.numbers.tolist()) == set(one.target.numbers)
    again = held_out(library, None, seed=0)[1]
    assert next(again).target == known[0].target


def test_answers_are_written_as_targets_that_can_be_read_again(library: Library, tmp_path: Path) -> None:
    known = [one for one in held_out(library, None, seed=0)[1] if int(one.crystal.n_atoms[0]) <= 20]
    assert write_held_out(None, None, tmp_path, 2, max_atoms=20, entries=1, seed=0) == 2
    truths = {truth.formula: truth.crystal for truth in read_truths(tmp_path).truths}
    assert set(truths) == {one.target.formula for one in known[:2]}
    for one in known[:2]:
        assert bool(Matcher.DEFAULT.fits(one.crystal, truths[one.target.formula])[0])


def test_alike_are_those_that_pymatgen_takes_for_one_structure(library: Library, tmp_path: Path) -> None:
    (row,) = np.flatnonzero(library.material_id == "aflow:AB3C_cP5_221_a_c_b-001")
    perovskite = primitive(library.crystals([int(row)])).structures()[0]
    rows = library.rows((1, 1, 3))
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10.0)
    alike = {
        str(library.material_id[row])
        for row in rows.tolist()
        if matcher.fit_anonymous(perovskite, library.crystals([row]).structures()[0])
    }
    new = perovskite.copy()  # of a composition that no entry has
    new.replace_species(dict(zip(new.composition.elements, ["Ra", "Po", "At"], strict=True)))
    (tmp_path / "targets").mkdir()
    CifWriter(new).write_file(tmp_path / "targets" / "new.cif")
    found = write_alike(None, tmp_path / "targets", tmp_path / "out", lambda text: None)
    assert set((tmp_path / "out" / "ids.txt").read_text().split()) == alike
    assert 0 < found["entries"] == len(alike) < len(rows)


def test_the_answer_has_the_lowest_energy(library: Library) -> None:
    names = [str(name) for name in library.material_id[:3]]
    assert _answer(library, [0, 1, 2], {names[0]: -1.0, names[2]: -2.0}) == 2
    assert _answer(library, [0, 1], {}) is None
    assert _answer(library, [1], {}) == 1


def test_every_arm_finds_rock_salt_and_what_is_nowhere_is_unreachable(library: Library) -> None:
    volume = VolumePrior.load()
    arms = {name: make(library, volume) for name, make in ARMS.items()}
    (row,) = np.flatnonzero(library.material_id == "aflow:AB_cF8_225_a_b-001")
    salt = primitive(library.crystals([int(row)]))
    bromide = replace(salt, numbers=salt.numbers.where(salt.numbers != 17, 35))
    found = place(Known(Target.parse("NaBr"), bromide), library, arms)
    assert found.reachable
    assert all(rank is not None for rank in found.rank.values())
    strange = Crystals.from_arrays([np.diag([2.5, 3.9, 9.7])], [[[0, 0, 0], [0.1, 0.2, 0.13]]], [[11, 35]])
    missed = place(Known(Target.parse("NaBr"), strange), library, arms)
    assert not missed.reachable
    assert set(missed.rank.values()) == {None}
    assert missed.templates == len(library.rows((1, 1)))


class Stretched:
    """Proposes one crystal, rock salt pulled along an axis."""

    name = "stretched"

    def __init__(self, salt: Crystals) -> None:
        cell = salt.cell.clone()
        cell[..., 2] *= 1.4
        self.crystals = replace(salt, cell=cell)

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        kept = self.crystals[range(int(start == 0))]
        return Proposals(kept, [Provenance(self.name, 0, seed, 139)][: len(kept)], n, Counter())


def test_a_proposal_that_relaxes_to_the_answer_counts_once_relaxed(library: Library) -> None:
    (row,) = np.flatnonzero(library.material_id == "aflow:AB_cF8_225_a_b-001")
    salt = primitive(library.crystals([int(row)]))
    model = load_model("xs", torch.device("cpu"))
    found = place(Known(Target.parse("NaCl"), salt), library, {"stretched": Stretched(salt)}, model)
    assert found.rank == {"stretched": None}
    assert found.relaxed == {"stretched": 1}


def test_summary_counts() -> None:
    placed = [
        Placed("A", {"template": 1, "metric_learning": 6, "plain": None}, {}, True, 5),
        Placed("B", {"template": None, "metric_learning": 100, "plain": None}, {}, True, 5),
        Placed("C", {"template": None, "metric_learning": None, "plain": None}, {}, False, 5),
    ]
    found = summary(placed, "mine")
    assert not any("relaxed" in key for key in found)
    assert (found["n.mine"], found["ceiling.mine"]) == (3, 2)
    assert [found[f"recall_at_{k}.metric_learning.mine"] for k in (1, 5, 10, 20, 100)] == [0, 0, 1, 1, 2]
    assert [found[f"recall_at_{k}.template.mine"] for k in (1, 100)] == [1, 1]
    assert found["recall_at_100.plain.mine"] == 0
    relaxed = [replace(p, relaxed=dict.fromkeys(p.rank, 10)) for p in placed]
    assert summary(relaxed, "mine")["recall_at_10_relaxed.plain.mine"] == 3
    assert summary(relaxed, "mine")["recall_at_5_relaxed.plain.mine"] == 0
