"""The whole search with a Lennard-Jones model: finds the minimum, survives every interruption."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk

from csp.contracts import check_generator
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import Evaluation, Label, Proposals, Provenance
from csp.ranking.differences import DifferenceErrors, disagreements
from csp.ranking.probability import AnswerProbability
from csp.relaxation.relax import Status
from csp.search.pool import round_robin
from csp.search.prediction import Prediction
from csp.search.results import lowest_comes_late
from csp.search.search import Search
from csp.settings import SearchSettings
from csp.store.store import Store
from csp.target import Target
from tests.lennard_jones import LennardJones

KINDS = ("rocksalt", "cesiumchloride", "zincblende")
SETTINGS = SearchSettings.read(
    formula="NaCl", candidates=12, screened=10, relaxed=9, rattled=1, max_steps=60, max_force=0.02
)


class Strained:
    """AB prototypes under a strain drawn from (seed, i); every seventh candidate cannot be built."""

    name = "template"

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        atoms, provenance = [], []
        failed: Counter[str] = Counter()
        for i in range(start, start + n):
            if i % 7 == 6:
                failed["unlucky"] += 1
                continue
            rng = np.random.default_rng([seed, i])
            crystal = bulk("NaCl", KINDS[i % 3], a=(5.0, 3.1, 5.6)[i % 3])
            crystal.set_cell(crystal.cell.array * rng.uniform(0.95, 1.1), scale_atoms=True)
            atoms.append(crystal)
            provenance.append(Provenance(self.name, i, seed, (225, 221, 216)[i % 3], score=-float(i)))
        return Proposals(Crystals.from_atoms(atoms), provenance, n, failed)


class Interrupting(LennardJones):
    """Stops the process, as Ctrl-C would, at the n-th evaluation."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().evaluate(crystals, forces=forces)


class Softer(LennardJones):
    """Another pair potential of the same kind: a stand-in for a surrogate, with a label of its own."""

    label = Label("LJ", "softer", "1")

    def __init__(self) -> None:
        super().__init__(unlike=0.3, like=0.12)


def search(
    folder: Path,
    model: LennardJones | None = None,
    *,
    resume: bool = False,
    settings: SearchSettings = SETTINGS,
    surrogate: LennardJones | None = None,
) -> Search:
    store = Store.begin(folder, settings.model_dump(mode="json"), formula="NaCl", versions={}, resume=resume)
    models = [surrogate] if surrogate else []
    models.append(model or LennardJones())
    return Search(settings, settings.target(), [Strained()], models, 16.0, store)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    return search(tmp_path_factory.mktemp("run")).run()


def test_the_test_generator_keeps_the_contract() -> None:
    check_generator(Strained(), Target.parse("NaCl"))


def test_finds_the_densest_packing_first(undisturbed: Prediction) -> None:
    """Unlike pairs bind most, so eight of them (CsCl) beat six (NaCl) and four (ZnS)."""
    best = undisturbed.results[0]
    assert best.spacegroup_number == 221
    assert best.status == Status.CONVERGED
    energies = [r.energy_ev_per_atom for r in undisturbed.results]
    assert energies == sorted(energies)
    assert [r.rank for r in undisturbed.results] == list(range(1, len(energies) + 1))


def test_the_funnel_counts_everything(undisturbed: Prediction) -> None:
    funnel = undisturbed.funnel
    stages = ["proposed", "built", "plausible", "unique", "pre_relaxed", "relaxed", "converged", "ranked"]
    assert list(funnel) == stages
    assert funnel["proposed"] == 12
    assert funnel["built"] == 11
    assert "unlucky" in undisturbed.warnings[0]
    assert funnel["pre_relaxed"] == 9
    assert funnel["relaxed"] == 3  # the ends that did not meet
    assert sum(r.n_duplicates + 1 for r in undisturbed.results) >= funnel["converged"]


def test_results_are_those_of_the_model(undisturbed: Prediction) -> None:
    energy = LennardJones().evaluate(undisturbed.crystals).energy / undisturbed.crystals.n_atoms
    np.testing.assert_allclose([r.energy_ev_per_atom for r in undisturbed.results], energy, atol=1e-9)
    assert undisturbed.results[0].lowered_ev_per_atom is not None
    assert undisturbed.results[0].density == pytest.approx(
        58.44 / 2 / undisturbed.results[0].volume_per_atom / 0.602214, rel=1e-3
    )


