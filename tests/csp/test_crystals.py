"""The currency: indexing against Python loops, ids, borders."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from csp.crystals import Crystals, ranges


def some() -> Crystals:
    rng = np.random.default_rng(0)
    sizes = [3, 1, 4, 2]
    return Crystals.from_arrays(
        rng.normal(size=(4, 3, 3)) + 4 * np.eye(3),
        [rng.uniform(-1, 2, (k, 3)) for k in sizes],
        [rng.integers(1, 90, k) for k in sizes],
    )


def same(a: Crystals, b: Crystals) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in Crystals.__slots__)


def test_ranges_is_a_loop_of_arange() -> None:
    starts, lengths = torch.tensor([5, 0, 7, 2]), torch.tensor([2, 0, 3, 1])
    expected = torch.cat([torch.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
    assert torch.equal(ranges(starts, lengths), expected)
    assert ranges(starts[:0], lengths[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (2, [2]),
        (-1, [3]),
        (slice(1, 3), [1, 2]),
        ([3, 0, 0], [3, 0, 0]),
        ([], []),
        (torch.tensor([True, False, False, True]), [0, 3]),
        (np.array([1, 2]), [1, 2]),
    ],
)
def test_indexing_picks_whole_crystals(index: object, rows: list[int]) -> None:
    crystals, arrays = some(), some().arrays()
    chosen = crystals[index].arrays()  # type: ignore[index]
    assert len(chosen) == len(rows)
    for got, row in zip(chosen, rows, strict=True):
        for mine, theirs in zip(got, arrays[row], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_cat_undoes_slicing() -> None:
    crystals = some()
    assert same(Crystals.cat([crystals[:1], Crystals.empty(), crystals[1:]]), crystals)
    assert len(Crystals.cat([])) == 0


def test_positions_and_volumes_by_pymatgen() -> None:
    crystals = some()
    for b, structure in enumerate(crystals.structures()):
        mine = crystals[b]
        np.testing.assert_allclose(mine.positions.numpy(), structure.cart_coords, atol=1e-12)
        assert float(mine.volumes) == pytest.approx(structure.volume)
        assert mine.numbers.tolist() == list(structure.atomic_numbers)


def test_structures_and_atoms_come_back() -> None:
    crystals = some()
    for back in (Crystals.from_structures(crystals.structures()), Crystals.from_atoms(crystals.atoms())):
        torch.testing.assert_close(back.cell, crystals.cell)
        torch.testing.assert_close(back.frac, crystals.frac)
        assert torch.equal(back.numbers, crystals.numbers)


def test_ids_see_contents_and_nothing_else() -> None:
    crystals = some()
    ids = crystals.ids()
    assert len(set(ids)) == 4
    assert crystals.wrapped().ids() == ids
    assert crystals[[2, 0]].ids() == [ids[2], ids[0]]
    assert crystals.with_geometry(crystals.cell + 1e-9, crystals.frac - 1e-9).ids() == ids
    assert set(crystals.with_geometry(crystals.cell, crystals.frac + 1e-4).ids()).isdisjoint(ids)
    assert set(crystals.with_geometry(crystals.cell * 1.001, crystals.frac).ids()).isdisjoint(ids)


def test_an_atom_just_below_one_has_the_id_of_zero() -> None:
    def at(x: float) -> str:
        return Crystals.from_structures([Structure(Lattice.cubic(3), ["Po"], [[x, 0, 0]])]).ids()[0]

    assert at(1 - 1e-9) == at(0.0) == at(-1e-9)


def test_wrapped_is_inside() -> None:
    crystals = some().with_geometry(some().cell, torch.full_like(some().frac, -1e-18))
    assert bool(((crystals.wrapped().frac >= 0) & (crystals.wrapped().frac < 1)).all())


def test_scaled_to() -> None:
    target = torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(some().scaled_to(target).volumes, target)
