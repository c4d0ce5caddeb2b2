"""Ablations train, resume and load from the command line, as its documentation writes them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from csp.cli.train import app
from csp.crystals import Crystals
from csp.training.checkpoints import checkpoints
from surrogates import zoo
from surrogates.training import train
from surrogates.transformer.environments import environments
from surrogates.transformer.network import CrystalTransformer

DOCUMENTED = [json.loads(text) for text in re.findall(r"--changes '(\{.*?\})'", train.__doc__)]
TINY = {"width": 16, "layers": 1, "edge": 8, "hidden": 16, "radial": 6, "cutoff": 4.0}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Twelve caesium chloride structures with energies, as options of the command line."""
    folder = tmp_path_factory.mktemp("tables")
    rows = [(z, x) for z in (3, 11, 19, 37) for x in (9, 17, 35)]
    names = [f"{z}-{x}" for z, x in rows]
    structures = {
        "material_id": names,
        "cell": pa.array([[4.0, 0, 0, 0, 4.0, 0, 0, 0, 4.0]] * 12, pa.list_(pa.float32(), 9)),
        "numbers": pa.array([[z, x] for z, x in rows], pa.list_(pa.uint8())),
        "frac_coords": pa.array([[0.0, 0, 0, 0.5, 0.5, 0.5]] * 12, pa.list_(pa.float32())),
    }
    split = ["val" if k % 4 == 3 else "train" for k in range(12)]
    energies = {"material_id": names, "formation_energy": [-0.1 * k for k in range(12)], "split": split}
    for name, table in (("structures", structures), ("energies", energies)):
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return ["--structures", f"{folder}/structures.parquet", "--energies", f"{folder}/energies.parquet"]


def n_parameters(changes: dict[str, int | bool]) -> int:
    network = CrystalTransformer(train.SurrogateRecipe(changes=changes).architecture())
    return sum(parameter.numel() for parameter in network.parameters())


def test_documented_ablations_are_of_equal_size() -> None:
    assert [{"attention", "angular", "heads"} & changes.keys() for changes in DOCUMENTED] == [
        {"attention"},
        {"angular"},
        {"heads"},
        {"heads"},
    ]
    for changes in DOCUMENTED:
        assert n_parameters(changes) == pytest.approx(n_parameters({}), rel=0.01)


@pytest.mark.parametrize("changes", DOCUMENTED, ids=json.dumps)
def test_ablation(changes: dict[str, int | bool], tables: list[str], tmp_path: Path) -> None:
    wanted = TINY | {key: value for key, value in changes.items() if key != "hidden"}
    options = [
        *tables,
        "--out",
        str(tmp_path),
        "--changes",
        json.dumps(wanted),
        "--batch",
        "4",
        "--seed",
        "1",
    ]
    for steps in ("2", "4"):
        done = CliRunner().invoke(app, ["surrogate", *options, "--steps", steps, "--device", "cpu"])
        assert done.exit_code == 0, done.output
    (checkpoint,) = checkpoints(tmp_path)
    about = json.loads((checkpoint / "about.json").read_text())
    assert about["step"] == 4
    assert wanted.items() <= about["architecture"].items()
    assert about["recipe"]["seed"] == 1
    zoo.model_from_checkpoint(checkpoint, "a", tmp_path, {}, data=[], split="", licence="", code_version="")
    model = zoo.load_model(tmp_path / "a.safetensors", kind="formation")
    assert model.evaluate(
        Crystals.from_arrays([4 * torch.eye(3)], [[[0, 0, 0], [0.5] * 3]], [[3, 9]])
    ).energy.isfinite()


def energy(angle: float, network: CrystalTransformer) -> float:
    """Three atoms at equal bond lengths, the ends out of each other's sight."""
    ends = np.array([[0.0, 0.0, 0.0], [2.6, 0.0, 0.0], [2.6 * math.cos(angle), 2.6 * math.sin(angle), 0.0]])
    crystal = Crystals.from_arrays([30.0 * torch.eye(3)], [(ends + 15) / 30], [[8, 14, 14]])
    with torch.no_grad():
        return float(network(environments(crystal, 3.0, torch.float64))[0, 0])


def test_what_each_ablation_takes_away() -> None:
    """Without three-body terms angles are not seen; without attention elements do not weigh neighbours."""
    torch.manual_seed(0)
    recipes = {
        name: train.SurrogateRecipe(changes={"cutoff": 3.0, **changes})
        for name, changes in (("whole", {}), ("pairs", {"angular": 0}))
    }
    networks = {}
    for name, recipe in recipes.items():
        networks[name] = CrystalTransformer(recipe.architecture()).double()
        torch.nn.init.normal_(networks[name].energy.weight, std=0.1)
    assert abs(energy(1.9, networks["whole"]) - energy(3.1, networks["whole"])) > 1e-7
    assert energy(1.9, networks["pairs"]) == pytest.approx(energy(3.1, networks["pairs"]), abs=1e-9)
    blind = CrystalTransformer(train.SurrogateRecipe(changes={"attention": False}).architecture())
    attention = blind.blocks[0].attention
    x, key, bias = torch.randn(2, 96), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    alpha = attention.weights(x, key, bias, torch.ones(2, 5, 1))
    assert torch.allclose(alpha, alpha[:1, :1].expand_as(alpha))  # all neighbours alike
