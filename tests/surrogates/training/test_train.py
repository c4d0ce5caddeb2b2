"""Training: exact resume, streams, references, finite differences, the model library."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from csp.crystallography.neighbours import distance_ratio
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.training.checkpoints import checkpoints
from surrogates import zoo
from surrogates.training.batches import NeighbourCache, Source, Stream
from surrogates.training.labelled import Labelled, compositions, hashed, read_shard, write_shard
from surrogates.training.losses import element_references, mean_error, random_directions, slope_loss
from surrogates.training.train import SurrogateRecipe, train_network
from surrogates.transformer.environments import environments
from surrogates.transformer.network import CrystalTransformer, SurrogateArchitecture
from surrogates.transformer.surrogate import Surrogate
from surrogates.transformer.uncertainty import Rigidity
from tests.lennard_jones import LennardJones

TINY = {
    "width": 16,
    "layers": 1,
    "heads": 2,
    "edge": 8,
    "hidden": 16,
    "radial": 6,
    "angular": 2,
    "cutoff": 4.0,
}
CPU = torch.device("cpu")


def crystals(n: int, seed: int = 0, numbers: tuple[int, ...] = (3, 9, 12, 17)) -> Crystals:
    """Random crystals of two to five atoms that do not collide."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, 4 * n)
    cells = [(3.6 * k ** (1 / 3)) * (np.eye(3) + 0.1 * rng.normal(size=(3, 3))) for k in sizes]
    fracs = [np.linspace(0, 1, k, endpoint=False)[:, None] + 0.05 * rng.normal(size=(k, 3)) for k in sizes]
    made = Crystals.from_arrays(cells, fracs, [rng.choice(numbers, k) for k in sizes])
    return made[(distance_ratio(made) > 0.9).nonzero().flatten()[:n]]


def labelled(n: int, seed: int = 0, forces: bool = False) -> Labelled:
    made = crystals(n, seed)
    found = LennardJones(cutoff=4.0).evaluate(made, forces=True)
    assert found.forces is not None
    assert found.stress is not None
    ids = [str(k) for k in range(n)]
    if not forces:
        return Labelled(made, ids, found.energy)
    return Labelled(made, ids, found.energy, found.forces.float(), found.stress.float())


def source(kind: str, n: int, seed: int = 0, forces: bool = False) -> Source:
    return Source(kind, labelled(n, seed, forces), 0.5, 4.0)


def recipe(**changes: object) -> SurrogateRecipe:
    return replace(SurrogateRecipe(steps=12, batch=8, warmup=2, changes=TINY), **changes)  # type: ignore[arg-type]


def state(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_resume_is_exact(tmp_path: Path) -> None:
    sources = [source("formation", 40), source("anchored", 30, 1, forces=True)]
    whole = train_network(recipe(), sources, [], tmp_path / "whole", device=CPU)
    train_network(recipe(), sources, [], tmp_path / "parts", device=CPU, stop_after_minutes=0.0)
    steps = int(checkpoints(tmp_path / "parts")[-1].name.removeprefix("step-"))
    assert 0 < steps < 12
    resumed = train_network(recipe(), sources, [], tmp_path / "parts", device=CPU)
    assert torch.equal(state(whole), state(resumed))
    assert len(checkpoints(tmp_path / "parts")) == 1


def test_training_learns(tmp_path: Path) -> None:
    train_on, val = source("formation", 256), source("formation", 64, 1)
    untrained = CrystalTransformer(recipe().architecture())
    untrained.reference[0] = element_references(train_on.labelled)
    before = mean_error(untrained, val)
    model = train_network(
        recipe(steps=150, lr=5e-3, ema=0.9, batch=32, decay=0.5), [train_on], [val], tmp_path, device=CPU
    )
    assert mean_error(model, val) < 0.4 * before
    assert "val_formation" in json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])


def test_a_grown_source_begins_a_new_epoch_and_another_training_is_refused(tmp_path: Path) -> None:
    train_network(recipe(steps=4), [source("formation", 40)], [], tmp_path, device=CPU)
    train_network(recipe(steps=6), [source("formation", 60)], [], tmp_path, device=CPU)
    about = json.loads((checkpoints(tmp_path)[-1] / "about.json").read_text())
    assert about["crystals"] == {"formation": 60}
    assert about["streams"] == [[1, 0, 60], [1, 2, 60]]  # two steps of the new epoch, all cells
    with pytest.raises(InputError, match="other kinds of data"):
        train_network(
            recipe(), [source("formation", 40), source("anchored", 9, forces=True)], [], tmp_path, device=CPU
        )
    with pytest.raises(InputError, match="another architecture"):
        train_network(
            recipe(changes=TINY | {"width": 8}), [source("formation", 60)], [], tmp_path, device=CPU
        )


def test_another_training_starts_from_the_averaged_weights(tmp_path: Path) -> None:
    first = train_network(recipe(), [source("formation", 40)], [], tmp_path / "first", device=CPU)
    begun = train_network(
        recipe(lr=0.0, steps=1),
        [source("formation", 40), source("anchored", 30, forces=True)],
        [],
        tmp_path / "second",
        device=CPU,
        start_from=checkpoints(tmp_path / "first")[-1],
    )
    assert torch.equal(begun.reference[0], first.reference[0])
    assert torch.equal(begun.energy.weight[1], first.energy.weight[0])  # a new head begins as the first
    assert bool(begun.reference[1].any())


