"""Fingerprints: what they must not see, what they must, and a direct sum as the oracle."""

import math

import numpy as np
import pytest
import torch
from ase.build import bulk, make_supercell
from scipy.spatial.transform import Rotation

from csp.crystallography.neighbours import neighbour_list
from csp.crystals import Crystals
from csp.matching.fingerprints import REACH, SAME_STRUCTURE, SMEARING, fingerprints, unique


def random_crystals(n: int, seed: int = 0, atoms: int = 6) -> Crystals:
    """A2B4-like crystals in skewed cells."""
    rng = np.random.default_rng(seed)
    cells = [
        np.diag(rng.uniform(3.5, 6.0, 3)) @ (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))) for _ in range(n)
    ]
    fracs = [rng.uniform(0, 1, (atoms, 3)) for _ in range(n)]
    return Crystals.from_arrays(cells, fracs, [[22] * (atoms // 3) + [8] * (atoms - atoms // 3)] * n)


def disguised(crystals: Crystals, seed: int = 1) -> Crystals:
    """The same crystals in other cells, orientations, origins, orders and, every second, doubled."""
    rng = np.random.default_rng(seed)
    parts = []
    for b, atoms in enumerate(crystals.atoms()):
        transform = np.eye(3, dtype=int)
        for _ in range(4):
            i, j = rng.choice(3, 2, replace=False)
            transform[i] += int(rng.integers(-1, 2)) * transform[j]
        if b % 2:
            transform[0] *= 2
        changed = make_supercell(atoms, transform)
        changed.set_cell(changed.cell.array @ Rotation.random(random_state=b).as_matrix(), scale_atoms=True)
        changed.translate(rng.uniform(-5, 5, 3))
        changed.wrap()
        parts.append(changed[rng.permutation(len(changed))])
    return Crystals.from_atoms(parts)


@pytest.mark.parametrize("scale", [True, False])
def test_fingerprint_is_invariant(scale: bool) -> None:
    crystals = random_crystals(8)
    both = fingerprints(Crystals.cat([crystals, disguised(crystals)]), scale=scale)
    torch.testing.assert_close(both[:8], both[8:], atol=1e-9, rtol=0)
    mirrored = crystals.with_geometry(-crystals.cell, crystals.frac)
    torch.testing.assert_close(fingerprints(mirrored, scale=scale), fingerprints(crystals, scale=scale))


def test_only_the_volume_tells_a_blow_up() -> None:
    crystals = random_crystals(3)
    larger = crystals.scaled_to(crystals.volumes * math.e)
    torch.testing.assert_close(fingerprints(larger, scale=True), fingerprints(crystals, scale=True))
    difference = fingerprints(larger) - fingerprints(crystals)
    torch.testing.assert_close(difference[:, -1], torch.ones(3, dtype=torch.float64))


def test_fingerprint_against_a_direct_sum() -> None:
    """One element, the definition written out with a Gaussian for the delta function."""
    copper = Crystals.from_atoms([bulk("Cu", "fcc", a=4.0 ** (1 / 3))])  # V/N = 1
    distance = neighbour_list(copper, REACH + 6 * SMEARING).distance.numpy()
    r = SMEARING * np.arange(1, round(REACH / SMEARING) + 1)
    gaussian = np.exp(-0.5 * ((r[:, None] - distance) / SMEARING) ** 2) / (SMEARING * np.sqrt(2 * np.pi))
    expected = (gaussian / (4 * np.pi * distance**2)).sum(1) - 1.0
    expected /= np.linalg.norm(expected)
    found = fingerprints(copper, scale=True)[0, : len(r)].numpy()
    np.testing.assert_allclose(found, expected, atol=0.01)  # the histogram's linear sharing


def test_elements_are_told_apart() -> None:
    rocksalt, zincblende = bulk("ZnS", "rocksalt", a=5.0), bulk("ZnS", "zincblende", a=5.0)
    swapped = zincblende.copy()
    swapped.numbers = [16, 30]  # the same crystal: both sublattices are alike
    oxide = zincblende.copy()
    oxide.numbers = [30, 8]
    f = fingerprints(Crystals.from_atoms([zincblende, swapped, rocksalt, oxide]))
    assert (f[0] - f[1]).norm() < 1e-9
    assert (f[0] - f[2]).norm() > 0.5
    assert (f[0] - f[3]).norm() > 0.5


def test_fingerprint_is_smooth() -> None:
    """No jump where an atom crosses a histogram bin or the end of the reach."""
    crystal = random_crystals(1)
    moves = torch.linspace(0, 0.02, 201, dtype=torch.float64)
    frac = crystal.frac.repeat(len(moves), 1)
    frac[::6, 0] += moves
    path = Crystals.from_arrays(
        crystal.cell.expand(len(moves), 3, 3), frac.reshape(-1, 6, 3).unbind(), [crystal.numbers] * len(moves)
    )
    steps = fingerprints(path).diff(dim=0).norm(dim=1)
    assert steps.max() < 3 * steps.median()


def test_unique_finds_every_disguise_and_keeps_the_order() -> None:
    crystals = random_crystals(20)
    shaken = disguised(crystals, seed=3)
    generator = torch.Generator().manual_seed(0)
    noise = 0.0003 * torch.randn(shaken.frac.shape, generator=generator, dtype=torch.float64)
    shaken = shaken.with_geometry(shaken.cell, shaken.frac + noise)
    order = np.random.default_rng(0).permutation(40)
    mixed = Crystals.cat([crystals, shaken])[order]
    origin = order % 20
    first = [int(np.flatnonzero(origin == origin[k])[0]) for k in range(40)]
    assert unique(mixed).tolist() == first


def test_unique_prefers_low_energy() -> None:
    crystals = Crystals.cat([random_crystals(3), disguised(random_crystals(3))])
    energies = torch.tensor([0.0, 1.0, torch.nan, -1.0, 2.0, 0.0])
    assert unique(crystals, energies=energies).tolist() == [3, 1, 5, 3, 1, 5]


def test_unique_is_exact_although_it_searches_a_projection() -> None:
    """The greedy grouping, written as a double loop."""
    base = random_crystals(6, seed=5)
    generator = torch.Generator().manual_seed(2)
    copies = base[[k % 6 for k in range(60)]]
    noise = 0.0012 * torch.randn(copies.frac.shape, generator=generator, dtype=torch.float64)
    crystals = copies.with_geometry(copies.cell, copies.frac + noise)
    f = fingerprints(crystals)
    expected: list[int] = []
    for k in range(60):
        near = [r for r in sorted(set(expected)) if (f[k] - f[r]).norm() <= SAME_STRUCTURE]
        expected.append(near[0] if near else k)
    assert 6 < len(set(expected)) < 60
    assert unique(crystals).tolist() == expected


def test_empty_and_single() -> None:
    assert unique(Crystals.empty()).shape == (0,)
    assert unique(random_crystals(1)).tolist() == [0]
    assert fingerprints(Crystals.empty()).shape[0] == 0
