"""Rounds of a deep search with a Lennard-Jones model: what they find, repeat, count and end with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

from csp.crystals import Crystals
from csp.protocols import Low, Proposals, Provenance, Skeleton
from csp.search import knowledge, proposing
from csp.search.basins import Basins
from csp.search.pool import Pool
from csp.search.prediction import Prediction
from csp.search.search import Search
from csp.search.stages import STEPS
from csp.settings import SearchSettings
from csp.store.store import Store
from csp.target import Target
from tests.lennard_jones import LennardJones

SETTINGS = SearchSettings.read(
    formula="NaCl",
    candidates=8,
    screened=8,
    relaxed=6,
    refined=2,
    rattled=0,
    max_atoms=8,
    max_force=0.02,
    effort="deep",
    until=1.0,
    max_rounds=2,
)
KINDS = {
    225: ("rocksalt", 5.0, "Cl:b Na:a"),
    221: ("cesiumchloride", 3.1, "Cl:b Na:a"),
    216: ("zincblende", 5.6, ""),
}


class Drawing:
    """AB prototypes under a strain drawn from (seed, i); CsCl, the lowest, only where it is steered to."""

    name = "drawing"

    def __init__(self, groups: Sequence[int] = (225, 216)) -> None:
        self.groups = groups
        self.told: list[tuple[int, Low]] = []

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        return self._made([(i, self.groups[i % len(self.groups)]) for i in range(start, start + n)], seed)

    def redraw(
        self, target: Target, skeletons: Sequence[Skeleton], *, seed: int, start: int = 0
    ) -> Proposals:
        return self._made([(start + k, one.space_group) for k, one in enumerate(skeletons)], seed + 1)

    def steered(
        self, target: Target, n: int, groups: Mapping[int, float], low: Low, *, seed: int, start: int = 0
    ) -> Proposals:
        assert set(groups) <= set(KINDS)
        self.told.append((start, low))
        return self._made([(i, 221) for i in range(start, start + n)], seed + 2)

    def _made(self, wanted: Sequence[tuple[int, int]], seed: int) -> Proposals:
        atoms, provenance = [], []
        for i, group in wanted:
            kind, a, wyckoff = KINDS[group]
            crystal = bulk("NaCl", kind, a=a)
            factor = np.random.default_rng([seed, i]).uniform(0.95, 1.1)
            crystal.set_cell(crystal.cell.array * factor, scale_atoms=True)
            atoms.append(crystal)
            provenance.append(Provenance(self.name, i, seed, group, wyckoff=wyckoff))
        return Proposals(Crystals.from_atoms(atoms), provenance, len(wanted), Counter())


class Softer(LennardJones):
    """A stand-in for a surrogate, with a label of its own."""

    label = replace(LennardJones.label, correction="softer")

    def __init__(self) -> None:
        super().__init__(unlike=0.3, like=0.12)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposing, "PER_ROUND", 16)


def search(
    folder: Path, *, resume: bool = False, settings: SearchSettings = SETTINGS, two: bool = True
) -> Search:
    stored = settings.model_dump(mode="json", exclude={"max_rounds", "until", "effort", "minutes"})
    store = Store.begin(folder, stored, formula="NaCl", versions={}, resume=resume)
    models = [Softer(), LennardJones()] if two else [LennardJones()]
    return Search(settings, settings.target(), [Drawing()], models, 16.0, store)


def same(one: Prediction, other: Prediction) -> bool:
    return (
        one.results == other.results
        and one.funnel == other.funnel
        and one.history == other.history
        and one.crystals.ids() == other.crystals.ids()
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposing, "PER_ROUND", 16)
        return search(tmp_path_factory.mktemp("run")).run()


def test_rounds_find_what_was_never_drawn(tmp_path: Path, whole: Prediction) -> None:
    """The lowest is CsCl, which the generator draws only where it is told to look."""
    standard = search(tmp_path, settings=SETTINGS.model_copy(update={"effort": "standard"})).run()
    assert 221 not in [r.spacegroup_number for r in standard.results]
    assert standard.history is None
    assert whole.results[0].spacegroup_number == 221
    assert whole.results[0].generator in ("skeletons", "moves")
    assert whole.history is not None
    lowest = [one.lowest_ev_per_atom for one in whole.history.rounds]
    assert lowest == sorted(lowest, reverse=True)
    assert lowest[-1] < lowest[0] - 0.01
    assert whole.funnel["proposed"] == 8 + 2 * 16 == whole.history.rounds[-1].proposed


def test_a_standard_search_goes_on_to_a_deep_one(tmp_path: Path, whole: Prediction) -> None:
    """What it has done is taken over, and the result is that of a deep search from the beginning."""
    search(tmp_path, settings=SETTINGS.model_copy(update={"effort": "standard"})).run()
    assert same(search(tmp_path, resume=True).run(), whole)


def test_round_after_round_is_as_all_at_once(tmp_path: Path, whole: Prediction) -> None:
    """One round, then, by another process, as many as are asked for then."""
    one = search(tmp_path, settings=SETTINGS.model_copy(update={"max_rounds": 1})).run()
    assert one.history is not None
    assert (len(one.history.rounds), one.history.ended) == (2, "rounds")
    assert same(search(tmp_path, resume=True).run(), whole)


def test_the_best_of_now_is_rattled(tmp_path: Path) -> None:
    """What was rattled after one round is not mistaken for what is rattled after two."""
    rattled = SETTINGS.model_copy(update={"rattled": 1})
    at_once = search(tmp_path / "at once", settings=rattled).run()
    search(tmp_path / "later", settings=rattled.model_copy(update={"max_rounds": 1})).run()
    further = search(tmp_path / "later", settings=rattled, resume=True)
    further.do(2, "propose")
    assert further.conclude().results  # in the middle of a round, of a search that was finished before
    assert same(search(tmp_path / "later", settings=rattled, resume=True).run(), at_once)
    assert at_once.results[0].lowered_ev_per_atom is not None


@pytest.mark.parametrize("step", STEPS)
def test_interrupted_within_a_round_and_resumed(tmp_path: Path, whole: Prediction, step: str) -> None:
    first = search(tmp_path, settings=SETTINGS.model_copy(update={"max_rounds": 0}))
    first.run()
    begun = search(tmp_path, resume=True)
    for name in STEPS[: STEPS.index(step)]:
        begun.do(1, name)
    partial = search(tmp_path, resume=True).conclude()
    assert partial.history is not None
    assert len(partial.history.rounds) == 1
    assert same(search(tmp_path, resume=True).run(), whole)


def test_shared_out_among_workers(tmp_path: Path, whole: Prediction, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers with shards of their own, the last first, each knowing the store alone."""
    search(tmp_path, settings=SETTINGS.model_copy(update={"max_rounds": 0})).run()
    workers = [search(tmp_path, resume=True) for _ in range(3)]
    for number in (1, 2):
        for step in STEPS:
            for k in (2, 1, 0):
                workers[k].do(number, step, (k, 3))
    assert same(search(tmp_path, resume=True).run(), whole)