@pytest.mark.parametrize("evaluations", [0, 1, 2, 5, 10])
def test_interrupted_and_resumed(tmp_path: Path, undisturbed: Prediction, evaluations: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Interrupting(evaluations)).run()
    partial = search(tmp_path, resume=True).conclude()
    assert partial.funnel["proposed"] == 12
    assert search(tmp_path, resume=True).run() == undisturbed_like(undisturbed)
    assert search(tmp_path, Interrupting(0), resume=True).run().results == undisturbed.results


class undisturbed_like:  # noqa: N801
    """Equal to a prediction with the same results (tensors have no plain equality)."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Prediction)
        return (
            other.results == self.prediction.results
            and other.funnel == self.prediction.funnel
            and other.crystals.ids() == self.prediction.crystals.ids()
        )


def test_killed_and_resumed(tmp_path: Path, undisturbed: Prediction) -> None:
    """SIGKILL, at whatever point the process is after its first shard of energies."""
    code = (
        "from pathlib import Path; import sys; from tests.csp.search.test_search import search;"
        "search(Path(sys.argv[1])).run()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": "."}
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / "run.sqlite").exists() and search(tmp_path, resume=True).store.done("screen"):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert search(tmp_path, resume=True).run() == undisturbed_like(undisturbed)


def test_same_seed_same_answer_other_seed_other(tmp_path: Path, undisturbed: Prediction) -> None:
    assert search(tmp_path / "a").run() == undisturbed_like(undisturbed)
    other = SETTINGS.model_copy(update={"seed": 1})
    assert search(tmp_path / "b", settings=other).run().crystals.ids() != undisturbed.crystals.ids()


class HalfKnown(Strained):
    """Every second candidate comes from a template."""

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        proposals = super().propose(target, n, seed=seed, start=start)
        named = [replace(p, template_id=f"mp-{p.index}" * (p.index % 2)) for p in proposals.provenance]
        return replace(proposals, provenance=named)


def test_what_no_template_vouches_for_is_relaxed_from_where_it_was_pre_relaxed_to(tmp_path: Path) -> None:
    run = search(tmp_path)
    run = replace(run, generators=[HalfKnown()])
    run.run()
    ids, ends = run.store.relaxed("pre_relax", LennardJones.label)
    pool, starts = run.funnel.pool, run.funnel.starts
    drawn = [i for i, one in zip(pool.ids, pool.provenance, strict=True) if not one[0].template_id]
    assert sorted(ids) == sorted(drawn)
    assert 0 < len(drawn) < len(pool.ids)
    by_id = dict(zip(pool.ids, pool.crystals.ids(), strict=True))
    pre_relaxed = dict(zip(ids, ends.crystals.ids(), strict=True))
    for i, start in zip(starts.ids, starts.crystals.ids(), strict=True):
        assert start == pre_relaxed.get(i, by_id[i])
    screened, evaluation = run.store.energies("screen", LennardJones.label)
    before = dict(zip(screened, evaluation.energy.tolist(), strict=True))
    assert all(float(e) <= before[i] for i, e in zip(ids, ends.energy, strict=True))


def test_the_surrogate_goes_before_and_the_last_model_ranks(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"refined": 2})
    run = search(tmp_path, settings=settings, surrogate=Softer())
    prediction = run.run()
    assert prediction.label == LennardJones.label
    funnel = prediction.funnel
    assert (funnel["relaxed"], funnel["refined"]) == (3, 2)
    energy = LennardJones().evaluate(prediction.crystals).energy / prediction.crystals.n_atoms
    np.testing.assert_allclose([r.energy_ev_per_atom for r in prediction.results], energy, atol=1e-9)
    assert prediction.results[0].spacegroup_number == 221
    # the refined ones begin where the surrogate ended, and are still known as the candidates they were
    candidates, ends = run.funnel.relaxed()
    starts = run.store.relaxed("relax", Softer.label)[0]
    assert set(candidates) <= set(starts)
    assert len(ends.crystals) == len(set(candidates)) == 2
    # the three that are left when doubles are gone are rescored by the last model, and the lowest goes on
    ids, rescored = run.store.energies("rescore", LennardJones.label)
    assert len(ids) == 3
    assert ids[int(rescored.energy.argmin())] in run.funnel.starts.crystals.ids()  # all have two atoms


def test_what_several_generators_proposed_is_told(tmp_path: Path) -> None:
    """The other proposes rock salt alone, under other strains."""

    class RockSalt(Strained):
        name = "metric_learning"

        def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
            made = super().propose(target, 3 * n, seed=seed + 7, start=3 * start)
            of_rock_salt = [k for k, p in enumerate(made.provenance) if p.space_group == 225]
            provenance = [replace(made.provenance[k], index=k) for k in of_rock_salt]
            return Proposals(made.crystals[of_rock_salt], provenance, n, Counter())

    run = replace(search(tmp_path), generators=[Strained(), RockSalt()])
    proposed_by = {r.spacegroup_number: r.proposed_by for r in run.run().results}
    assert proposed_by == {225: "metric_learning template", 221: "template", 216: "template"}


def test_the_answer_probability_is_by_probability_or_by_energy_as_asked(tmp_path: Path) -> None:
    """Weights that believe in what was proposed first, whatever its energy."""
    run = replace(search(tmp_path), answer_probability=AnswerProbability((0.0, 0.0, 1.0, 0.0), none=-2.0))
    prediction = run.run()
    results = prediction.results
    assert prediction.order == "probability"
    assert [r.rank for r in results] == [r.rank_probability for r in results]
    probabilities = [r.probability for r in results]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) + prediction.probability_of_none == pytest.approx(1)
    assert prediction.probability_of_none > 0
    by_energy = sorted(results, key=lambda r: r.rank_energy)
    assert by_energy != results
    energies = [r.energy_ev_per_atom for r in by_energy]
    assert energies == sorted(energies)
    np.testing.assert_allclose(
        [r.energy_ev_per_atom for r in results],
        LennardJones().evaluate(prediction.crystals).energy / prediction.crystals.n_atoms,
        atol=1e-9,
    )
    asked = run.settings.model_copy(update={"order": "energy"})
    again = replace(run, settings=asked).conclude()
    assert again.order == "energy"
    assert [(r.rank, r.id, r.probability) for r in again.results] == [
        (r.rank_energy, r.id, r.probability) for r in by_energy
    ]
    above = [r.above_lowest_ev_per_atom for r in results]
    np.testing.assert_allclose(above, [r.energy_ev_per_atom - energies[0] for r in results], atol=1e-9)
    one = replace(run, settings=run.settings.model_copy(update={"top": 1})).conclude()
    assert one.results[0].id == results[0].id != by_energy[0].id
    assert one.results[0].above_lowest_ev_per_atom == above[0] > 0
    assert [r.id for r in one.results[1:]] == [by_energy[0].id]  # the lowest is shown, however improbable
    assert (one.results[1].rank, one.results[1].rank_energy) == (2, 1)


def test_a_lowest_crystal_that_comes_late_is_told() -> None:
    probability = torch.tensor([0.021, 0.5, 0.2, 0.1], dtype=torch.float64)
    (told,) = lowest_comes_late(torch.tensor([1, 2, 3, 0]), probability)
    assert told.startswith("The lowest crystal by energy has rank 4, with a probability of 2.1%")
    assert lowest_comes_late(torch.tensor([1, 2, 0, 3]), probability) == []
    assert lowest_comes_late(torch.tensor([], dtype=torch.int64), probability) == []


def test_other_models_tell_how_sure_the_differences_are(tmp_path: Path) -> None:
    """The surrogate and one more, asked at the relaxed crystals."""

    class Contrary(LennardJones):
        name, label = "contrary", Label("LJ", "contrary", "1")

        def evaluate(self, crystals: Crystals, **_: Any) -> Evaluation:
            return Evaluation(self.label, -super().evaluate(crystals).energy)

    errors = DifferenceErrors(floor=0.01, difference=0.1, others=(0.5, 0.2), freedom=3.0)
    run = replace(search(tmp_path, surrogate=Softer()), second=Contrary(), difference_errors=errors)
    prediction = run.run()
    crystals = prediction.crystals
    by = [m.evaluate(crystals).energy / crystals.n_atoms for m in (LennardJones(), Softer(), Contrary())]
    ours, *others = [energies - energies[0] for energies in by]
    expected = errors.intervals(ours, torch.stack(others, 1))
    told = [r.above_lowest_sigma_ev_per_atom for r in prediction.results]
    np.testing.assert_allclose(told, expected, atol=1e-9)
    assert told[0] == 0.0 < min(told[1:])
    warnings = [w for w in prediction.warnings if "is higher" in w]
    assert len(warnings) == len(disagreements(by[0], by[2])) > 0
    assert all("contrary" in w for w in warnings)
    unasked = replace(run, difference_errors=None).conclude()
    assert all(r.above_lowest_sigma_ev_per_atom is None for r in unasked.results)


@pytest.mark.parametrize("evaluations", [1, 5, 10])
def test_interrupted_between_two_models(tmp_path: Path, evaluations: int) -> None:
    def run(folder: Path, model: LennardJones, *, resume: bool = False) -> Prediction:
        return search(folder, model, resume=resume, surrogate=Softer()).run()

    whole = run(tmp_path / "whole", LennardJones())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Interrupting(evaluations))
    search(tmp_path / "cut", resume=True, surrogate=Softer()).conclude()
    assert run(tmp_path / "cut", LennardJones(), resume=True) == undisturbed_like(whole)


def test_a_run_of_an_engine_that_chose_otherwise_is_refused(tmp_path: Path) -> None:
    search(tmp_path, surrogate=Softer()).run()
    with sqlite3.connect(tmp_path / "run.sqlite") as connection:
        changed = connection.execute("update outcomes set id = 'another' || id where stage = 'refine'")
        assert changed.rowcount > 0
    with pytest.raises(InputError, match="another version began; begin it anew"):
        search(tmp_path, resume=True, surrogate=Softer()).run()


class Imploding(LennardJones):
    """Attracts without end: every crystal falls into itself."""

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        stress = torch.eye(3, dtype=torch.float64).repeat(len(crystals), 1, 1)
        return Evaluation(
            self.label,
            crystals.volumes,
            torch.zeros_like(crystals.frac) if forces else None,
            stress if forces else None,
        )


def test_what_collapsed_is_not_ranked_and_the_reason_is_said(tmp_path: Path) -> None:
    prediction = search(tmp_path, Imploding()).run()
    assert prediction.results == []
    assert prediction.mostly_failed
    (why, *_) = prediction.warnings
    assert "Of 9 crystals" in why or "no candidate was left" in why
    lost = prediction.failed["pre_relax"]
    assert set(lost) <= {"collapsed", "exploded"}
    assert sum(lost.values()) == prediction.funnel["pre_relaxed"] == 9


class Holed(LennardJones):
    """Takes what is packed as caesium chloride is for 2 eV/atom lower than it is."""

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        found = super().evaluate(crystals, forces=forces)
        dense = crystals.volumes / crystals.n_atoms < 16.0
        return replace(found, energy=found.energy - 2.0 * dense * crystals.n_atoms)


def test_what_fell_into_a_hole_of_the_last_model_is_not_ranked(tmp_path: Path) -> None:
    sound = search(tmp_path / "sound", surrogate=Softer()).run()
    assert [r.spacegroup_number for r in sound.results][:2] == [221, 225]
    volumes = [r.volume_per_atom for r in sound.results]
    assert volumes[0] < 16.0 < volumes[1], volumes
    holed = search(tmp_path / "holed", Holed(), surrogate=Softer()).run()
    assert holed.results[0].spacegroup_number == 225
    assert holed.failed["refine"] == {"hole": 1}
    assert all(set(counts) == {"hole"} for counts in holed.failed.values())  # rattled rock salt falls in, too
    assert not holed.mostly_failed
    n = sum(counts["hole"] for counts in holed.failed.values())
    assert any(w.startswith(f"{n} crystals are not ranked: {Holed.name} has a hole") for w in holed.warnings)


def test_a_search_that_went_well_says_so(undisturbed: Prediction) -> None:
    assert not undisturbed.mostly_failed
    assert undisturbed.failed == {}


def test_elements_that_the_model_lacks_are_refused(tmp_path: Path) -> None:
    class NoSodium(LennardJones):
        elements = LennardJones.elements - {11}

    with pytest.raises(InputError, match="does not know Na"):
        search(tmp_path, NoSodium()).run()


def test_pressure_ranks_by_enthalpy(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"pressure": 10.0})
    for result in search(tmp_path, settings=settings).run().results:
        work = 10.0 / 160.2176634 * result.volume_per_atom
        assert result.enthalpy_ev_per_atom == pytest.approx(result.energy_ev_per_atom + work, abs=1e-9)


def test_interleave_takes_turns_without_repeating() -> None:
    assert round_robin([[1, 2, 3], [2, 4], []], 10) == [1, 2, 4, 3]
    assert round_robin([[1, 2, 3], [9, 8]], 3) == [1, 9, 2]


def test_a_formula_that_was_changed_is_said_in_the_record(tmp_path: Path) -> None:
    target = Target.parse("Na2Cl2")
    assert target.formula_note in replace(search(tmp_path), target=target).run().warnings
