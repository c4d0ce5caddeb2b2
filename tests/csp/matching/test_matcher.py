"""The matcher against pymatgen's StructureMatcher, on noisy copies and on strangers."""

import math

import numpy as np
import pytest
import torch
from pymatgen.core.structure_matcher import StructureMatcher

from csp.crystals import Crystals
from csp.matching.matcher import Matcher
from tests.places import SHARED, needs

STRUCTURES = SHARED / "data" / "mp_structures.parquet"
TOLERANCES = [Matcher.DEFAULT, Matcher.LOOSE, Matcher(scale=False), Matcher(0.15, 0.25, 4.0)]


def reference(matcher: Matcher) -> StructureMatcher:
    return StructureMatcher(matcher.ltol, matcher.stol, matcher.angle_tol, scale=matcher.scale)


def perovskites(n: int, seed: int = 0) -> Crystals:
    """Distorted, strained, blown-up, mirrored and redescribed ABO3 of a few kinds, and random ones."""
    rng = np.random.default_rng(seed)
    ideal = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    swapped = ideal[[1, 0, 2, 3, 4]]
    hexagonal = np.array([[0, 0, 0], [1 / 3, 2 / 3, 0.5], [0.5, 0, 0.25], [0, 0.5, 0.25], [0.5, 0.5, 0.25]])
    low = np.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.9], [0.4, 0.1, 0.7], [0.8, 0.4, 0.1], [0.3, 0.9, 0.5]])
    cubic, hexagon = np.eye(3) * 3.9, np.array([[4.8, 0, 0], [-2.4, 4.157, 0], [0, 0, 4.0]])
    triclinic = np.array([[3.8, 0, 0], [0.9, 4.1, 0], [-0.5, 0.7, 4.4]])
    kinds = [(cubic, ideal), (cubic, swapped), (hexagon, hexagonal), (triclinic, low)]
    cells, fracs = [], []
    for k in range(n):
        cell, frac = (
            kinds[k % 5] if k % 5 < 4 else (triclinic + rng.normal(0, 0.8, (3, 3)), rng.random((5, 3)))
        )
        strain = rng.normal(0, (0, 0.02, 0.05)[k % 3], (3, 3))
        frac = frac + rng.normal(0, (0, 0.02, 0.05, 0.08)[k % 4], (5, 3)) + rng.random(3)
        transform = np.eye(3)
        i, j = rng.choice(3, 2, replace=False)
        transform[i] += rng.integers(-1, 2) * transform[j]
        transform *= rng.choice([-1, 1])
        cell = cell @ (np.eye(3) + strain + strain.T) * rng.uniform(0.9, 1.1)
        cells.append(transform @ cell)
        fracs.append(frac @ np.linalg.inv(transform))
    return Crystals.from_arrays(cells, fracs, [[38, 22, 8, 8, 8]] * n)


def groups(crystals: Crystals, matcher: Matcher) -> list[int]:
    """The first member of each crystal's group, by pymatgen."""
    structures = crystals.structures()
    place = {id(structure): k for k, structure in enumerate(structures)}
    first = [-1] * len(structures)
    for group in reference(matcher).group_structures(structures):
        members = [place[id(structure)] for structure in group]
        for k in members:
            first[k] = members[0]
    return first


@pytest.mark.parametrize("matcher", TOLERANCES)
def test_groups_are_pymatgens(matcher: Matcher) -> None:
    crystals = perovskites(30)
    expected = groups(crystals, matcher)
    assert 3 < len(set(expected)) < 30
    assert matcher.group(crystals).tolist() == expected


@pytest.mark.parametrize("matcher", TOLERANCES)
def test_one_against_many_is_pymatgens(matcher: Matcher) -> None:
    crystals = perovskites(30, seed=1)
    truth, candidates = crystals[0], crystals[1:]
    fits, rms = matcher.fits(truth, candidates), matcher.rms(truth, candidates)
    [structure] = truth.structures()
    others = candidates.structures()
    assert fits.tolist() == [reference(matcher).fit(structure, other) for other in others]
    assert 0 < int(fits.sum()) < 29
    for mine, other in zip(rms.tolist(), others, strict=True):
        expected = reference(matcher).get_rms_dist(structure, other)
        assert math.isnan(mine) if expected is None else mine == pytest.approx(expected[0], abs=1e-5)


def test_needles_and_several_formula_units() -> None:
    """Thin cells, in which the site tolerance reaches round the cell, and tied rarest elements."""
    rng = np.random.default_rng(4)
    layer = np.array([[0, 0, 0], [1 / 3, 2 / 3, 0.06]])
    batch_cells, batch_fracs = [], []
    for stacking in ([0, 1, 2], [0, 1, 0], [0, 2, 1], [0, 1, 1], [0, 1, 2], [0, 0, 1]) * 3:
        shifts = np.array([[s / 3, 2 * s / 3, k / 3] for k, s in enumerate(stacking)])
        frac = (shifts[:, None] + layer).reshape(-1, 3) + rng.normal(0, 0.004, (6, 3))
        batch_cells.append(np.array([[3.8, 0, 0], [-1.9, 3.291, 0], [0, 0, 12.0]]))
        batch_fracs.append(frac)
    crystals = Crystals.from_arrays(batch_cells, batch_fracs, [[30, 16] * 3] * 18)
    for matcher in (Matcher.DEFAULT, Matcher(0.2, 0.1, 5.0)):
        assert matcher.group(crystals).tolist() == groups(crystals, matcher)


def test_other_compositions_and_sizes_never_match() -> None:
    crystals = perovskites(2)
    other = Crystals(crystals.cell, crystals.frac, crystals.numbers.clone(), crystals.offsets)
    other.numbers[other.numbers == 38] = 56
    mixed = Crystals.cat([crystals, other])
    assert Matcher().group(mixed).tolist()[2:] == [k + 2 for k in Matcher().group(other).tolist()]
    assert not Matcher().fits(crystals[0], other).any()
    assert torch.isnan(Matcher().rms(crystals[0], other)).all()


def test_a_supercell_is_the_same_crystal() -> None:
    crystal = perovskites(1)
    doubled = Crystals.from_structures([crystal.structures()[0] * (2, 1, 1)])
    assert Matcher().fits(crystal, doubled).tolist() == [True]
    assert float(Matcher().rms(crystal, doubled)) < 1e-6


def test_empty() -> None:
    assert Matcher().group(Crystals.empty()).shape == (0,)
    assert Matcher().fits(perovskites(1), Crystals.empty()).shape == (0,)
    with pytest.raises(ValueError, match="one crystal"):
        Matcher().fits(perovskites(2), perovskites(1))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@needs(STRUCTURES)
def test_groups_of_a_thousand_library_templates_are_pymatgens() -> None:
    from benchmarks.throughput.deduplication import mixed_candidates

    crystals = mixed_candidates(1000, library=STRUCTURES)
    assert Matcher.DEFAULT.group(crystals).tolist() == groups(crystals, Matcher.DEFAULT)
