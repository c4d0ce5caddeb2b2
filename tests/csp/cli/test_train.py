"""Every `csp train` command does its work on a few dozen crystals of the Materials Project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from inspect import signature
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner, Result

from csp.cli import train
from csp.cli.train import app
from csp.errors import CspError, InputError, MissingError
from csp.training.cards import ModelCard, load_weights, read_card
from csp.training.checkpoints import checkpoints
from generators.space_group.dataset import read_table
from generators.space_group.training import SpaceGroupRecipe
from generators.templates.composition_encoder import load_encoder
from generators.templates.training import MetricRecipe
from surrogates.training.labelled import read_shard, read_teacher
from surrogates.training.train import SurrogateRecipe
from surrogates.zoo import load_model
from tests.places import SHARED, needs

DATA = SHARED / "data"
TINY = (
    '{"width": 16, "layers": 1, "heads": 2, "edge": 8, "hidden": 16, "radial": 6, "angular": 2, "cutoff": 4}'
)
MANY = {"train": 60, "val": 20, "test": 5}

pytestmark = needs(DATA / "mp_structures.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crystals AB of at most four atoms with their formation energies, in two Parquet files."""
    place = tmp_path_factory.mktemp("data")
    energies = pq.read_table(DATA / "mp_formation_energy.parquet")
    split = dict(zip(energies["material_id"].to_pylist(), energies["split"].to_pylist(), strict=True))
    structures = pq.read_table(DATA / "mp_structures.parquet")
    left, chosen = dict(MANY), []
    columns = (structures[name].to_pylist() for name in ("material_id", "numbers"))
    for row, (name, numbers) in enumerate(zip(*columns, strict=True)):
        amounts = {numbers.count(z) for z in set(numbers)}
        if len(numbers) <= 4 and len(set(numbers)) == 2 and len(amounts) == 1 and left.get(split.get(name)):
            left[split[name]] -= 1
            chosen.append(row)
    assert not any(left.values())
    few = structures.take(chosen)
    pq.write_table(few, place / "structures.parquet")
    ids = pa.array(few["material_id"].to_pylist())
    pq.write_table(energies.filter(pc.is_in(energies["material_id"], ids)), place / "energies.parquet")
    return place


@pytest.fixture(autouse=True)
def own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache and a data folder of its own; what the commands set for the whole process is put back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    threads = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def refusal(*arguments: object) -> CspError:
    """The error, one sentence, that a command ends with."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(done.exception, CspError), (done.output, done.exception)
    assert "\n" not in str(done.exception)
    return done.exception


def tables(folder: Path) -> tuple[object, ...]:
    return "--structures", folder / "structures.parquet", "--energies", folder / "energies.parquet"


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    """Of the surrogate after three steps."""
    out = folder / "surrogate"
    done = run("surrogate", *tables(folder), "--out", out, "--changes", TINY, "--steps", 3, "--batch", 8)
    assert "formation: 60 crystals" in done.output
    assert "val_formation=" in done.output
    assert (out / "log.png").stat().st_size > 1000
    (found,) = checkpoints(out)
    return found


def test_surrogate_and_export(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    """The device is "auto" where none is named."""
    assert checkpoint.name == "step-00000003"
    args = ("surrogate", *tables(folder), "--out", checkpoint.parent, "--changes", TINY, "--batch", 8)
    run(*args, "--steps", 4, "--device", "auto", "--threads", 1, "--minutes", 5)
    (again,) = checkpoints(checkpoint.parent)
    assert again.name == "step-00000004"
    done = run("export", again, "mine", *tables(folder), "--folder", tmp_path)
    assert "val_mae_mev.formation" in done.output
    model = load_model(tmp_path / "mine.safetensors", kind="formation")
    assert model.label.functional == "PBE+U"


def test_what_the_surrogate_is_not_trained_with(folder: Path, tmp_path: Path) -> None:
    common = ("surrogate", "--out", tmp_path / "out", "--steps", 1)
    absent = tmp_path / "absent.parquet"
    assert isinstance(refusal(*common, "--structures", absent, "--energies", absent), MissingError)
    for wrong in (
        ("--changes", "{"),
        ("--changes", "[]"),
        ("--changes", '{"depth": 3}'),
        ("--size", "xl"),
        ("--device", "tpu"),
        ("--virtual", tmp_path),
    ):
        assert isinstance(refusal(*common, *tables(folder), *wrong), InputError)
    assert isinstance(refusal(*common, *tables(folder), "--exclude", absent), MissingError)
    assert isinstance(refusal("export", absent, "x", *tables(folder), "--folder", tmp_path), MissingError)
    assert not (tmp_path / "out").exists()


def test_labels(folder: Path, tmp_path: Path) -> None:
    """By CHGNet, of the test split's few compositions."""
    few = ("labels", *tables(folder), "--out", tmp_path, "--shards", 1, "--split", "test", "--max-atoms", 4)
    run(*few, "--teacher", "chgnet")
    shard = read_shard(tmp_path / "test-00000.npz")
    ways = {name.split("(")[0].split(":")[-1] for name in shard.ids}
    assert {"substitute", "random"} <= ways
    assert shard.forces is not None
    assert int(shard.crystals.n_atoms.max()) <= 4
    assert read_teacher(tmp_path) == "chgnet"
    refused = refusal(*few, "--teacher", "xs")
    assert isinstance(refused, InputError)
    assert "labelled by chgnet" in str(refused)


