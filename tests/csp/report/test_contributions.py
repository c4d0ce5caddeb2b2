"""What the page says of contributions: sites add up, and its cell has those of the crystal as given."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

import csp
from csp.crystallography.symmetry import _symmetrized_by_spglib, symmetrized
from csp.crystals import Crystals
from csp.property_value import Contributions, PropertyValue
from csp.report.contributions import site_shares
from csp.report.description import describe
from tests.csp.report.example import page_of, prediction

ANATASE = crystal(
    ["Ti", "O"], [(0, 0, 0), (0, 0, 0.208)], spacegroup=141, cellpar=[3.79, 3.79, 9.51, 90, 90, 90]
)
GIVEN = {
    "a primitive cell": bulk("NaCl", "rocksalt", a=5.64),
    "a supercell": bulk("CaF2", "fluorite", a=5.46).repeat((1, 2, 1)),
    "its conventional cell": ANATASE,
}
VALUE = PropertyValue("hardness", "hardness", "GPa", 60.0, 4.0, 52.0, 68.0, 1.0, False, "hardness")


def shuffled(atoms: Atoms) -> Crystals:
    """Turned, shifted, in another order, a little out of symmetry."""
    rng = np.random.default_rng(0)
    atoms = atoms[rng.permutation(len(atoms))]
    atoms.rotate(30, (1, 2, 3), rotate_cell=True)
    atoms.positions += rng.normal(size=3) + rng.normal(scale=1e-3, size=(len(atoms), 3))
    return Crystals.from_atoms([atoms])


@pytest.mark.parametrize("name", GIVEN)
def test_the_cell_of_the_page_has_the_contributions_of_the_crystal(name: str) -> None:
    given = shuffled(GIVEN[name])
    for found in (symmetrized(given, 0.05), _symmetrized_by_spglib(given, 0.05)):
        assert found is not None
        both = Crystals.cat([given, found.conventional])
        first, second = csp.predict_properties(both, "bulk_modulus", contributions=True)
        shares, direct = (one["bulk_modulus"].contributions for one in (first, second))
        assert shares is not None
        assert direct is not None
        carried = [len(shares.atoms) * shares.atoms[k] for k in found.origins]
        assert carried == pytest.approx([len(direct.atoms) * each for each in direct.atoms], abs=1.0)
        assert given.numbers[list(found.origins)].tolist() == found.conventional.numbers.tolist()


@pytest.mark.parametrize("name", GIVEN)
def test_sites_add_up_to_the_value(name: str) -> None:
    given = shuffled(GIVEN[name])
    values = csp.predict_properties(given, "bulk_modulus,band_gap", contributions=True)[0].values()
    described = describe(given, 0.05)
    for one in site_shares(described, values):
        total = one.baseline + one.whole + sum(site.share for site in one.sites)
        assert total == pytest.approx(one.value.value, rel=1e-3, abs=1e-3)
        if name == "its conventional cell":
            assert one.sites[0].name.startswith("Ti")
            assert one.sites[0].attends.startswith("6 O at 1.9")
        by_atom = [site.share / of.multiplicity for site, of in zip(one.sites, described.sites, strict=True)]
        most = max(one.sites, key=lambda site: abs(by_atom[one.sites.index(site)]))
        assert most.colour == ("#b2182b" if most.share > 0 else "#2166ac")


def test_the_page_offers_them_where_they_are_known() -> None:
    given = prediction()
    assert "colour by" not in page_of(given).split("<script")[0]
    value = replace(VALUE, contributions=Contributions(50.0, -10.0, (-5.0, 25.0)))
    first = replace(given.results[0], properties=(value,))
    text = page_of(replace(given, results=[first, *given.results[1:]]))
    assert text.count('<select name="colour"') == 1
    (words,) = re.findall(r'<p class="shares" hidden>(.*?)</p>', text)
    said = re.sub("<[^>]*>", "", words)
    assert said == (
        "Contributions to the hardness, 60 ± 4 GPa: 50.0 of the mean crystal, −10.0 by volume and density, "
        "Ga 4a −5.0, As 4c +25.0 GPa"
    )
