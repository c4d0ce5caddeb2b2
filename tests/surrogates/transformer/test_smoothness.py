"""What a search relies on, of an untrained network and of every model that ships: the contract, repulsion
of what collides, no jump of energy, force or slope from 0.3 of the covalent sum to beyond the cutoff."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from csp.contracts import check_energy_model
from csp.crystallography.neighbours import COVALENT_RADII, neighbour_list
from csp.crystals import Crystals
from csp.protocols import Evaluation, Label
from surrogates import zoo
from surrogates.transformer.network import MAX_Z, REPULSION_SWITCH, CrystalTransformer, SurrogateArchitecture
from surrogates.transformer.surrogate import Surrogate

SHIPPED = [(card.name, kind) for card in zoo.list_models() for kind in card.kinds]
LARGEST = 1.1  # of the cutoff
SMALLEST = 0.3  # of the sum of covalent radii
OUTWARD = 0.6


@pytest.fixture(scope="module", params=[("random", "anchored"), *SHIPPED], ids="-".join)
def surrogate(request: pytest.FixtureRequest) -> Surrogate:
    """In double precision."""
    name, kind = request.param
    if name == "random":
        torch.manual_seed(0)
        network = CrystalTransformer(SurrogateArchitecture(kinds=("formation", "anchored")))
        torch.nn.init.normal_(network.energy.weight, std=0.1)
        network.reference[:, 1:] = torch.randn(2, MAX_Z, dtype=torch.float64)
        elements = frozenset(range(1, 95))
    else:
        loaded = zoo.load_model(name, kind=kind)
        assert isinstance(loaded, Surrogate)
        network, elements = loaded.network, loaded.elements
    return Surrogate(
        network.double(), kind=kind, name=name, label=Label("PBE", kind, name), elements=elements
    )


def cutoff(surrogate: Surrogate) -> float:
    return surrogate.network.architecture.cutoff


def pairs(distances: Sequence[float], first: int, second: int) -> Crystals:
    """Two atoms, far from their images."""
    edge = 40.0
    n = len(distances)
    fracs = [[[0.0, 0.0, 0.0], [d / edge, 0.0, 0.0]] for d in distances]
    return Crystals.from_arrays([edge * torch.eye(3).numpy()] * n, fracs, [[first, second]] * n)


def skewed(numbers: Sequence[int]) -> Crystals:
    """An unsymmetric cell of two atoms whose nearest neighbours touch."""
    cell = torch.tensor([[4.0, 0.0, 0.0], [0.7, 4.4, 0.0], [-0.5, 0.9, 3.8]], dtype=torch.float64)
    crystal = Crystals.from_arrays(cell[None], [[[0, 0, 0], [0.46, 0.53, 0.49]]], [list(numbers)])
    return scaled(crystal, [1.0 / float(ratios(crystal).min())])


def ratios(crystal: Crystals) -> Tensor:
    """Distances of all pairs within 12 Å, by the sums of their radii."""
    found = neighbour_list(crystal, 12.0)
    radius = COVALENT_RADII[crystal.numbers]
    return found.distance / (radius[found.i] + radius[found.j])


def scaled(crystal: Crystals, factors: Sequence[float]) -> Crystals:
    return Crystals.cat([crystal.with_geometry(crystal.cell * s, crystal.frac) for s in factors])


def pull(found: Evaluation, crystals: Crystals, factors: Tensor) -> Tensor:
    """dE/ds of crystals scaled by s: tr(stress) V / s, eV."""
    assert found.stress is not None
    return found.stress.diagonal(dim1=1, dim2=2).sum(1) * crystals.volumes / factors


def assert_smooth(points: Tensor, value: Tensor, name: str, floor: float) -> None:
    """value [K, 2, 2]: of K places on both sides of each, farther off and four times nearer.

    A jump stays as it is, a continuous difference goes down to a quarter; near an extremum, where both sides
    are equal by chance, what counts is how much the value changes on either side.
    """
    apart = (value[:, :, 0] - value[:, :, 1]).abs()
    sides = (value[:, 0] - value[:, 1]).abs().amax(1)
    jumps = apart[:, 1] > 0.5 * torch.maximum(apart[:, 0], sides) + floor
    assert not jumps.any(), f"{name} jumps at {points[jumps].tolist()}"


def around(points: Tensor, delta: float) -> tuple[Tensor, float]:
    """[K, 2, 2, 3]: each point ∓ δ and ∓ δ/4, and there h to the left, itself, h to the right."""
    h = delta / 16
    side = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    near = torch.tensor([1.0, 0.25], dtype=torch.float64)
    step = torch.tensor([-h, 0.0, h], dtype=torch.float64)
    offset = delta * near[:, None, None] * side[None, :, None] + step
    return points[:, None, None, None] + offset, h


PAIRS = [(1, 1), (1, 8), (8, 8), (11, 17), (14, 14), (55, 79), (6, 92)]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_pairs(surrogate: Surrogate, first: int, second: int) -> None:
    reach = float(COVALENT_RADII[first] + COVALENT_RADII[second])
    short = torch.linspace(SMALLEST * reach, 0.99 * OUTWARD * reach, 30, dtype=torch.float64)
    forces = surrogate.evaluate(pairs(short.tolist(), first, second), forces=True).forces
    assert forces is not None
    assert float(forces[1::2, 0].min()) > 0.0  # on the second atom, away from the first

    knots = [cutoff(surrogate), *(share * reach for share in REPULSION_SWITCH)]
    between = torch.linspace(SMALLEST * reach, LARGEST * cutoff(surrogate), 12, dtype=torch.float64)
    points = torch.cat([torch.tensor(knots, dtype=torch.float64), between])
    distances, h = around(points, 2e-4)
    found = surrogate.evaluate(pairs(distances.flatten().tolist(), first, second), forces=True)
    assert found.forces is not None
    energy, force = found.energy.view(distances.shape), found.forces[1::2, 0].view(distances.shape)
    assert_smooth(points, energy[..., 1], "the energy", 1e-9)
    assert_smooth(points, force[..., 1], "the force", 1e-8)
    assert_smooth(points, (force[..., 2] - force[..., 0]) / (2 * h), "the slope", 1e-4)


@pytest.mark.parametrize("numbers", [(12, 8), (55, 53), (26, 1)])
def test_compressed_crystals(surrogate: Surrogate, numbers: tuple[int, int]) -> None:
    crystal = skewed(numbers)
    short = torch.linspace(SMALLEST, 0.99 * OUTWARD, 12, dtype=torch.float64)
    squeezed = scaled(crystal, short.tolist())
    outward = -pull(surrogate.evaluate(squeezed, forces=True), squeezed, short)
    assert float(outward.min()) > 0.0

    # where shells enter, and where the repulsion is switched, while the crystal shrinks
    nearest = float(neighbour_list(crystal, 12.0).distance.min())
    largest = LARGEST * cutoff(surrogate) / nearest
    entering = cutoff(surrogate) / torch.unique(neighbour_list(crystal, 12.0).distance.round(decimals=9))
    switching = torch.cat([share / ratios(crystal) for share in REPULSION_SWITCH])
    points = torch.cat([part[(part > SMALLEST) & (part < largest)] for part in (entering, switching)])
    points = torch.unique(points.round(decimals=9))
    points = points[torch.linspace(0, len(points) - 1, 14).round().long()]
    factors, h = around(points, 5e-4)
    series = scaled(crystal, factors.flatten().tolist())
    found = surrogate.evaluate(series, forces=True)
    slope = pull(found, series, factors.flatten()).view(factors.shape)
    assert_smooth(points, found.energy.view(factors.shape)[..., 1], "the energy", 1e-8)
    assert_smooth(points, slope[..., 1], "the pull", 1e-6)
    assert_smooth(points, (slope[..., 2] - slope[..., 0]) / (2 * h), "its slope", 1e-2)


def test_a_sharp_cutoff_would_be_seen() -> None:
    """The check itself: |x| jumps in its slope, x³|x| does not."""
    points = torch.tensor([0.0], dtype=torch.float64)
    x, h = around(points, 1e-3)
    for function, smooth in ((torch.abs, False), (lambda x: x**3 * x.abs(), True)):
        slope = (function(x[..., 2]) - function(x[..., 0])) / (2 * h)
        if smooth:
            assert_smooth(points, slope, "x³|x|", 0.0)
        else:
            with pytest.raises(AssertionError, match="jumps at"):
                assert_smooth(points, slope, "|x|", 0.0)


@pytest.mark.skipif(not SHIPPED, reason="no model of ours is shipped yet")
@pytest.mark.parametrize(("name", "kind"), SHIPPED)
def test_shipped_models_keep_the_contract(name: str, kind: str) -> None:
    """As they are loaded, in single precision."""
    generator = torch.Generator().manual_seed(1)
    parts = []
    for edge, numbers in ((4.2, [12, 8] * 4), (5.8, [11, 17, 19, 35] * 2), (6.5, [55, 53] * 4)):
        grid = torch.cartesian_prod(*[torch.arange(2, dtype=torch.float64) / 2] * 3)
        cell = edge * torch.eye(3) + 0.3 * torch.randn(3, 3, generator=generator)
        frac = grid + 0.03 * torch.randn(8, 3, generator=generator)
        parts.append(Crystals.from_arrays(cell[None], [frac], [numbers]))
    model = zoo.load_model(name, kind=kind)
    check_energy_model(
        model,
        Crystals.cat(parts),
        energy_tolerance=5e-5,
        force_tolerance=2e-3,
        difference_tolerance=5e-2,
    )
