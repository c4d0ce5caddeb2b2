"""The ablations with a small library, Lennard-Jones labels and two steps of training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import benchmarks.surrogate.ablations
from benchmarks.surrogate.ablations import VARIANTS, Ablations
from benchmarks.surrogate.benchmark import TEACHER
from csp.errors import InputError
from csp.protocols import EnergyModel
from surrogates.training.labelled import Labelled, read_formation_energies, write_shard, write_teacher
from surrogates.training.train import SurrogateRecipe
from surrogates.transformer.network import CrystalTransformer
from surrogates.zoo import load_model
from tests.benchmarks.surrogate.test_benchmark import HELD_OUT, tables  # noqa: F401
from tests.lennard_jones import LennardJones


def test_the_variants_are_equally_large() -> None:
    sizes = [
        sum(
            p.numel()
            for p in CrystalTransformer(SurrogateRecipe(changes=one.changes).architecture()).parameters()
        )
        for one in VARIANTS.values()
    ]
    assert max(sizes) < 1.01 * min(sizes)


def model_or_judge(name: str, device: torch.device, **kind: str) -> EnergyModel:
    return LennardJones() if name == TEACHER else load_model(name, device, **kind)


def test_networks_are_trained_once_and_told_apart(
    tables: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmarks.surrogate.ablations, "unseen", lambda: HELD_OUT)
    monkeypatch.setattr(benchmarks.surrogate.ablations, "load_model", model_or_judge)
    known = read_formation_energies(*tables, "train").crystals
    found = LennardJones().evaluate(known, forces=True)
    assert found.forces is not None
    assert found.stress is not None
    shard = Labelled(
        known, [""] * len(known), found.energy, found.forces.to(torch.float32), found.stress.to(torch.float32)
    )
    write_shard(tmp_path / "virtual" / "train-00000.npz", shard)
    write_teacher(tmp_path / "virtual", "chgnet")

    def begun(steps: int = 2) -> Ablations:
        return Ablations.begin(
            *tables,
            dict.fromkeys(("anchored", "teacher"), tmp_path / "virtual"),
            tmp_path / "out",
            pools=tmp_path / "pools",
            steps=steps,
            seeds=2,
            limit=1,
            variants=["full", "relaxed_only"],
            device="cpu",
        )

    summary = begun().run()
    assert summary["mae_test_mev.full"] > 0.0
    assert summary["mae_test_mev.full"] != summary["mae_test_mev.relaxed_only"]
    assert summary["tau_virtual.full.sd"] > 0.0
    assert -1.0 <= summary["tau_virtual.relaxed_only"] <= 1.0
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert "| relaxed_only |" in (tmp_path / "out" / "table.md").read_text()

    def train_network(*_: object, **__: object) -> None:
        raise AssertionError("what is measured is not trained again")

    monkeypatch.setattr(benchmarks.surrogate.ablations, "train_network", train_network)
    assert begun().run() == summary
    with pytest.raises(InputError, match="another steps"):
        begun(steps=3)
    with pytest.raises(InputError, match="No variant is called heads_5"):
        Ablations.begin(*tables, {}, tmp_path / "new", pools=tmp_path, variants=["heads_5"])
