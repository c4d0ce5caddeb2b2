"""One code for CPU and GPU: what a search and a training compute on a GPU, against the CPU.

pytest -m gpu tests/test_gpu.py
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from csp.crystallography.neighbours import COVALENT_RADII, distance_ratio, neighbour_list
from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.fingerprints import fingerprints, unique
from csp.matching.matcher import Matcher
from csp.matching.niggli import reduced
from csp.relaxation.relax import relax
from csp.target import Target
from csp.training.cards import shipped
from generators.random_streams import Streams
from generators.random_symmetric.generator import RandomGenerator
from generators.space_group import generator as space_group
from generators.space_group import training as train_space_group
from generators.space_group.dataset import Table
from generators.space_group.geometries import Geometries, Soundness
from generators.space_group.loss import negative_log_likelihood
from generators.space_group.sampling import draw_assignments
from generators.space_group.tokens import Batch, letters_allowed
from surrogates.potentials.models import load_chgnet, load_matgl
from surrogates.training.batches import Source
from surrogates.training.labelled import Labelled
from surrogates.training.train import SurrogateRecipe, train_network
from surrogates.transfer.finetune import FULL, fine_tune
from surrogates.zoo import load_model
from tests.places import SHARED, needs

pytestmark = pytest.mark.gpu
CPU, GPU = torch.device("cpu"), torch.device("cuda")
TENSORNET = SHARED / "models" / "TensorNet-MatPES-PBE-v2025.1-PES"


@cache
def candidates(n: int = 120) -> Crystals:
    """Random symmetric crystals of two compositions, far enough apart to have sensible energies."""
    generator = RandomGenerator(Library.open(), VolumePrior.load())
    made = [generator.propose(Target.parse(f, z=2), n, seed=0).crystals for f in ("SrTiO3", "NaCl")]
    found = Crystals.cat([crystals[: n // 2] for crystals in made])
    return found[(distance_ratio(found) > 0.8).nonzero().flatten()]


def test_distances_and_fingerprints() -> None:
    crystals = candidates()
    here, there = neighbour_list(crystals, 5.0), neighbour_list(crystals.to(GPU), 5.0)
    assert there.distance.device.type == "cuda"
    torch.testing.assert_close(there.distance.cpu(), here.distance)
    assert torch.equal(there.j.cpu(), here.j)
    torch.testing.assert_close(distance_ratio(crystals.to(GPU)).cpu(), distance_ratio(crystals))
    torch.testing.assert_close(fingerprints(crystals.to(GPU)).cpu(), fingerprints(crystals))
    assert torch.equal(unique(crystals.to(GPU)).cpu(), unique(crystals))


def test_reduction_and_matching() -> None:
    crystals = candidates()
    here, there = reduced(crystals), reduced(crystals.to(GPU)).to(CPU)
    torch.testing.assert_close(there.volumes, here.volumes)
    assert torch.equal(there.offsets, here.offsets)
    one = crystals[0]
    assert torch.equal(Matcher().fits(one.to(GPU), crystals.to(GPU)).cpu(), Matcher().fits(one, crystals))


@pytest.mark.parametrize("name", ["xs", "chgnet", pytest.param("tensornet", marks=needs(TENSORNET))])
def test_energies_forces_and_stress(name: str) -> None:
    loaders = {
        "xs": lambda device: load_model("xs", str(device)),
        "chgnet": load_chgnet,
        "tensornet": lambda device: load_matgl(TENSORNET, device),
    }
    crystals = candidates()
    model = loaders[name](GPU)
    assert model.device.type == "cuda"
    here, there = (loaders[name](d).evaluate(crystals, forces=True) for d in (CPU, GPU))
    n = crystals.n_atoms
    assert there.energy.device.type == "cpu"
    torch.testing.assert_close(there.energy / n, here.energy / n, atol=2e-4, rtol=1e-5)
    torch.testing.assert_close(there.forces, here.forces, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(there.stress, here.stress, atol=2e-3, rtol=2e-3)
    if here.sigma is not None:
        torch.testing.assert_close(there.sigma, here.sigma, atol=1e-4, rtol=1e-3)
    resident = model.evaluate(crystals.to(GPU), forces=True)
    assert resident.energy.device.type == "cuda"
    torch.testing.assert_close(resident.energy.cpu() / n, there.energy / n, atol=1e-5, rtol=0)


def test_relaxation_keeps_symmetry_and_lowers_the_energy() -> None:
    """Not step by step the same: single precision grows apart. The ends are as low as the CPU's."""
    crystals = candidates(60)
    found = {}
    for device in (CPU, GPU):
        model = load_model("xs", str(device))
        symmetry = operations(crystals).to(device)
        ends = relax(crystals.to(device), model, max_steps=60, symmetry=symmetry).to(CPU)
        start = model.evaluate(crystals).energy
        assert bool((ends.energy <= start + 1e-3).all())
        found[device.type] = ends.energy / crystals.n_atoms
    difference = (found["cuda"] - found["cpu"]).abs()
    assert float(difference.median()) < 1e-3


