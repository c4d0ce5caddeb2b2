"""Crystals to descriptions and back, and the one description of all equivalent ones."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.library.library import Library
from csp.matching.matcher import Matcher
from generators.space_group.canonical import describe
from generators.space_group.dataset import build_table, read_table
from generators.space_group.representation import WyckoffRepresentation, build_crystals
from generators.space_group.tokens import letters_allowed
from tests.places import SHARED, needs

STRUCTURES = SHARED / "data" / "mp_structures.parquet"
pytestmark = needs(STRUCTURES)


def sample(n: int, seed: int) -> Crystals:
    """Crystals of the library, of at most 24 atoms."""
    table = pq.read_table(STRUCTURES, columns=["cell", "numbers", "frac_coords"], memory_map=True)
    rows = np.sort(np.random.default_rng(seed).choice(len(table), 4 * n, replace=False))
    some = table.take(rows).to_pydict()
    small = [k for k in range(len(rows)) if len(some["numbers"][k]) <= 24][:n]
    return Crystals.from_arrays(
        [some["cell"][k] for k in small],
        [np.reshape(some["frac_coords"][k], (-1, 3)) for k in small],
        [some["numbers"][k] for k in small],
    )


@pytest.fixture(scope="module")
def described() -> tuple[Crystals, WyckoffRepresentation]:
    crystals = sample(40, seed=0)
    found, kept, failed = describe(crystals)
    assert not failed
    assert len(kept) == 40
    return crystals, found


def disguised(crystals: Crystals, rng: np.random.Generator) -> Crystals:
    """The same crystals with other cells, origins, orientations, handedness and orders of atoms."""
    cells, fracs, numbers = [], [], []
    for cell, frac, species in crystals.arrays():
        change = np.eye(3)
        for _ in range(3):
            i, j = rng.choice(3, 2, replace=False)
            shear = np.eye(3)
            shear[i, j] = rng.integers(-1, 2)
            change = shear @ change
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        order = rng.permutation(len(species))
        cells.append(change @ cell @ turn)
        fracs.append((frac @ np.linalg.inv(change) + rng.random(3))[order] % 1.0)
        numbers.append(species[order])
    return Crystals.from_arrays(cells, fracs, numbers)


def test_round_trip(described):
    crystals, found = described
    built = build_crystals(found)
    assert (built.n_atoms == found.n_atoms).all()
    assert all(bool(Matcher.DEFAULT.fits(crystals[b], built[b])[0]) for b in range(len(built)))
    volume = crystals.volumes / crystals.n_atoms  # matching says nothing about it
    torch.testing.assert_close(built.volumes / built.n_atoms, volume, rtol=1e-2, atol=0)
    assert space_groups(built, 1e-3) == found.group.tolist()


def test_equivalent_descriptions_are_one(described):
    _, found = described
    again, kept, _ = describe(disguised(build_crystals(found), np.random.default_rng(1)), symprec=1e-2)
    assert len(kept) == len(found)
    for name in ("group", "z", "number", "count", "element", "position"):
        assert torch.equal(getattr(again, name), getattr(found, name)), name
    gap = again.point - found.point
    assert (gap - gap.round()).abs().max() < 2e-3
    torch.testing.assert_close(again.lattice, found.lattice, rtol=0, atol=5e-3)


def test_letters_were_allowed(described):
    _, found = described
    bits = letters_allowed(found)
    assert len(bits) == len(found.position)
    wrong = WyckoffRepresentation.cat([found])
    wrong.count[0] += 1  # an orbit is missing now
    with pytest.raises(InputError, match="no assignment"):
        letters_allowed(wrong[torch.tensor([0])])


def test_choosing_and_joining(described):
    _, found = described
    picked = found[torch.tensor([3, 1])]
    assert picked.group.tolist() == [int(found.group[3]), int(found.group[1])]
    joined = WyckoffRepresentation.cat([found[torch.tensor([3])], found[torch.tensor([1])]])
    assert build_crystals(joined).ids() == build_crystals(picked).ids()


def test_a_table_is_made_once_and_of_one_library(tmp_path):
    with pytest.raises(MissingError, match="space-group-data"):
        read_table(tmp_path)
    some = pq.read_table(STRUCTURES, memory_map=True).slice(0, 12)
    pq.write_table(some, tmp_path / "some.parquet")
    counts = build_table(tmp_path / "some.parquet", tmp_path / "table", log=lambda line: None)
    assert counts.total() == 12
    table = read_table(tmp_path / "table")
    assert len(table) == counts["described"]
    names = dict(zip(some["material_id"].to_pylist(), some["spacegroup"].to_pylist(), strict=True))
    assert [names[i] for i in table.ids] == table.representation.group.tolist()
    assert len(table[torch.tensor([1])].allowed) == int(table.representation.n_orbits[1])
    written = (tmp_path / "table" / "shard-0000.npz").stat().st_mtime_ns
    assert build_table(tmp_path / "some.parquet", tmp_path / "table", log=lambda line: None) == counts
    assert (tmp_path / "table" / "shard-0000.npz").stat().st_mtime_ns == written
    pq.write_table(some.slice(1), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="another library"):
        build_table(tmp_path / "other.parquet", tmp_path / "table", log=lambda line: None)
    assert len(Library.open(tmp_path / "some.parquet")) == 12
