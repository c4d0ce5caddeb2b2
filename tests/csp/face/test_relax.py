"""`csp.relax` gives back what it was given, relaxed; the closed form of a pair potential is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

import csp
from csp.crystals import Crystals
from csp.errors import InputError
from csp.relaxation.relax import GPA, Status
from tests.lennard_jones import LennardJones


def salt(edge: float = 5.2) -> Atoms:
    return bulk("NaCl", "rocksalt", a=edge)


def lowest(pressure: float) -> tuple[float, float]:
    """Edge, Å, and energy, eV, of rock salt where E + PV is lowest, on a fine grid."""
    edges = np.linspace(3.6, 5.4, 3601)
    model = LennardJones()
    energy = model.evaluate(Crystals.from_atoms([salt(edge) for edge in edges])).energy.numpy()
    k = int(np.argmin(energy + pressure * GPA * edges**3 / 4))
    return float(edges[k]), float(energy[k])


@pytest.mark.parametrize("pressure", [0.0, 10.0])
def test_rock_salt_ends_where_the_enthalpy_is_lowest(pressure: float) -> None:
    edge, energy = lowest(pressure)
    found = csp.relax(salt(), LennardJones(), pressure=pressure, max_force=1e-4)
    assert found.converged
    assert isinstance(found.structure, Atoms)
    assert (4 * found.structure.get_volume()) ** (1 / 3) == pytest.approx(edge, abs=2e-3)
    assert found.energy == pytest.approx(energy, abs=1e-4)
    assert found.structure.get_potential_energy() == found.energy
    assert found.enthalpy == pytest.approx(found.energy + pressure * GPA * found.structure.get_volume())
    assert found.energy_per_atom == found.energy / 2


def test_each_kind_comes_back_as_it_was_given() -> None:
    atoms = salt()
    atoms.info["note"] = "mine"
    structure = AseAtomsAdaptor.get_structure(salt())
    structure.add_site_property("magmom", [1.0, 0.0])
    structure.properties["note"] = "mine"
    one = csp.relax(structure, LennardJones())
    assert isinstance(one.structure, Structure)
    assert one.structure.site_properties["magmom"] == [1.0, 0.0]
    assert one.structure.properties == {"note": "mine"}
    assert one.structure.lattice.volume > structure.lattice.volume + 0.5
    many = csp.relax([structure, structure], LennardJones())
    assert len(many) == 2
    assert [type(s) for s in many.structures] == [Structure, Structure]
    assert many.energies.tolist() == pytest.approx([one.energy, one.energy])
    assert many.converged.all()
    moved = csp.relax([atoms], LennardJones())
    assert moved[0].structure.info["note"] == "mine"
    assert atoms.calc is None
    batch = csp.relax(Crystals.from_atoms([salt(), salt(5.4)]), LennardJones())
    assert isinstance(batch.structures, Crystals)
    assert len(batch[1].structure) == 1
    assert [k.energy for k in batch] == batch.energies.tolist()
    assert len(csp.relax([], LennardJones())) == 0


def test_many_are_as_each_alone() -> None:
    given = [salt(edge) for edge in np.linspace(4.8, 5.6, 70)]  # more than one chunk
    many = csp.relax(given, LennardJones())
    alone = csp.relax(given[66], LennardJones())
    assert many[66].energy == pytest.approx(alone.energy, abs=1e-9)
    assert many[66].steps == alone.steps


def test_symmetry_is_kept_or_not() -> None:
    """Two layers of one square net on top of each other: by symmetry they stay so, else they slide."""
    start = Structure(Lattice.tetragonal(3.4, 3.6), ["Na"], [[0, 0, 0]])
    kept = csp.relax(start, LennardJones(), max_force=1e-3)
    assert kept.structure.get_space_group_info()[1] in (123, 221)
    shaken = start.copy()
    shaken.make_supercell([2, 2, 2])
    shaken.perturb(0.1)
    freed = csp.relax(shaken, LennardJones(), max_force=1e-3, keep_symmetry=False, max_steps=500)
    assert freed.energy_per_atom < kept.energy_per_atom - 1e-3


def test_failures_are_outcomes() -> None:
    class NoSodium(LennardJones):
        elements = LennardJones.elements - {11}

    found = csp.relax([salt(), bulk("Cu")], NoSodium())
    assert found.status[0] == Status.UNSUPPORTED_ELEMENT
    assert np.isnan(found.energies[0])
    assert not found[0].converged
    assert found[1].converged
    assert csp.relax(salt(), LennardJones(), max_steps=1).status == Status.MAX_STEPS


def disordered() -> Structure:
    return Structure(Lattice.cubic(4.0), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])


def constrained() -> Atoms:
    atoms = salt()
    atoms.set_constraint(FixAtoms([0]))
    return atoms


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, "not the type int"),
        ("POSCAR", "not the type str"),
        ([salt(), disordered()], "not both at once"),
        (disordered(), "disordered"),
        (Atoms("Na"), "pbc=True"),
        (constrained(), "Constraints"),
    ],
)
def test_what_cannot_be_relaxed(given: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        csp.relax(given, LennardJones())  # type: ignore[call-overload]


def test_limits_are_those_of_a_search() -> None:
    with pytest.raises(InputError, match=r"max.force: must be more than 0 \(got 0\)"):
        csp.relax(salt(), LennardJones(), max_force=0)


def test_keywords_that_are_not_known() -> None:
    with pytest.raises(
        InputError, match=r"no 'steps'; did you mean max_steps\? It knows structures, model, pre"
    ):
        csp.relax(salt(), steps=1)  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"csp.load_model knows no 'kind'; it knows source, device, name, "):
        csp.load_model("xs", kind="anchored")  # type: ignore[call-arg]


def test_the_default_model_is_that_of_a_search() -> None:
    found = csp.relax(salt(5.7))
    assert found.label == csp.load_model("auto").label
    assert found.converged