def test_features_and_sigma() -> None:
    here, there = (load_model("xs", str(device)) for device in (CPU, GPU))
    crystals = candidates()
    torch.testing.assert_close(there.features(crystals), here.features(crystals), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(there.sigma(crystals), here.sigma(crystals), atol=1e-4, rtol=1e-3)


def labelled() -> Labelled:
    """By the surrogate itself, with an addition that its last layer does not know."""
    crystals = candidates()
    found = load_model("xs", "cpu").evaluate(crystals, forces=True)
    energy = found.energy + 0.02 * crystals.volumes
    return Labelled(crystals, [""] * len(crystals), energy, found.forces.float(), found.stress.float())


def test_surrogate_trains_and_goes_on(tmp_path: Path) -> None:
    """Two parts of a training make the same network as one, on a GPU to rounding; the loss falls."""
    recipe = SurrogateRecipe(steps=60, batch=16, warmup=5, small_until=0.0, lr=1e-3)
    source = Source("anchored", labelled(), 1.0, 5.0, GPU)
    rows: list[dict[str, float]] = []
    whole = train_network(recipe, [source], [source], tmp_path / "a", device=GPU, tell=rows.append)
    assert next(whole.parameters()).device.type == "cuda"
    assert rows[-1]["val_anchored"] < 0.5
    train_network(recipe, [source], [], tmp_path / "b", device=GPU, stop_after_minutes=0.0)
    again = train_network(recipe, [source], [], tmp_path / "b", device=GPU)
    a, b = (parameters_to_vector(m.parameters()).cpu() for m in (whole, again))
    assert float((a - b).abs().mean()) < 1e-3


def test_fine_tuning() -> None:
    model = load_model("xs", "cuda")
    data = replace(labelled(), forces=None, stress=None)
    settings = replace(FULL, steps=80, folds=2)
    tuned = fine_tune(model.network, model.column, data, np.arange(len(data)), settings)
    before = model.evaluate(data.crystals).energy - data.energy
    before = (before / data.crystals.n_atoms).abs().mean()
    assert next(tuned.network.parameters()).device.type == "cuda"
    assert float(tuned.left_out.abs().mean()) < 0.5 * float(before)


def test_space_group_model(tmp_path: Path) -> None:
    """The same −ln p as on the CPU for crystals that it drew, and a training that runs."""
    model = space_group.load_space_group_model(shipped("space_group"))
    numbers, counts, n = (22, 8), (1, 2), 40
    streams = Streams.of(0, "test", torch.arange(n))
    group, z = torch.tensor([136, 2, 33, 1, 8, 227, 62, 5] * 5), torch.full((n,), 4)
    drawn = draw_assignments(model, numbers, counts, group, z, streams)
    sound = Soundness(min_distance=0.0, volume=float("inf"), trials=1)
    geometries = Geometries(model, drawn.assignments, COVALENT_RADII[list(numbers)])
    made, _ = geometries.draw(drawn.which, streams, 12.0, sound)
    table = Table(made, letters_allowed(made), np.array([str(k) for k in range(len(made))]))
    batch = Batch.of(table.representation, table.allowed, torch.full((len(made),), 12.0, dtype=torch.float64))
    with torch.no_grad():
        here = negative_log_likelihood(model, batch)
        there = negative_log_likelihood(copy.deepcopy(model).to(GPU), batch.to(GPU))
    for name, part in here.items():
        torch.testing.assert_close(there[name].cpu(), part, atol=2e-3, rtol=2e-3)
    recipe = train_space_group.SpaceGroupRecipe(steps=30, tokens=512, warmup=5)
    data = train_space_group.Trainable.of(table, recipe.crowd)
    trained, step = train_space_group.train_space_group_model(recipe, data, data, tmp_path, device=GPU)
    assert step == 30
    assert next(trained.parameters()).device.type == "cuda"
