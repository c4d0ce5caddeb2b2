"""RadialCounts against hand counts and invariances; clusters; the cache."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from csp.crystals import Crystals
from csp.library.library import Library
from csp.target import Target
from generators.templates.prototypes import PrototypeIndex, clustered, equal_places, radial_counts


def kinds(crystals: Crystals, elements: list[int]) -> Crystals:
    return replace(crystals, numbers=(crystals.numbers[:, None] == torch.tensor(elements)).int().argmax(1))


def make_library(crystals: Crystals, space_group: list[int]) -> Library:
    n = len(crystals)
    names = np.array([f"c{b}" for b in range(n)], dtype=object)
    return Library(
        name="made",
        material_id=names,
        space_group=np.array(space_group),
        n_atoms=crystals.n_atoms.numpy(),
        origin=(names, names),
        _cell=crystals.cell.float().numpy(),
        _numbers=crystals.numbers.numpy().astype(np.uint8),
        _frac=crystals.frac.float().numpy(),
        _n_primitive=np.zeros(n, np.int64),
    )


def test_shells_of_caesium_chloride() -> None:
    cubic = Crystals.from_arrays([4.0 * np.eye(3)], [[[0, 0, 0], [0.5, 0.5, 0.5]]], [[0, 1]])
    found = radial_counts(cubic, 2)[0]
    # V/N = 32 Å³: like atoms at 4.0 Å = 1.26, unlike ones at 3.46 Å = 1.09
    assert found[0, 1, 2] < 0.01  # within 0.81
    assert found[0, 1, -1] == pytest.approx(8, abs=0.01)
    assert 4 < found[0, 0, -1] < 6  # 6, smeared at 1.35
    assert torch.allclose(found[0, 1], found[1, 0])


def test_shells_do_not_depend_on_cell_size_or_choice() -> None:
    library = Library.open()
    rutile = library.crystals(np.flatnonzero(library.material_id == "aflow:A2B_tP6_136_f_a-001"))
    elements = sorted(set(rutile.numbers.tolist()))
    structure = rutile.structures()[0]
    structure.translate_sites(range(len(structure)), [0.1, 0.2, 0.3])
    structure.make_supercell([[1, 1, 0], [0, 1, 0], [0, 1, 2]])
    other = Crystals.from_structures([structure]).scaled_to(torch.tensor([300.0]))
    assert torch.allclose(
        radial_counts(kinds(rutile, elements), 2), radial_counts(kinds(other, elements), 2), atol=1e-6
    )


@pytest.mark.parametrize(
    ("anonymous", "n"), [((1, 3), 1), ((1, 1, 3), 2), ((1, 1, 1, 2, 2), 12), ((1,) * 6, 1)]
)
def test_equal_places(anonymous: tuple[int, ...], n: int) -> None:
    orders = equal_places(anonymous)
    assert len({tuple(order) for order in orders.tolist()}) == len(orders) == n
    assert orders[0].tolist() == list(range(len(anonymous)))
    assert (np.array(anonymous)[orders] == np.array(anonymous)).all()


def test_clusters_of_binaries() -> None:
    """Rock salt, caesium chloride and a layered crystal, with all kinds of elements in their places."""
    salt = [np.full((3, 3), 2.8) - np.diag([2.8] * 3), [[0, 0, 0], [0.5, 0.5, 0.5]]]
    caesium = [4.1 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]]]
    polar = [np.diag([3.0, 3.0, 7.0]), [[0, 0, 0], [0, 0, 0.3]]]
    made = [
        (salt, (11, 17), 225),
        (salt, (19, 9), 225),  # the larger atomic number in the other place: the same structure
        (caesium, (55, 17), 221),
        (polar, (3, 8), 99),
        (polar, (8, 3), 99),
        (salt, (20, 8), 221),  # told apart by its space group
    ]
    crystals = Crystals.from_arrays([m[0][0] for m in made], [m[0][1] for m in made], [m[1] for m in made])
    found = clustered(make_library(crystals, [m[2] for m in made]), (1, 1))
    assert found.number.tolist() == [0, 0, 1, 2, 2, 3]
    assert [len(symmetry) for symmetry in found.symmetry[:2]] == [2, 2]
    assert {frozenset(row) for row in found.elements.tolist()} == {frozenset(m[1]) for m in made}


def test_places_of_unequal_surroundings_are_aligned() -> None:
    """In nickel arsenide the two kinds have different shells: an entry whose metal has the higher atomic
    number lies on the same places as one whose metal has the lower."""
    library = Library.open()
    nias = library.crystals(np.flatnonzero(library.material_id == "aflow:AB_hP4_194_c_a-001"))
    arsenic, nickel = 33, 28
    swap = {nickel: 81, arsenic: 16}  # thallium in the place of nickel, sulphur in that of arsenic
    other = replace(nias, numbers=torch.tensor([swap[z] for z in nias.numbers.tolist()]))
    found = clustered(make_library(Crystals.cat([nias, other]), [194, 194]), (1, 1))
    assert found.number.tolist() == [0, 0]
    assert len(found.symmetry[0]) == 1
    assert [swap[z] for z in found.elements[0].tolist()] == found.elements[1].tolist()


def test_index_keeps_views_apart_and_reads_what_it_wrote(tmp_path: Path) -> None:
    library = Library.open()
    anonymous = (1, 1, 3)
    first = PrototypeIndex(library, tmp_path).of(anonymous)
    again = PrototypeIndex(library, tmp_path).of(anonymous)
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    fresh = clustered(library, anonymous)
    for one, other in itertools.combinations((first, again, fresh), 2):
        assert (one.rows == other.rows).all()
        assert (one.elements == other.elements).all()
        assert (one.number == other.number).all()
        assert all((a == b).all() for a, b in zip(one.symmetry, other.symmetry, strict=True))

    view = library.excluding(Target.parse("CaTiO3"))
    hidden = PrototypeIndex(view, tmp_path).of(anonymous)
    assert len(list(tmp_path.rglob("*.npz"))) == 1  # of the whole library: shared
    assert set(first.rows) - set(hidden.rows) == set(view.hidden)
    assert set(hidden.number.tolist()) == set(range(len(hidden)))


def test_no_entries(tmp_path: Path) -> None:
    assert len(PrototypeIndex(Library.open(), tmp_path).of((3, 7, 11))) == 0
