"""The transformer: invariances, smoothness where neighbours enter, repulsion, three-body sight, contract."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from csp.contracts import check_energy_model
from csp.crystallography.neighbours import COVALENT_RADII, neighbour_list
from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import Label
from surrogates.training.labelled import read_structures
from surrogates.transformer.environments import environments, pad
from surrogates.transformer.network import (
    MAX_Z,
    CrystalTransformer,
    SurrogateArchitecture,
    periodic_table,
    repulsion,
    spherical_harmonics,
)
from surrogates.transformer.surrogate import Surrogate
from tests.places import SHARED, needs

STRUCTURES = SHARED / "data" / "mp_structures.parquet"
KINDS = ("formation", "anchored")
LABEL = Label("test", "none", "random")


def random_network(seed: int = 0, **sizes: int | float | bool) -> CrystalTransformer:
    """Untrained, in double precision, with an energy head of size one instead of zero."""
    torch.manual_seed(seed)
    network = CrystalTransformer(SurrogateArchitecture(kinds=KINDS, **sizes))  # type: ignore[arg-type]
    torch.nn.init.normal_(network.energy.weight, std=0.1)
    network.reference[:, 1:] = torch.randn(2, MAX_Z, dtype=torch.float64)
    return network.double().eval()


def model(seed: int = 0, **sizes: int | float | bool) -> Surrogate:
    return Surrogate(
        random_network(seed, **sizes),
        kind="anchored",
        name="random",
        label=LABEL,
        elements=frozenset(range(1, 95)),
    )


def sample() -> Crystals:
    """Unsymmetric crystals of different density, size and shape of cell."""
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    grid = torch.cartesian_prod(*[torch.arange(2, dtype=torch.float64) / 2] * 3)
    parts = []
    for edge, numbers in ((4.2, [12, 8] * 4), (5.8, [11, 17, 19, 35] * 2), (6.5, [55, 53] * 4)):
        cell = edge * torch.eye(3, dtype=torch.float64) + 0.3 * noise(3, 3)
        parts.append(Crystals.from_arrays(cell[None], [grid + 0.03 * noise(8, 3)], [numbers]))
    return Crystals.cat(parts)


def test_contract() -> None:
    check_energy_model(model(), sample(), difference_tolerance=2e-3, step=1e-3)


def test_contract_in_single_precision() -> None:
    surrogate = Surrogate(
        random_network().float(),
        kind="formation",
        name="random",
        label=LABEL,
        elements=frozenset(range(1, 95)),
    )
    check_energy_model(surrogate, sample(), energy_tolerance=5e-5, difference_tolerance=5e-2)


@pytest.mark.parametrize("sizes", [{"attention": False}, {"angular": 0}, {"cutoff": 6.0, "heads": 4}])
def test_variants_keep_forces_exact(sizes: dict[str, int | float | bool]) -> None:
    crystals, surrogate = sample()[:1], model(**sizes)
    found = surrogate.evaluate(crystals, forces=True)
    assert found.forces is not None
    step = 1e-4
    for atom, axis in ((0, 0), (5, 2)):
        energies = []
        for sign in (1, -1):
            moves = torch.zeros_like(crystals.frac)
            moves[atom, axis] = sign * step
            moved = crystals.frac + moves @ torch.linalg.inv(crystals.cell[0])
            energies.append(float(surrogate.evaluate(crystals.with_geometry(crystals.cell, moved)).energy))
        slope = (energies[0] - energies[1]) / (2 * step)
        assert float(found.forces[atom, axis]) == pytest.approx(-slope, abs=1e-5)


def test_untrained_energy_is_that_of_the_references() -> None:
    network = CrystalTransformer(SurrogateArchitecture(kinds=KINDS)).double()
    network.reference[:, 1:] = torch.randn(2, MAX_Z, dtype=torch.float64)
    crystals = sample()
    crystals = crystals.scaled_to(2.0 * crystals.volumes)  # nothing collides
    expected = torch.stack(
        [network.reference[:, c.numbers].sum(1) for c in map(crystals.__getitem__, range(3))]
    )
    with torch.no_grad():
        assert torch.allclose(network(environments(crystals, 5.0, torch.float64)), expected)


def test_references_stay_in_double_precision() -> None:
    assert CrystalTransformer(SurrogateArchitecture(kinds=KINDS)).reference.dtype == torch.float64


def test_padding_changes_nothing() -> None:
    network, crystals = random_network(), sample()[:1]
    atoms = environments(crystals, 5.0, torch.float64)
    pairs = neighbour_list(crystals, 5.0)
    counts = torch.bincount(pairs.i, minlength=8)
    shuffled = torch.cat(
        [i + torch.randperm(int(n)) for i, n in zip(counts.cumsum(0) - counts, counts, strict=True)]
    )
    other = pad(crystals.numbers, crystals.batch, 1, counts, pairs.j[shuffled], pairs.vector[shuffled], 5.0)
    wider = replace(
        other,
        neighbour=torch.cat([other.neighbour, torch.arange(8)[:, None].expand(8, 7)], 1),
        vector=torch.cat([other.vector, torch.tensor([0.0, 5.0, 0.0]).expand(8, 7, 3)], 1),
    )
    assert torch.allclose(network(atoms), network(wider), atol=1e-12)


def pair_crystal(distance: float, edge: float = 40.0) -> Crystals:
    """Two atoms, Na and Cl, far from their images."""
    frac = [[0.0, 0.0, 0.0], [distance / edge, 0.0, 0.0]]
    return Crystals.from_arrays([[[edge, 0, 0], [0, edge, 0], [0, 0, edge]]], [frac], [[11, 17]])


def test_energy_force_and_slope_are_continuous_where_neighbours_enter() -> None:
    """A pair near the cutoff: energy (1 − u)³ to leading order, thus two derivatives vanish there."""
    surrogate = model()
    apart = float(surrogate.evaluate(pair_crystal(9.0)).energy)

    def excess(distance: float) -> float:
        return float(surrogate.evaluate(pair_crystal(distance)).energy) - apart

    def force(distance: float) -> float:
        forces = surrogate.evaluate(pair_crystal(distance), forces=True).forces
        assert forces is not None
        return float(forces[1, 0])

    assert abs(excess(4.5)) > 1e-6  # there is something to be continuous
    assert excess(5.0 + 1e-6) == pytest.approx(0.0, abs=1e-12)
    # halving the way to the cutoff divides the energy by eight, the force by four
    assert excess(4.995) / excess(4.9975) == pytest.approx(8.0, rel=0.1)
    assert force(4.995) / force(4.9975) == pytest.approx(4.0, rel=0.1)
    assert force(5.0 - 1e-5) == pytest.approx(0.0, abs=1e-9)


def test_energy_force_and_slope_are_continuous_under_compression() -> None:
    """Shells enter one after the other while a crystal shrinks: no jump in E, dE/ds or d²E/ds²."""
    surrogate = model()
    crystal = sample()[:1]
    scales = torch.linspace(1.2, 0.9, 301, dtype=torch.float64)
    series = Crystals.cat([crystal.with_geometry(crystal.cell * s, crystal.frac) for s in scales])
    energy = surrogate.evaluate(series).energy
    assert float(torch.diff(energy).abs().max()) > 1e-4  # there is something to be continuous
    # halving the step halves the largest change of E, E' and E'' where they are continuous, and leaves
    # a jump as it is
    for n in (1, 2, 3):
        fine = float((torch.diff(energy, n=n) * 300 ** (n - 1)).abs().max())
        coarse = float((torch.diff(energy[::2], n=n) * 150 ** (n - 1)).abs().max())
        assert fine < 0.65 * coarse


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 8), (8, 8), (11, 17), (14, 14), (55, 79), (6, 92)])
def test_collisions_repel(first: int, second: int) -> None:
    """Below 0.6 of the covalent sum the force is outward, whatever the network says."""
    surrogate = model()
    reach = float(COVALENT_RADII[first] + COVALENT_RADII[second])
    cell = 40.0 * torch.eye(3, dtype=torch.float64)
    for ratio in (0.3, 0.4, 0.5, 0.55, 0.59):
        frac = [[0.0, 0.0, 0.0], [ratio * reach / 40.0, 0.0, 0.0]]
        pair = Crystals.from_arrays(cell[None], [frac], [[first, second]])
        forces = surrogate.evaluate(pair, forces=True).forces
        assert forces is not None
        assert float(forces[1, 0]) > 1.0


def test_repulsion_is_that_of_ziegler_biersack_and_littmark() -> None:
    """Two silicon atoms at 1 Å, below the switch: the closed form with a = 0.8854 a_0 / (2 · 14^0.23)."""
    crystal = Crystals.from_arrays(
        [40.0 * torch.eye(3, dtype=torch.float64)], [[[0, 0, 0], [1.0 / 40, 0, 0]]], [[14, 14]]
    )
    x = 1.0 / (0.8854 * 0.529177 / (2 * 14**0.23))
    terms = ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))
    expected = 14.399645 * 14 * 14 * sum(a * math.exp(-b * x) for a, b in terms)
    found = repulsion(environments(crystal, 5.0, torch.float64), COVALENT_RADII)
    assert float(found.sum()) == pytest.approx(expected, rel=1e-3)


@needs(STRUCTURES)
def test_repulsion_is_zero_in_known_crystals() -> None:
    """Uranyl, phosphates, hydrides: all but the odd entries, three in a thousand, of the slow test."""
    crystals, ids = read_structures(STRUCTURES)
    assert len(colliding(crystals[::500], ids[::500])) <= 3  # of 305


@pytest.mark.slow
@needs(STRUCTURES)
def test_repulsion_is_zero_in_almost_all_known_crystals() -> None:
    """Three entries in a thousand have atoms closer than 0.65 of the covalent sum (V–O at 1.0 Å, say)."""
    crystals, ids = read_structures(STRUCTURES)
    assert len(colliding(crystals, ids)) < 0.0035 * len(crystals)


def colliding(crystals: Crystals, ids: list[str]) -> list[str]:
    """Crystals with repulsion, looked for in pieces; neighbours beyond 4 Å cannot matter."""
    found = []
    radii = COVALENT_RADII.nan_to_num(1.6)
    for start in range(0, len(crystals), 100):
        part = crystals[start : start + 100]
        atoms = environments(part, 4.0, torch.float64)
        energy = torch.zeros(len(part), dtype=torch.float64)
        energy.index_add_(0, atoms.crystal, repulsion(atoms, radii))
        found += [ids[start + b] for b in energy.nonzero().flatten().tolist()]
    return found


def test_harmonics_are_orthonormal() -> None:
    """On a spherical design (the 12 vertices of an icosahedron integrate up to degree 5)."""
    golden = (1 + math.sqrt(5)) / 2
    vertices = [(0, a, b * golden) for a in (1, -1) for b in (1, -1)]
    points = torch.tensor([p[k:] + p[:k] for p in vertices for k in range(3)], dtype=torch.float64)
    values = spherical_harmonics(points / points.norm(dim=1, keepdim=True))
    assert torch.allclose(values.T @ values / 12, torch.eye(9, dtype=torch.float64), atol=1e-12)


def test_sees_angles() -> None:
    """Three atoms at equal bond lengths, bent or straight, the ends out of each other's sight."""

    def energy(angle: float, surrogate: Surrogate) -> float:
        ends = [[2.6, 0.0, 0.0], [2.6 * math.cos(angle), 2.6 * math.sin(angle), 0.0]]
        frac = (torch.tensor([[0.0, 0.0, 0.0], *ends], dtype=torch.float64) + 15.0) / 30.0
        crystal = Crystals.from_arrays([30.0 * torch.eye(3)], [frac], [[8, 14, 14]])
        return float(surrogate.evaluate(crystal).energy)

    blind = model(angular=0, cutoff=3.0)
    seeing = model(cutoff=3.0)
    assert energy(math.pi, blind) == pytest.approx(energy(1.9, blind), abs=1e-9)
    assert abs(energy(math.pi, seeing) - energy(1.9, seeing)) > 1e-6


def test_periodic_table() -> None:
    """Valence electrons by shell: oxygen 2s² 2p⁴, iron 4s² 3d⁶, gold as 6s² 4f¹⁴ 5d⁹ in aufbau order."""
    rows = periodic_table()
    electrons = rows[:, 7:11] * torch.tensor([2.0, 14.0, 10.0, 6.0])
    assert electrons[8].round().tolist() == [2, 0, 0, 4]
    assert electrons[26].round().tolist() == [2, 0, 6, 0]
    assert electrons[79].round().tolist() == [2, 14, 9, 0]
    assert rows[:, :7].argmax(1)[[1, 8, 26, 79]].tolist() == [0, 1, 3, 5]
    assert torch.unique(rows[1:], dim=0).shape[0] == MAX_Z


def test_unknown_elements_and_heads_are_refused() -> None:
    with pytest.raises(InputError, match="not trained on the elements 118"):
        model().evaluate(Crystals.from_arrays([5 * torch.eye(3)], [[[0, 0, 0]]], [[118]]))
    with pytest.raises(InputError, match="no head 'enthalpy'"):
        Surrogate(random_network(), kind="enthalpy", name="x", label=LABEL, elements=frozenset())