@pytest.mark.parametrize("generator", ["metric_learning", "template"])
def test_metric(folder: Path, tmp_path: Path, generator: str) -> None:
    exclude = tmp_path / "exclude.txt"
    exclude.write_text("11:1 17:1\n")
    done = run(
        "metric",
        *tables(folder),
        "--generator",
        generator,
        "--out",
        tmp_path,
        "--steps",
        2,
        "--exclude",
        exclude,
    )
    assert "validation_log_loss" in done.output
    encoder, card = load_encoder(tmp_path / f"{generator}.safetensors")
    assert card.recipe["done"] == 2
    assert card.data[1] == "energies"
    assert all(bool(p.isfinite().all()) for p in encoder.parameters())


def test_space_group_data_and_model(folder: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "table", tmp_path / "out"
    done = run("space-group-data", "--structures", folder / "structures.parquet", "--out", table)
    assert "'described'" in done.output
    assert len(read_table(table)) > 80
    network = ("--width", 8, "--layers", 1, "--heads", 1, "--tokens", 256)
    done = run("space-group", "--data", table, "--out", out, *network, "--steps", 2)
    assert "letters=" in done.output
    card = read_card(out / "space_group.safetensors", ModelCard)
    assert card.recipe["done"] == 2
    begun = ("--start-from", out / "space_group.safetensors")
    run("space-group", "--data", table, "--out", tmp_path / "more", *network, "--steps", 1, *begun)
    assert "begun with the weights" in load_weights(tmp_path / "more" / "space_group.safetensors")[1].data[1]


def test_space_group_expert(folder: Path, tmp_path: Path) -> None:
    done = run(
        "space-group-expert",
        "--structures",
        folder / "structures.parquet",
        "--out",
        tmp_path,
        "--compositions",
        1,
        "--drawn",
        4,
    )
    assert "'compositions': 1" in done.output
    assert (tmp_path / "shard-0000.npz").is_file()
    assert json.loads((tmp_path / "origin.json").read_text())["drawn"] == 4


def test_transfer(tmp_path: Path) -> None:
    frames = []
    for k in range(4):
        frames.append(bulk("NaCl", "rocksalt", a=5.5 + 0.1 * k))
        frames[-1].calc = SinglePointCalculator(frames[-1], energy=-6.8 + 0.02 * k)
    write(tmp_path / "salt.extxyz", frames)
    arguments = ("transfer", "--from", "xs", "--data", tmp_path / "salt.extxyz", "--out", tmp_path)
    done = run(*arguments, "--functional", "PBE", "--strategy", "shift")
    assert "shift on 4 labels, as asked" in done.output
    model = load_model(tmp_path / "xs-salt.safetensors")
    assert model.label.functional == "PBE"
    assert isinstance(refusal(*arguments), InputError)  # nobody names the functional
    empty = ("--functional", "PBE", "--strategy", "full", "--replay", tmp_path)
    assert isinstance(refusal(*arguments, *empty), MissingError)


def test_options_say_what_recipes_do() -> None:
    """The commands repeat the recipes' defaults, as help must not import torch."""
    for command, recipe in (
        (train.surrogate, SurrogateRecipe),
        (train.metric, MetricRecipe),
        (train.space_group, SpaceGroupRecipe),
    ):
        options = signature(command).parameters
        defaults = {
            f.name: f.default for f in fields(recipe) if f.default is not MISSING and f.name in options
        }
        assert len(defaults) >= 2
        assert {name: options[name].default for name in defaults} == defaults
