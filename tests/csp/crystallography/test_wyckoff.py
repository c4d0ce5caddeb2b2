"""The table of Wyckoff positions against pymatgen's, PyXtal's and the definition."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch

from csp.crystallography import symmetry
from csp.crystallography.build_wyckoff_table import harvest, orbit, parse
from csp.crystallography.wyckoff import LETTERS, crystal_systems, wyckoff_table
from csp.target import CRYSTAL_SYSTEMS

TABLE = wyckoff_table()


def test_all_positions_are_there():
    assert len(TABLE.letter) == 1731
    for group in range(1, 231):
        positions = TABLE.positions(group)
        letters = [LETTERS[k] for k in TABLE.letter[positions.start : positions.stop]]
        assert letters == list(LETTERS[: len(letters)])
    with pytest.raises(IndexError):
        TABLE.positions(231)


def test_multiplicities_and_freedom_are_pymatgens():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymatgen.analysis.prototypes._data import WYCKOFF_MULTIPLICITY_DICT, WYCKOFF_POSITION_PARAM_DICT
    for group in range(1, 231):
        for p in TABLE.positions(group):
            letter = LETTERS[TABLE.letter[p]]
            mine = int(TABLE.multiplicity[p]), int(TABLE.degrees_of_freedom[p])
            theirs = (
                WYCKOFF_MULTIPLICITY_DICT[str(group)][letter],
                WYCKOFF_POSITION_PARAM_DICT[str(group)][letter],
            )
            assert mine == theirs, (group, letter)


def test_primitive_cells_hold_a_share_of_the_atoms():
    order = torch.linalg.det(TABLE.to_primitive).round().long()
    for group in range(1, 231):
        for p in TABLE.positions(group):
            assert TABLE.n_atoms[p] * order[group] == TABLE.multiplicity[p]
    torch.testing.assert_close(TABLE.to_primitive, TABLE.to_primitive.round())


def test_maps_are_orbits_of_the_group():
    """Each operation takes the atoms of a position onto each other; all are distinct."""
    rng = np.random.default_rng(0)
    for group in range(1, 231):
        operations = slice(*TABLE.first_operation[group : group + 2].tolist())
        basis = TABLE.to_primitive[group].numpy()
        rotation = basis @ TABLE.operation_rotation[operations].numpy() @ np.linalg.inv(basis)
        translation = TABLE.operation_translation[operations].numpy() @ basis.T
        for p in TABLE.positions(group):
            maps = slice(*TABLE.first_map[p : p + 2].tolist())
            atoms = TABLE.map_rotation[maps].numpy() @ rng.random(3) + TABLE.map_translation[maps].numpy()
            images = np.einsum("gij,aj->gai", rotation, atoms) + translation[:, None]
            gap = images[:, :1, None] - atoms  # where the first atom goes
            gap = np.abs(gap - np.rint(gap)).max(axis=-1)
            assert ((gap < 1e-9).sum(axis=-1) == 1).all(), (group, p)
            among = atoms[:, None] - atoms
            among = np.abs(among - np.rint(among)).max(axis=-1)
            assert (among < 1e-9).sum() == len(atoms), (group, p)


def test_freedom_is_what_the_maps_depend_on():
    for p in range(len(TABLE.letter)):
        maps = slice(*TABLE.first_map[p : p + 2].tolist())
        assert (TABLE.map_rotation[maps].abs().sum((0, 1)) > 0).tolist() == TABLE.free[p].tolist()
        assert torch.linalg.matrix_rank(TABLE.map_rotation[maps][0]) == TABLE.degrees_of_freedom[p]


def test_crystal_systems():
    names = [list(CRYSTAL_SYSTEMS)[k] for k in crystal_systems(np.arange(1, 231))]
    assert names == [symmetry.crystal_system(g) for g in range(1, 231)]


@pytest.mark.parametrize("group", [2, 14, 62, 148])
def test_the_table_is_what_its_generator_makes(group):
    rotations, translations, to_primitive = symmetry.standard_operations(group)
    for p, (letter, multiplicity, site_symmetry, coordinates) in zip(
        TABLE.positions(group), harvest(group), strict=True
    ):
        assert letter == LETTERS[TABLE.letter[p]]
        assert multiplicity == TABLE.multiplicity[p]
        assert (site_symmetry, coordinates) == (TABLE.site_symmetry[p], TABLE.coordinates[p])
        maps = slice(*TABLE.first_map[p : p + 2].tolist())
        matrix, shift = orbit(*parse(coordinates), rotations, translations, to_primitive)
        np.testing.assert_allclose(TABLE.map_rotation[maps], matrix)
        np.testing.assert_allclose(TABLE.map_translation[maps] * 24, shift)


def test_coordinates_are_read():
    matrix, shift = parse("-x+1/2, 2x, y+z+3/4")
    assert matrix.tolist() == [[-1, 0, 0], [2, 0, 0], [0, 1, 1]]
    assert shift.tolist() == [0.5, 0, 0.75]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_positions_are_pyxtals():
    """A generic point of each of PyXtal's positions lies on ours of that letter, with the same orbit."""
    from pyxtal.symmetry import Group

    rng = np.random.default_rng(1)
    shifts = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    for number in range(1, 231):
        group = Group(number)
        basis = TABLE.to_primitive[number].numpy()
        operations = slice(*TABLE.first_operation[number : number + 2].tolist())
        rotation = TABLE.operation_rotation[operations].numpy()
        translation = TABLE.operation_translation[operations].numpy()
        theirs = {position.letter: position for position in group.Wyckoff_positions}
        for p in TABLE.positions(number):
            position = theirs[LETTERS[TABLE.letter[p]]]
            points = np.array([op.operate(rng_point) for rng_point in [rng.random(3)] for op in position.ops])
            assert len(points) == TABLE.multiplicity[p]
            images = rotation @ points[0] + translation
            gap = images[:, None] - points
            assert (np.abs(gap - np.rint(gap)).max(axis=-1) < 1e-6).any(axis=1).all(), (
                number,
                position.letter,
            )
            maps = slice(*TABLE.first_map[p : p + 2].tolist())
            matrix = TABLE.map_rotation[maps].numpy()
            off = (basis @ points[0]) - TABLE.map_translation[maps].numpy()
            off = off[:, None] - off.round()[:, None] - shifts  # [m, 125, 3]
            off = np.einsum("mij,mnj->mni", np.eye(3) - matrix @ np.linalg.pinv(matrix), off)
            assert (np.abs(off).max(axis=-1) < 1e-6).any(), (number, position.letter)
