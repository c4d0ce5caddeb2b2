"""Pools: what is drawn is found, what cannot be drawn is not; counts by set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.generation.pools import ARMS, measure, pooled, summary
from benchmarks.generation.validity import Exact
from benchmarks.targets import Known
from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from tests.lennard_jones import LennardJones


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.open()


def named(library: Library, name: str) -> Crystals:
    (row,) = np.flatnonzero(library.material_id == name)
    return primitive(library.crystals([int(row)]))


def test_a_pool_of_one_structure_holds_it_and_no_other(library: Library) -> None:
    volume = VolumePrior.load()
    target = Target.parse("NaCl", z=1, space_groups=frozenset({225}))  # rock salt is all that there is
    generator, per_atom = RandomGenerator(library, volume), volume.predict((11, 17), (1, 1)) / 2
    salt = named(library, "aflow:AB_cF8_225_a_b-001")
    found = pooled(Known(target, salt), generator, LennardJones(), 20, per_atom, seed=0)
    assert (found.built, found.proposed, found.rank) == (20, 20, 1)
    assert found.exact == Exact(composition=20, free=0, same=0, above=20)
    square = Crystals.from_arrays([np.diag([3.0, 3.0, 9.0])], [[[0, 0, 0], [0.5, 0.5, 0.2]]], [[11, 17]])
    missed = pooled(Known(target, square), generator, LennardJones(), 20, per_atom, seed=0)
    assert (missed.proposed, missed.rank) == (0, None)


def test_counts_by_set() -> None:
    def arm(proposed: int, rank: int | None) -> dict[str, Any]:
        exact = {"composition": 5, "free": 4, "same": 3, "above": 4 + proposed % 2}
        return {"built": 5, "distinct": 4, "proposed": proposed, "rank": rank, "exact": exact}

    rows = [
        {"set": "a", "formula": "X", "learned": arm(2, 1), "random": arm(0, None)},
        {"set": "a", "formula": "Y", "learned": arm(1, 11), "random": arm(1, None)},
        {"set": "b", "formula": "Z", "learned": arm(0, 10), "random": arm(0, 3)},
    ]
    found = summary(rows)
    assert {found.pop(f"composition_exact.{arm}.{name}") for arm in ARMS for name in "ab"} == {1.0}
    assert {found.pop(f"group_kept.{arm}.{name}") for arm in ARMS for name in "ab"} == {0.75}
    above = [found.pop(f"group_or_above.{arm}.{name}") for arm in ARMS for name in "ab"]
    assert above == [0.9, 0.8, 0.9, 0.8]
    assert found == {
        "proposed_in_pool.learned.a": 2,
        "found_in_pool.learned.a": 2,
        "found_at_10.learned.a": 1,
        "proposed_in_pool.random.a": 1,
        "found_in_pool.random.a": 0,
        "found_at_10.random.a": 0,
        "n.a": 2,
        "proposed_in_pool.learned.b": 0,
        "found_in_pool.learned.b": 1,
        "found_at_10.learned.b": 1,
        "proposed_in_pool.random.b": 0,
        "found_in_pool.random.b": 1,
        "found_at_10.random.b": 1,
        "n.b": 1,
    }


def test_an_arm_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"drawn by 'template'; choose among learned, random"):
        measure(
            "heldout",
            tmp_path,
            None,
            tmp_path,
            size=1,
            model=LennardJones(),
            weights=None,
            arms=["learned", "template"],
            limit=None,
            seed=0,
            say=print,
        )
