"""The surrogate benchmark with a small library, a Lennard-Jones teacher and untrained networks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import benchmarks.surrogate.benchmark
from benchmarks.rank_metrics import Ordered
from benchmarks.surrogate import compositions as unseen
from benchmarks.surrogate import pool as surrogate_pool
from benchmarks.surrogate import relaxations as surrogate_relaxing
from benchmarks.surrogate import speed as surrogate_speed
from benchmarks.surrogate.benchmark import SurrogateBenchmark
from benchmarks.surrogate.contestants import Contestant, contestants
from benchmarks.surrogate.pool import Pools, make_pool
from benchmarks.surrogate.relaxations import TeachersEnds, gaps
from benchmarks.surrogate.speed import Rate
from benchmarks.surrogate.summary import Errors, Measured, summarise
from csp.crystallography.neighbours import plausible
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.library.library import Library
from csp.library.schema import library_schema
from csp.library.volume import VolumePrior
from csp.matching.fingerprints import unique
from csp.protocols import Evaluation
from csp.target import Target
from surrogates.potentials.catalogue import ELEMENTS
from surrogates.training.labelled import Labelled, compositions, hashed
from tests.lennard_jones import LennardJones
from tests.places import SHARED, needs
from tests.untrained import checkpoint

DATA = SHARED / "data"
SALTS = [(z, x) for z in (3, 11, 19, 37) for x in (9, 17, 35, 53)]
PROTOTYPES = {  # space group, cell in units of the edge of four formula units' cube, anion
    225: ([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], [0.5, 0.5, 0.5]),
    216: ([[0, 0.55, 0.55], [0.55, 0, 0.55], [0.55, 0.55, 0]], [0.25, 0.25, 0.25]),
    221: ([[0.6, 0, 0], [0, 0.6, 0], [0, 0, 0.6]], [0.5, 0.5, 0.5]),
}
HELD_OUT = ["11:1 17:1", "3:1 35:1"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A library of alkali halides in three structures, and formation energies of all of them."""
    folder = tmp_path_factory.mktemp("tables")
    rows = []
    for z, x in SALTS:
        edge = (8 * VolumePrior.load().predict((z, x), (1, 1)) / 2) ** (1 / 3)
        for group, (cell, anion) in PROTOTYPES.items():
            flat = (edge * np.array(cell)).ravel().tolist()
            rows.append((f"{z}-{x}-{group}", f"{z}:1 {x}:1", group, flat, [z, x], [0.0, 0.0, 0.0, *anion]))
    names = ["material_id", "formula", "spacegroup", "cell", "numbers", "frac_coords"]
    schema = library_schema()
    columns = {
        name: pa.array(c, schema.field(name).type)
        for name, c in zip(names, zip(*rows, strict=True), strict=True)
    }
    pq.write_table(pa.table(columns), folder / "structures.parquet")
    split = ["test" if row[1] in HELD_OUT else "train" for row in rows]
    energies = {
        "material_id": [row[0] for row in rows],
        "formation_energy": [-1.0] * len(rows),
        "split": split,
    }
    pq.write_table(pa.table(energies), folder / "energies.parquet")
    return folder / "structures.parquet", folder / "energies.parquet"


# -- compositions and pools -------------------------------------------------------------------------


def test_the_committed_compositions() -> None:
    names = unseen.unseen()
    assert len(set(names)) == len(names) == 200
    assert not set(names) & set(unseen.benchmark_compositions())
    assert all(sum(unseen.amounts(name).values()) <= 12 for name in names)
    crystal = Crystals.from_arrays([torch.eye(3)], [np.zeros((5, 3))], [[38, 22, 8, 8, 8]])
    target = unseen.target_of(compositions(crystal)[0])
    assert (target.formula, target.max_atoms) == ("SrTiO3", 20)


@needs(DATA / "mp_structures.parquet")
def test_the_committed_compositions_are_in_the_test_split_alone() -> None:
    structures, energies = DATA / "mp_structures.parquet", DATA / "mp_formation_energy.parquet"
    assert unseen.choose(structures, energies, ELEMENTS) == (unseen.unseen(), 0)


