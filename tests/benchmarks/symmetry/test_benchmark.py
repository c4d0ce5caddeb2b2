"""Two arms on the same crystals: what each took is told, and that they found the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from benchmarks.symmetry.benchmark import STAGES, SymmetryBenchmark, held_out, large_cells, spent, table
from benchmarks.symmetry.turns import Turns
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import Evaluation, Label

FEW = {"candidates": 6, "screened": 12, "relaxed": 3, "refined": 1}


class Busy:
    """Works so many milliseconds when told, another number when not; is wrong by 1 meV when told."""

    name, label, elements = "busy", Label("none", "none", "busy"), frozenset({14})
    device = torch.device("cpu")

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        end = time.process_time() + (0.02 if surroundings else 0.06)
        while time.process_time() < end:
            pass
        energy = crystals.n_atoms.double() * (1e-3 if surroundings else 0.0)
        force = torch.full_like(crystals.frac, 0.5 if surroundings else 0.0)
        return Evaluation(self.label, energy, force if forces else None, crystals.cell if forces else None)


def test_both_arms_are_timed_and_compared() -> None:
    crystals = Crystals.from_atoms([bulk("Si"), bulk("Si", cubic=True)])
    model = Turns(Busy())
    known = Surroundings.of(crystals)

    def work() -> None:
        for _ in range(2):
            model.evaluate(crystals, forces=True, surroundings=known)
        model.evaluate(crystals)
        time.sleep(0.05)  # no core works

    found = spent(work, [model])
    assert 0.1 <= found["told"] < 0.13
    assert 0.18 <= found["untold"] < 0.21
    assert 0 <= found["other"] < 0.03
    assert model.energy_difference == pytest.approx(1e-3)
    assert model.force_difference == pytest.approx(0.5)


def test_large_cells_by_their_orbits() -> None:
    """Rock salt has two orbits whatever the cell; when shaken, as many as atoms."""
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    large, shaken = salt.repeat((2, 2, 2)), salt.repeat((2, 2, 2))
    shaken.rattle(0.1, seed=0)
    (found,) = large_cells(Crystals.from_atoms([salt, shaken, large]))
    assert (len(found["numbers"]), found["sites"]) == (64, 2)


def test_twenty_compositions() -> None:
    assert held_out(20)[::10] == ["Ti3Sn5S12", "Na2MgPb"]
    assert len(set(held_out(20))) == 20


def test_a_small_search(tmp_path: Path) -> None:
    benchmark = SymmetryBenchmark.begin(tmp_path, relaxer="none", numbers=FEW)
    summary = benchmark.run(["NdZn"], print)
    assert summary["n"] == 1
    assert summary["difference.energy.xs"] < 1e-5
    assert summary["difference.force.xs"] < 1e-3
    seconds = [summary[f"{stage}.s"] for stage in STAGES]
    assert summary["all.s"] == pytest.approx(sum(seconds), abs=0.01)
    assert summary["relax.evaluations_ratio"] > 0.5
    assert f"| {summary['all.ratio']:.2f} |" in table(summary)
    began = time.monotonic()
    assert benchmark.run(["NdZn"], print) == summary  # nothing is measured again
    assert time.monotonic() - began < 1
    with pytest.raises(InputError, match="another seed"):
        SymmetryBenchmark.begin(tmp_path, relaxer="none", numbers=FEW, seed=1)