def test_another_training_starts_from_a_model(tmp_path: Path) -> None:
    """As from the checkpoint that it was made of; what that had seen counts as seen."""
    train_network(recipe(), [source("formation", 40)], [], tmp_path / "first", device=CPU)
    checkpoint = checkpoints(tmp_path / "first")[-1]
    zoo.model_from_checkpoint(
        checkpoint, "first", tmp_path, {}, data=[], split="", licence="", code_version=""
    )
    other = source("formation", 20, seed=1)
    for name, start in (("checkpoint", checkpoint), ("model", tmp_path / "first.safetensors")):
        train_network(recipe(steps=2), [other], [], tmp_path / name, device=CPU, start_from=start)
    begun, again = (
        torch.load(checkpoints(tmp_path / name)[-1] / "average.pt", weights_only=True)
        for name in ("checkpoint", "model")
    )
    assert all(torch.equal(begun[name], again[name]) for name in begun)
    zoo.model_from_checkpoint(
        checkpoints(tmp_path / "model")[-1], "m", tmp_path, {}, data=[], split="", licence="", code_version=""
    )
    assert zoo.seen_compositions(tmp_path / "m.safetensors") > zoo.seen_compositions(
        tmp_path / "first.safetensors"
    )
    assert zoo.read_card(tmp_path / "m.safetensors").parents == ["first"]


