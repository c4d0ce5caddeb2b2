"""Powder patterns at any wavelength from one calculation, against pymatgen's own at that wavelength."""

from __future__ import annotations

import math

import pytest
from ase.build import bulk
from pymatgen.analysis.diffraction.xrd import WAVELENGTHS as TABULATED
from pymatgen.analysis.diffraction.xrd import XRDCalculator
from pymatgen.io.ase import AseAtomsAdaptor

from csp.report.powder import WAVELENGTHS, lorentz_polarization, powder_pattern
from tests.csp.report.test_description import molybdenite, rutile


@pytest.mark.parametrize("tube", ["CuKa", "MoKa", "CoKa"])
def test_intensities_are_those_of_a_calculation_at_that_wavelength(tube: str) -> None:
    wavelength = TABULATED[tube]
    for atoms in (rutile(), molybdenite(12.3)):
        structure = AseAtomsAdaptor.get_structure(atoms)
        most = min(90.0, math.degrees(2 * math.asin(min(1.0, wavelength / 2.0))) - 1e-6)
        expected = XRDCalculator(wavelength).get_pattern(structure, two_theta_range=(0, most))
        theirs = {round(d, 4): y for d, y in zip(expected.d_hkls, expected.y, strict=True) if y > 2.0}
        found = {
            round(p.spacing, 4): p.strength * lorentz_polarization(math.asin(wavelength / (2 * p.spacing)))
            for p in powder_pattern(structure)
            if wavelength / (2 * p.spacing) < math.sin(math.radians(most / 2))
        }
        strongest = max(found.values())
        assert theirs.keys() <= found.keys()
        for spacing, intensity in theirs.items():
            assert 100 * found[spacing] / strongest == pytest.approx(intensity, rel=1e-3)


def test_reflections_of_face_centred_cells_have_indices_all_even_or_all_odd() -> None:
    structure = AseAtomsAdaptor.get_structure(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    reflections = powder_pattern(structure)
    assert [p.planes for p in reflections[:3]] == ["111", "200", "220"]
    for p in reflections:
        for indices in ([int(digit) for digit in planes] for planes in p.planes.split(", ")):
            assert len({i % 2 for i in indices}) == 1
            assert p.spacing == pytest.approx(5.64 / math.sqrt(sum(i * i for i in indices)), abs=1e-6)


def test_wavelengths_are_the_tabulated_ones() -> None:
    for name, wavelength in WAVELENGTHS.items():
        assert wavelength == pytest.approx(TABULATED[name.replace(" ", "").replace("α", "a")], abs=1e-5)
