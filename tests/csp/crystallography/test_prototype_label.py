"""Labels of structure types against those that the AFLOW encyclopedia gives its own crystals."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from csp.crystallography.prototype_label import prototype_label
from csp.crystals import Crystals
from csp.library.library import Library


def of(group: int, lattice: Lattice, species: list[str], sites: list[list[float]]) -> Crystals:
    return Crystals.from_structures([Structure.from_spacegroup(group, lattice, species, sites)])


@pytest.mark.parametrize(
    ("crystal", "label"),
    [
        (of(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]), "AB_cF8_225_a_b"),
        (of(227, Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]), "A_cF8_227_a"),
        # perovskite, whichever of the two corners is called the origin
        (
            of(221, Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0.5] * 3, [0] * 3, [0.5, 0, 0]]),
            "A3BC_cP5_221_c_a_b",
        ),
        (
            of(221, Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0] * 3, [0.5] * 3, [0, 0.5, 0.5]]),
            "A3BC_cP5_221_c_a_b",
        ),
        (
            of(
                194, Lattice.hexagonal(3.16, 12.3), ["Mo", "S"], [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.621]]
            ),
            "AB2_hP6_194_c_f",
        ),
        (
            of(167, Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]),
            "A2B3_hR10_167_c_e",
        ),
    ],
)
def test_common_types(crystal: Crystals, label: str) -> None:
    assert prototype_label(crystal, 1e-3) == label
    double = crystal.structures()[0].make_supercell([1, 1, 2])
    assert prototype_label(Crystals.from_structures([double]), 1e-3) == label


def test_nearly_all_labels_of_the_encyclopedia() -> None:
    """A few keep older letters."""
    library = Library.open()
    rows = library.all_rows()
    rows = rows[(library.n_atoms[rows] <= 30) & ~library.stand_in(rows)][::3]
    crystals = library.crystals(rows)
    same = [
        prototype_label(crystals[k], 1e-3) == str(library.material_id[row])[6:].rsplit("-", 1)[0]
        for k, row in enumerate(rows.tolist())
    ]
    assert np.mean(same) > 0.97


def test_a_crystal_without_symmetry_has_a_label_too_and_overlapping_atoms_none() -> None:
    cell = np.diag([4.0, 5.0, 6.0]) + 0.3
    low = Crystals.from_arrays([cell], [[[0, 0, 0], [0.31, 0.22, 0.17]]], [[11, 17]])
    assert prototype_label(low, 1e-3) == "AB_aP2_1_a_a"
    crowded = Crystals.from_arrays([cell], [[[0, 0, 0], [0, 0, 1e-5]]], [[11, 11]])
    assert prototype_label(crowded, 0.01) == ""