def test_compositions_are_drawn_from_what_the_teacher_knows(tables: tuple[Path, Path]) -> None:
    chosen, passed_over = unseen.choose(*tables, ELEMENTS)
    assert (set(chosen), passed_over) == (set(HELD_OUT), 0)
    assert unseen.choose(*tables, ELEMENTS - {17}) == (["3:1 35:1"], 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools of 12, two of them substituted."""
    for name, value in {"SIZE": 12, "SUBSTITUTED": 2 / 12, "AT_ONCE": 64}.items():
        monkeypatch.setattr(surrogate_pool, name, value)
    monkeypatch.setattr(surrogate_relaxing, "MAX_STEPS", 5)
    monkeypatch.setattr(surrogate_speed, "N_ATOMS", 2)
    monkeypatch.setattr(surrogate_speed, "CRYSTALS", {"cpu": 32, "cuda": 32})
    for module in (benchmarks.surrogate.benchmark, unseen):
        monkeypatch.setattr(module, "unseen", lambda: HELD_OUT)
    monkeypatch.setattr(benchmarks.surrogate.benchmark, "load_model", lambda name, device: LennardJones())


def test_a_pool_is_plausible_distinct_and_of_the_composition(tables: tuple[Path, Path], small: None) -> None:
    library, volume = Library.open(tables[0]), VolumePrior.load()
    target = Target.parse("NaCl", max_atoms=8)
    crystals, ids = make_pool(target, library, volume, seed=0)
    assert [how.split("(")[0] for how in ids] == ["substituted"] * 2 + ["random"] * 10
    assert not any("11-17" in how for how in ids)  # its own entries are left out
    assert set(compositions(crystals)) == {"11:1 17:1"}
    assert int(crystals.n_atoms.max()) <= 8
    per_atom = volume.predict((11, 17), (1, 1)) / 2
    assert bool(plausible(crystals, per_atom).all())
    assert torch.equal(unique(crystals, scale=True), torch.arange(12))
    assert torch.allclose(
        crystals.volumes[:2] / crystals.n_atoms[:2], torch.tensor(per_atom).double(), rtol=0.35
    )
    again, _ = make_pool(target, library, volume, seed=0)
    other, _ = make_pool(target, library, volume, seed=1)
    assert again.ids() == crystals.ids()
    assert other.ids()[:2] == crystals.ids()[:2]
    assert not set(other.ids()[2:]) & set(crystals.ids())


def test_substituted_crystals_are_from_all_over_the_ranking(
    tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for two of three, the first and the last."""
    library, target = Library.open(tables[0]), Target.parse("NaCl", max_atoms=8)
    monkeypatch.setattr(surrogate_pool, "SIZE", 3)
    monkeypatch.setattr(surrogate_pool, "SUBSTITUTED", 1.0)
    _, whole = make_pool(target, library, VolumePrior.load(), seed=0)
    assert all(how.startswith("substituted") for how in whole)
    monkeypatch.setattr(surrogate_pool, "SUBSTITUTED", 2 / 3)
    _, spread = make_pool(target, library, VolumePrior.load(), seed=0)
    assert spread[:2] == [whole[0], whole[2]]


def test_a_pool_is_labelled_once(tables: tuple[Path, Path], small: None, tmp_path: Path) -> None:
    teacher = LennardJones()
    pools = Pools(tmp_path, HELD_OUT, Library.open(tables[0]), teacher, 0)
    first = pools[1]
    assert torch.allclose(teacher.evaluate(first.crystals).energy, first.energy, rtol=1e-5)
    teacher.elements = frozenset()  # would refuse
    assert torch.equal(pools[1].energy, first.energy)
    assert [path.name for path in tmp_path.iterdir()] == ["001.npz"]


# -- relaxing ---------------------------------------------------------------------------------------


class Broken(LennardJones):
    """Gives NaN for every crystal whose first atom is lithium."""

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        found = super().evaluate(crystals, forces=forces)
        return replace(
            found, energy=found.energy.masked_fill(crystals.numbers[crystals.offsets[:-1]] == 3, torch.nan)
        )


EDGES = (3.9, 2.7, 3.1)  # Å; at rest NaCl has 3.073 and LiF 2.222, from a scan of the energy


def caesium_chloride(*edges: float) -> Crystals:
    """NaCl, LiF, NaCl in the structure of caesium chloride."""
    numbers = [[11, 17], [3, 9], [11, 17]]
    return Crystals.from_arrays([e * np.eye(3) for e in edges], [[[0, 0, 0], [0.5] * 3]] * 3, numbers)


def starts() -> Labelled:
    """Two stretched crystals and one almost at rest."""
    crystals = caesium_chloride(*EDGES)
    return Labelled(crystals, ["a", "b", "c"], LennardJones().evaluate(crystals).energy)


def test_gaps_are_the_teachers_energies_of_both_ends(tmp_path: Path) -> None:
    teacher = LennardJones()
    ends = TeachersEnds(tmp_path, teacher).of(starts())
    assert set(ends.ids) == {"converged"}
    own = gaps(teacher, teacher, starts(), ends)
    assert own.gap.tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-4)
    assert own.matches.all()
    assert own.already.tolist() == [False, False, True]  # not scaled: a stretched crystal is another
    # cut at 3 Å, the first crystal feels nothing and stays; the second has its minimum at 2.262 Å
    short = gaps(LennardJones(cutoff=3.0), teacher, starts(), ends)
    there = teacher.evaluate(caesium_chloride(3.9, 2.262, 3.1)).energy / 2
    rest = teacher.evaluate(caesium_chloride(3.073, 2.222, 3.073)).energy / 2
    assert short.gap[:2].tolist() == pytest.approx((there - rest)[:2].tolist(), abs=3e-3)
    assert short.matches[:2].tolist() == [False, True]