def test_one_model_does_it_all(tmp_path: Path) -> None:
    prediction = search(tmp_path, two=False).run()
    assert prediction.results[0].spacegroup_number == 221
    assert "refined" not in prediction.funnel
    energy = LennardJones().evaluate(prediction.crystals).energy / prediction.crystals.n_atoms
    np.testing.assert_allclose([r.energy_ev_per_atom for r in prediction.results], energy, atol=1e-9)


def test_draws_alone_are_counted(tmp_path: Path) -> None:
    """Six of sixteen candidates of a round are draws, three of rock salt and three of zinc blende; each draw
    counts, though all of a kind are one crystal after a few steps."""
    run = search(tmp_path, settings=SETTINGS.model_copy(update={"max_rounds": 2}))
    run.run()
    assert run.deep is not None
    known = run.deep.knowledge.after(2)
    by_group = Counter[int]()
    for proposed, draws in zip(known.basins.provenance, known.basins.draws.tolist(), strict=True):
        by_group[proposed[0].space_group] += draws
    assert by_group[225] == by_group[216] == 6
    assert by_group[221] == 0
    last = known.history[-1].completeness
    low = known.basins.low()
    assert known.basins.provenance[low[0]][0].space_group == 221
    assert last.unseen >= 1  # the lowest was found by no draw
    assert last.finds == sum(int(known.basins.draws[k]) for k in low)