@pytest.mark.parametrize("module", ["surrogates.training.train", "generators.space_group.training"])
def test_training_needs_torch_numpy_and_pyarrow_only(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print(sorted({'ase', 'chgnet', 'matgl', 'matplotlib', 'moyopy', 'prefect', 'pydantic', 'pymatgen',"
        " 'safetensors', 'scipy', 'spglib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_learning_rate() -> None:
    plan = SurrogateRecipe(steps=1000, lr=1.0, warmup=10, decay=0.4)
    assert [plan.learning_rate(s) for s in (0, 9, 599)] == pytest.approx([0.1, 1.0, 1.0])
    assert plan.learning_rate(800) == pytest.approx(0.5)
    assert plan.learning_rate(1000) == pytest.approx(0.0)


def test_stream_draws_every_crystal_once_an_epoch() -> None:
    stream = Stream(source("formation", 50), 8, seed=3, max_atoms=10)
    first = torch.cat([next(stream) for _ in range(7)])
    assert sorted(first.tolist()) == list(range(50))
    second = torch.cat([next(stream) for _ in range(7)])
    assert sorted(second.tolist()) == list(range(50))
    assert first.tolist() != second.tolist()
    stream.seek(0, 0)
    assert torch.equal(torch.cat([next(stream) for _ in range(7)]), first)


def test_cached_neighbours_are_the_neighbours() -> None:
    made = crystals(700)  # more than are looked for at once
    rows = torch.tensor([650, 3, 511, 512])
    cached = NeighbourCache(made, 4.0).environments(rows)
    direct = environments(made[rows], 4.0)
    network = CrystalTransformer(SurrogateArchitecture(kinds=("formation",), **TINY))  # type: ignore[arg-type]
    torch.nn.init.normal_(network.energy.weight)
    with torch.no_grad():
        assert torch.allclose(network(cached), network(direct), atol=1e-5)


def test_references_recover_additive_energies() -> None:
    made = crystals(200)
    per_element = torch.zeros(119, dtype=torch.float64)
    per_element[[3, 9, 12, 17]] = torch.tensor([-1.0, 2.0, 0.5, -3.0], dtype=torch.float64)
    energy = torch.zeros(200, dtype=torch.float64).index_add(0, made.batch, per_element[made.numbers])
    found = element_references(Labelled(made, [""] * 200, energy), ridge=1e-9)
    assert torch.allclose(found, per_element, atol=1e-6)


def test_directional_slopes_are_derivatives() -> None:
    """With the labelling potential itself in place of the network, the slope loss vanishes."""
    potential = LennardJones(cutoff=4.0)
    data = labelled(6, forces=True)
    chosen = torch.tensor([4, 0, 2])
    moves, strain, slope = random_directions(data, chosen, np.random.default_rng(0))
    part = data.crystals[chosen]
    step, energies = 1e-4, []
    for sign in (1, -1):
        stretch = torch.eye(3, dtype=torch.float64) + sign * step * strain.double()
        displaced = part.positions + sign * step * moves.double()
        frac = torch.einsum("ai,aij->aj", displaced, torch.linalg.inv(part.cell)[part.batch])
        energies.append(potential.evaluate(part.with_geometry(part.cell @ stretch, frac)).energy)
    assert torch.allclose((energies[0] - energies[1]) / (2 * step), slope.double(), rtol=1e-3, atol=1e-4)


def test_slope_loss_compares_the_derivative_of_the_network() -> None:
    """The finite difference of the network's energy equals its autograd forces along the direction."""
    data = source("anchored", 5, forces=True)
    torch.manual_seed(0)
    network = CrystalTransformer(recipe().architecture())
    torch.nn.init.normal_(network.energy.weight, std=0.1)
    from csp.protocols import Label
    from surrogates.transformer.surrogate import Surrogate

    own = Surrogate(
        network,
        kind="anchored",
        name="x",
        label=Label("", "", ""),
        elements=frozenset(data.labelled.crystals.numbers.tolist()),
    )
    found = own.evaluate(data.labelled.crystals, forces=True)
    assert found.forces is not None
    assert found.stress is not None
    data.labelled = replace(
        data.labelled, energy=found.energy, forces=found.forces.float(), stress=found.stress.float()
    )
    energy, slope = slope_loss(network, data, torch.arange(5), np.random.default_rng(1))
    assert float(energy.max()) < 2e-3
    assert float(slope.max()) < 1e-2


def test_shards_keep_what_they_are_given(tmp_path: Path) -> None:
    data = labelled(20, forces=True)
    write_shard(tmp_path / "shard.npz", data)
    back = read_shard(tmp_path / "shard.npz")
    assert back.ids == data.ids
    assert torch.equal(back.crystals.numbers, data.crystals.numbers)
    assert torch.equal(back.energy, data.energy)
    assert back.forces is not None
    assert torch.equal(back.forces, data.forces)
    difference = back.crystals.frac - data.crystals.frac
    assert float((difference - difference.round()).abs().max()) < 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["shard.npz"]


def test_compositions_are_reduced() -> None:
    oxide = Crystals.from_arrays(np.eye(3)[None] * 4, [np.zeros((5, 3))], [[8, 38, 8, 22, 8]])
    assert compositions(oxide) == ["8:3 22:1 38:1"]
    assert compositions(Crystals.from_arrays(np.eye(3)[None], [np.zeros((4, 3))], [[12, 8, 12, 8]])) == [
        "8:1 12:1"
    ]
    assert hashed("8:1 12:1") != hashed("8:2 12:1")


# -- the model library ------------------------------------------------------------------------------


def exported(tmp_path: Path) -> Path:
    train_network(recipe(), [source("formation", 40)], [], tmp_path / "run", device=CPU)
    zoo.model_from_checkpoint(
        checkpoints(tmp_path / "run")[-1],
        "tiny",
        tmp_path,
        {"val_mae": 1.0},
        data=["made up"],
        split="none",
        licence="Apache-2.0",
        code_version="0",
    )
    return tmp_path / "tiny.safetensors"


def test_library_gives_back_the_model(tmp_path: Path) -> None:
    path = exported(tmp_path)
    model = zoo.load_model(path, kind="formation")
    made = crystals(9)
    weights = torch.load(checkpoints(tmp_path / "run")[-1] / "average.pt", weights_only=True)
    network = CrystalTransformer(recipe().architecture())
    network.load_state_dict(weights)
    with torch.no_grad():
        expected = network(environments(made, 4.0))[:, 0]
    assert torch.allclose(model.evaluate(made).energy, expected, atol=1e-5)
    assert model.elements == {3, 9, 12, 17}
    assert zoo.seen_compositions(path) == {hashed(name) for name in compositions(crystals(40))}
    assert model.label != zoo.load_model(path, kind="anchored").label
    assert math.isfinite(zoo.read_card(path).metrics["val_mae"])


def test_damage_and_absence_are_told(tmp_path: Path) -> None:
    path = exported(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="not those of their card"):
        zoo.load_model(path)
    with pytest.raises(MissingError, match="no model"):
        zoo.load_model(tmp_path / "other.safetensors")
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        zoo.read_card(path)


def test_unknown_sizes_and_settings_are_refused() -> None:
    with pytest.raises(InputError, match="no size 'xl'"):
        SurrogateRecipe(size="xl").architecture()
    with pytest.raises(InputError, match="no such setting"):
        SurrogateRecipe(changes={"depth": 3}).architecture()


def test_a_shipped_model_knows_how_far_it_may_be_off(tmp_path: Path) -> None:
    data, path = source("formation", 40), tmp_path / "tiny.safetensors"
    train_network(recipe(), [data], [], tmp_path / "run", device=CPU)
    exported(tmp_path)
    model = zoo.load_model(path, kind="formation")
    assert isinstance(model, Surrogate)
    features = model.features(data.labelled.crystals)
    errors = (model.evaluate(data.labelled.crystals).energy - data.labelled.energy) / 4.0
    rigidity = Rigidity.fit(features, features, errors)
    about = {"data": [], "split": "", "licence": "", "code_version": ""}
    checkpoint = checkpoints(tmp_path / "run")[-1]
    zoo.model_from_checkpoint(checkpoint, "tiny", tmp_path, {}, {"formation": rigidity}, **about)
    found = zoo.load_model(path, kind="formation").evaluate(data.labelled.crystals)
    assert found.sigma is not None
    torch.testing.assert_close(found.sigma, rigidity.sigma(features), rtol=1e-3, atol=1e-6)
    assert zoo.load_model(path, kind="anchored").evaluate(data.labelled.crystals).sigma is None