def test_failed_relaxations_are_infinite_and_counted(tmp_path: Path) -> None:
    teacher = LennardJones()
    ends = TeachersEnds(tmp_path, teacher).of(starts())
    found = gaps(Broken(), teacher, starts(), ends)
    assert found.gap.isinf().tolist() == [False, True, False]
    assert not found.matches[1]
    assert found.judged.tolist() == [True, True, False]
    assert found.rows()[1]["gap_mev"] is None
    without = gaps(teacher, teacher, starts(), TeachersEnds(tmp_path / "broken", Broken()).of(starts()))
    assert without.gap.isnan().tolist() == [False, True, False]
    assert without.judged.tolist() == [True, False, False]
    summary = summarise(Measured("x", [], gaps=found, started=(0, 1, 2)))
    assert summary["relax_failed.x"] == 1
    assert summary["relax_gap_mev.x"] is None  # the median of a number and infinity
    assert summary["relax_gap_mev.x.n"] == 2
    assert summary["relax_match_nothing.x"] == pytest.approx(1 / 3, abs=1e-4)


def test_the_teacher_relaxes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = TeachersEnds(tmp_path, LennardJones()).of(starts())
    monkeypatch.delattr(surrogate_relaxing, "relax")
    assert torch.equal(TeachersEnds(tmp_path, LennardJones()).of(starts()).energy, ends.energy)


# -- numbers ----------------------------------------------------------------------------------------


def test_summary_is_flat_and_counts() -> None:
    orders = [Ordered(0.5, None, 2, 1), None, Ordered(0.7, 0.2, 9, 21)]
    errors = Errors(
        np.array([0.01, 0.03, 0.08]), np.array(["a", "a", "b"]), np.array([False, False, True]), 4
    )
    summary = summarise(Measured("xs", orders, errors, speed=Rate(1234.56, None)))
    assert summary["tau_virtual.xs"] == pytest.approx(0.6)
    assert summary["tau_virtual.xs.n"] == 2
    assert (summary["tau_virtual_low.xs"], summary["tau_virtual_low.xs.n"]) == (0.2, 1)
    assert summary["best20_virtual.xs"] == 0.5
    assert summary["mae_test_mev.xs"] == pytest.approx(40.0)
    assert (summary["mae_test_newcomp_mev.xs"], summary["mae_test_newcomp_mev.xs.n"]) == (80.0, 1)
    assert summary["mae_test_mev.xs.low"] <= 40.0 <= summary["mae_test_mev.xs.high"]
    assert (summary["unsupported_compositions.xs"], summary["unsupported_test.xs"]) == (1, 4)
    assert summary["crystals_per_s.xs"] == 1235
    assert "crystals_per_cpu_s.xs" not in summary
    assert not any(isinstance(value, (dict, list)) for value in summary.values())


# -- models -----------------------------------------------------------------------------------------


