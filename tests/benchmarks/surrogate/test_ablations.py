"""The ablations with a small library, Lennard-Jones labels and two steps of training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import benchmarks.surrogate.ablations
from benchmarks.surrogate import ablated_properties
from benchmarks.surrogate.ablations import VARIANTS, Ablations
from benchmarks.surrogate.benchmark import TEACHER
from csp.errors import InputError
from csp.protocols import EnergyModel
from surrogates.properties.fitting import PropertyRecipe
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


@pytest.fixture
def labelled(tables: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """Folder of a shard of virtual crystals with Lennard-Jones labels; the judge is Lennard-Jones too."""
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
    return tmp_path / "virtual"


def test_networks_are_trained_once_and_told_apart(
    tables: tuple[Path, Path],  # noqa: F811
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def begun(steps: int = 2) -> Ablations:
        return Ablations.begin(
            *tables,
            dict.fromkeys(("anchored", "teacher"), labelled),
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


def published(structures: Path, folder: Path) -> Path:
    """A table of two made-up properties of the salts: of the volume alone, and of the elements alone."""
    rows = pq.read_table(structures, columns=["material_id", "cell", "numbers"]).to_pylist()
    volumes = [abs(np.linalg.det(np.reshape(row["cell"], (3, 3)))) for row in rows]
    columns = {
        "material_id": [row["material_id"] for row in rows],
        "log10_k_vrh": pa.array(3.0 - np.log10(volumes), pa.float32()),
        "band_gap_pbe": pa.array([sum(row["numbers"]) / 20 for row in rows], pa.float32()),
    }
    pq.write_table(pa.table(columns), folder / "properties.parquet")
    return folder / "properties.parquet"


def test_properties_are_learned_from_the_features_of_each_network(
    tables: tuple[Path, Path],  # noqa: F811
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = PropertyRecipe(least=60, most=60)
    monkeypatch.setattr(ablated_properties, "PropertyRecipe", lambda seed: replace(recipe, seed=seed))
    table = published(tables[0], tmp_path)

    def begun(**more: Any) -> Ablations:
        asked: dict[str, Any] = {"pools": tmp_path / "pools", "steps": 2, "seeds": 1, "limit": 1}
        asked |= {"variants": ["full", "mean_over_neighbours"], "device": "cpu"} | more
        virtual = dict.fromkeys(("anchored", "teacher"), labelled)
        return Ablations.begin(*tables, virtual, tmp_path / "out", **asked)

    alone = begun().run()
    learned: dict[str, Any] = {"properties": ["bulk_modulus", "band_gap"], "tables": [table]}
    summary = begun(**learned).run()  # of the networks that are there
    assert {name: summary[name] for name in alone} == alone
    errors = [
        summary[f"mae_{p}.{v}"] for p in learned["properties"] for v in ("full", "mean_over_neighbours")
    ]
    assert all(0.0 < error < 1.0 for error in errors)
    assert errors[0] != errors[1]
    text = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| MAE of bulk modulus (VRH), log10 GPa | MAE of band gap (PBE), eV |" in text
    assert {line.count("|") for line in text.splitlines()} == {8}
    monkeypatch.setattr(ablated_properties, "train_one", None)
    assert begun(**learned).run() == summary  # what is learned is not learned again
    with pytest.raises(InputError, match="did you mean band_gap"):
        begun(properties=["band_gep"], tables=[table])
    with pytest.raises(InputError, match="name their `tables`"):
        begun(properties=["band_gap"])
