"""Ways to give orbits to elements, against all there are."""

import itertools

import numpy as np
import pytest

from csp.library.library import Library
from generators.templates.orbits import MAX_WAYS, OrbitIndex, ways_to_fill


@pytest.mark.parametrize(
    ("sizes", "amounts"),
    [
        ((24, 8, 6, 4), (6, 12, 24)),
        ((4, 2, 2, 1, 1), (1, 4, 5)),
        ((4, 4, 2, 2), (6, 6)),
        ((3, 3), (2, 4)),
        ((2, 2, 2, 1, 1, 1), (1, 3, 5)),
        ((5,), (5,)),
    ],
)
def test_ways_are_those_of_trying_all(sizes: tuple[int, ...], amounts: tuple[int, ...]) -> None:
    everything = itertools.product(range(len(amounts)), repeat=len(sizes))
    exact = {
        way
        for way in everything
        if all(sum(s for s, e in zip(sizes, way, strict=True) if e == k) == n for k, n in enumerate(amounts))
    }
    found = ways_to_fill(sizes, amounts)
    assert {tuple(way) for way in found.tolist()} == exact
    assert len(found) == len(exact)


def test_too_many_ways_are_none() -> None:
    assert len(ways_to_fill((1,) * 8, (4, 4))) == 70 < MAX_WAYS  # 8 over 4
    assert len(ways_to_fill((1,) * 16, (8, 8))) == 0  # 12,870


def test_orbits_of_spinel() -> None:
    library = Library.open()
    rows = np.flatnonzero(library.material_id == "aflow:A2BC4_cF56_227_c_b_e-001")
    [cell] = OrbitIndex(library).of(rows)
    assert cell is not None
    sizes = {cell.letters[k]: int((cell.orbits == cell.orbits[k]).sum()) for k in range(len(cell.numbers))}
    assert (cell.space_group, sorted(sizes.values())) == (227, [2, 4, 8])