def test_the_right_head_of_the_right_training(tmp_path: Path) -> None:
    joint = checkpoint(tmp_path / "joint", virtual=True, seen=("11:1 17:1",))
    relaxed = checkpoint(tmp_path / "relaxed", virtual=False)
    cpu = torch.device("cpu")
    ours, baseline, volume = contestants([str(joint)], relaxed, cpu, tmp_path / "models")
    assert (ours.name, baseline.name, volume.name) == ("joint", "relaxed_only", "volume_only")
    assert ours.model is not None
    assert ours.formation is not None
    assert "Δ" in ours.model.label.correction
    assert baseline.model is baseline.formation
    assert ours.seen == {hashed("11:1 17:1")}
    salt = starts().crystals
    assert torch.equal(volume.scores(salt), salt.volumes / 2)
    assert torch.equal(ours.scores(salt), ours.model.evaluate(salt).energy / 2)
    again = contestants([str(tmp_path / "models" / "joint.safetensors")], None, cpu, tmp_path / "models")[0]
    assert torch.equal(again.scores(salt), ours.scores(salt))

    for names, path, sentence in (
        ([str(relaxed)], None, "without virtual crystals; name it as `baseline_relaxed`"),
        ([], joint, "with virtual crystals; name it among `models`"),
        ([], Path("chgnet"), "neither a weights file nor a checkpoint"),
        ([str(joint)] * 2, None, "Two models are called joint"),
    ):
        with pytest.raises(InputError, match=sentence):
            contestants(names, path, cpu, tmp_path / "models")


def test_there_must_be_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.surrogate.contestants.list_models", list)
    with pytest.raises(MissingError, match="`models`"):
        contestants(None, None, torch.device("cpu"), tmp_path)


def test_unknown_elements() -> None:
    model = LennardJones()
    model.elements = frozenset({11, 17})
    assert Contestant("x", model).supports(starts().crystals).tolist() == [True, False, True]
    assert Contestant("volume_only").supports(starts().crystals).all()


# -- all of it --------------------------------------------------------------------------------------


def test_a_whole_benchmark(tables: tuple[Path, Path], small: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    joint = checkpoint(tmp_path / "joint", virtual=True)
    relaxed = checkpoint(tmp_path / "relaxed", virtual=False)
    begin = {"names": [str(joint)], "baseline": relaxed}
    lines: list[str] = []
    summary = SurrogateBenchmark.begin(*tables, out, **begin).run(lines.append)  # type: ignore[arg-type]
    assert {"table.md", "surrogate.png", "surrogate.json", "summary.json"} <= {p.name for p in out.iterdir()}
    assert summary == json.loads((out / "summary.json").read_text())
    for model in ("joint", "relaxed_only", "volume_only"):
        for key in ("tau_virtual", "tau_virtual_low", "best20_virtual"):
            assert {f"{key}.{model}{end}" for end in ("", ".n", ".low", ".high")} <= summary.keys()
    for model in ("joint", "relaxed_only"):
        assert summary[f"mae_test_mev.{model}.n"] == 6
        assert summary[f"mae_test_newcomp_mev.{model}.n"] == 6  # neither is in the training split
        assert {f"relax_gap_mev.{model}", f"crystals_per_s.{model}"} <= summary.keys()
        assert {f"relax_50gpa_gap_mev.{model}", f"relax_50gpa_match.{model}"} <= summary.keys()
    assert summary["pool.substituted"] == 4
    assert summary["pool.random"] == 20
    details = json.loads((out / "surrogate.json").read_text())
    assert [row["formula"] for row in details["orders"]] == ["NaCl", "LiBr"]
    assert math.isfinite(details["orders"][0]["models"]["volume_only"]["tau"])

    seen = checkpoint(tmp_path / "seen", virtual=True, seen=("11:1 17:1",))
    without = SurrogateBenchmark.begin(*tables, out, names=[str(joint), str(seen)]).run()
    assert (without["pool.compositions"], without["pool.left_out_as_seen"]) == (1, 1)
    assert "1 left out, since a model was trained on them" in (out / "table.md").read_text()
    details = json.loads((out / "surrogate.json").read_text())
    assert [row["formula"] for row in details["orders"]] == ["LiBr"]

    timed = {key for key in summary if key.startswith("crystals_per")}
    limited = SurrogateBenchmark.begin(*tables, out, limit=1, **begin).run()  # type: ignore[arg-type]
    assert limited["pool.compositions"] == 1
    again = SurrogateBenchmark.begin(*tables, out, **begin).run()  # type: ignore[arg-type]
    assert {k: v for k, v in again.items() if k not in timed} == {
        k: v for k, v in summary.items() if k not in timed
    }
    with pytest.raises(InputError, match="made with another seed"):
        SurrogateBenchmark.begin(*tables, out, seed=1, **begin)  # type: ignore[arg-type]
