"""What proposals say of themselves, checked against spglib, and lies that are found out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import spglib

from benchmarks.generation.validity import Exact, exact
from csp.crystallography.wyckoff import LETTERS, wyckoff_table
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
def test_counts_are_those_of_spglib():
    target = Target.parse("TiO2", max_atoms=12)
    made = RandomGenerator(Library.open(), VolumePrior.load()).propose(target, 60, seed=1)
    found = exact(target, made)
    n = len(made.crystals)
    assert (found.composition, found.above) == (n, n)
    table = wyckoff_table()
    same = free = 0
    for crystal, row in zip(made.crystals.arrays(), made.provenance, strict=True):
        rows = [
            int(table.first[row.space_group]) + LETTERS.index(s.split(":")[1]) for s in row.wyckoff.split()
        ]
        if table.free[rows].any():
            free += 1
            same += spglib.get_symmetry_dataset(crystal, 1e-3).number == row.space_group
    assert (found.free, found.same) == (free, same)
    assert same > 0


def test_lies_are_found_out():
    target = Target.parse("NaCl", z=1, space_groups=frozenset({1, 225}))
    made = RandomGenerator(Library.open(), VolumePrior.load()).propose(target, 20, seed=0)
    low = [k for k, row in enumerate(made.provenance) if row.space_group == 1]
    some = replace(made, crystals=made.crystals[low], provenance=[made.provenance[k] for k in low])
    assert exact(target, some) == Exact(len(low), len(low), exact(target, some).same, len(low))
    claimed = replace(
        some, provenance=[replace(p, space_group=225, wyckoff="Na:a Cl:b") for p in some.provenance]
    )
    assert exact(target, claimed) == Exact(len(low), 0, 0, 0)
    assert exact(Target.parse("NaCl3"), some).composition == 0