@pytest.mark.parametrize("compression", [1.0, 0.8])
def test_who_is_steered_hears_what_is_low(
    tmp_path: Path, compression: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lowest by the model that ranks, and at the volume that generators know."""
    monkeypatch.setattr(proposing, "WORTH_A_LOOK", 1.0)  # so that it is several
    drawing = Drawing()
    run = replace(search(tmp_path), generators=[drawing], compression=compression)
    run.run()
    assert run.deep is not None
    basins = run.deep.knowledge.after(SETTINGS.max_rounds - 1).basins
    low = drawing.told[-1][1]
    last = np.sort(basins.last[basins.last.isfinite()].numpy())
    last = last[last <= last[0] + 1.0]
    assert len(last) > 1
    np.testing.assert_allclose(low.weight, np.exp((last[0] - last) / 0.05))
    lowest = basins.crystals[basins.lowest_first(basins.last, 0.0, 1)]
    np.testing.assert_allclose(low.crystals[:1].volumes * compression, lowest.volumes)


def test_endings(tmp_path: Path) -> None:
    def ended(name: str, **changed: object) -> str:
        settings = SETTINGS.model_copy(update=changed)
        history = search(tmp_path / name, settings=settings).run().history
        assert history is not None
        assert history.sentence()
        return history.ended

    assert ended("rounds") == "rounds"
    assert ended("time", minutes=1e-6) == "time"
    everything = Drawing((225, 221, 216))
    settings = SETTINGS.model_copy(update={"until": 0.6, "max_rounds": 20})
    run = replace(search(tmp_path / "complete", settings=settings), generators=[everything])
    history = run.run().history
    assert history is not None
    assert history.ended == "complete"
    assert 0.6 <= history.probability < 1
    assert history.rounds[-2].completeness.share < 0.6


def test_nothing_left_to_try_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator with an end, and no moves."""

    class Finite(Drawing):
        redraw = steered = None  # not to be told where to look

        def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
            made = super().propose(target, max(0, min(n, 20 - start)), seed=seed, start=start)
            lost = n - made.requested
            return replace(made, requested=n, failed=Counter(exhausted=lost) if lost else Counter())

    monkeypatch.setattr(
        proposing.Proposing, "_moves", lambda *_: lambda part: Proposals(Crystals.empty(), [], 0)
    )
    settings = SETTINGS.model_copy(update={"max_rounds": 20})
    history = replace(search(tmp_path, settings=settings), generators=[Finite()]).run().history
    assert history is not None
    assert history.ended == "exhausted"


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the lowest crystals and the last two rounds are remembered."""
    from csp.search import basins

    monkeypatch.setattr(basins, "MOST", 3)
    run = search(tmp_path, settings=SETTINGS.model_copy(update={"max_rounds": 4}))
    prediction = run.run()
    assert run.deep is not None
    known = run.deep.knowledge
    assert len(known.after(4).basins) == 3
    assert len(known._known) <= 2
    assert len(known._starts) <= 1
    assert len(known._merged) <= 1
    assert prediction.results[0].spacegroup_number == 221


def test_basins_know_a_crystal_again() -> None:
    """Whatever its cell, its origin and a shake of less than a relaxation leaves."""
    salt = Crystals.from_atoms([bulk("NaCl", "rocksalt", a=5.6), bulk("NaCl", "cesiumchloride", a=3.3)])
    basins, provenance = Basins(), (Provenance("drawing", 0, 0, 225),)
    energies = torch.tensor([-3.0, -3.2], dtype=torch.float64)
    assert basins.add(Pool(["a", "b"], salt, [provenance] * 2), energies, 0) == [1, 0]  # lowest first
    again = Crystals.from_atoms([bulk("NaCl", "rocksalt", a=5.6, cubic=True)])
    shaken = again.with_geometry(again.cell, again.frac + 0.13 + 0.001 * torch.randn(again.frac.shape))
    assert basins.known(shaken, torch.tensor([-3.0002])) == [1]
    assert basins.known(shaken, torch.tensor([-2.9])) == [-1]
    assert basins.add(Pool(["c"], shaken, [provenance]), torch.tensor([-3.0002]), 1) == [1]
    assert len(basins) == 2
    assert basins.low() == []  # the model that ranks has not seen them
    basins.learn("single", basins.ids, torch.tensor([-1.0, -0.96]))
    assert basins.low() == [0, 1]
    basins.learn("single", basins.ids[:1], torch.tensor([-1.02]))
    assert basins.low() == [0]


def test_what_a_round_takes_is_bounded() -> None:
    assert knowledge.RESCORED >= knowledge.REFINED
    assert sum(proposing.SHARES.values()) == 8
