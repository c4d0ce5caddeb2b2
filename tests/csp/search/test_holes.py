"""What counts as a hole of a potential."""

import torch
from pymatgen.core import Lattice, Structure

from csp.crystals import Crystals
from csp.relaxation.relax import RelaxationResult, Status
from csp.search.holes import DEEP, Holes, in_holes
from tests.lennard_jones import LennardJones

A = (5.2, 5.4, 5.6, 5.8)  # Å

USUAL = torch.tensor([-0.4, -0.3, -0.25, -0.2, -0.1], dtype=torch.float64)  # H3S at 200 GPa, about


def test_what_is_far_below_the_usual_is_in_a_hole() -> None:
    found = in_holes(torch.tensor([-3.2, -1.14, -0.4, 0.5, 9.0], dtype=torch.float64), USUAL)
    assert found.tolist() == [True, True, False, False, False]


def test_a_shift_of_all_energies_changes_nothing() -> None:
    some = torch.linspace(-2.0, 2.0, 41, dtype=torch.float64)
    assert torch.equal(in_holes(some, USUAL), in_holes(some + 7.0, USUAL + 7.0))


def test_models_that_agree_nowhere_find_no_hole() -> None:
    wild = torch.tensor([-3.0, -1.5, 0.0, 1.5, 3.0], dtype=torch.float64)
    assert not in_holes(wild - 1.0, wild).any()


def test_two_crystals_tell_nothing_of_what_is_usual() -> None:
    assert not in_holes(torch.tensor([-10 * DEEP], dtype=torch.float64), USUAL[:2]).any()


def test_what_is_in_a_hole_loses_its_energy_unless_it_is_known() -> None:
    """Four sizes of one crystal; another model has one of them 3 eV/atom too low."""
    salt = Crystals.from_structures(
        [Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Na", "Cl"], [[0] * 3, [0.5] * 3]) for a in A]
    )
    model = LennardJones()
    energy = model.evaluate(salt).energy + salt.n_atoms * torch.tensor([1.0, 1.0, -2.0, 1.0])
    none = torch.zeros(4, dtype=torch.float64)
    relaxed = RelaxationResult(salt, model.label, energy, none, none.long(), [Status.CONVERGED] * 4)
    marked = Holes(model).marked(relaxed, relaxed)
    assert marked.status == [Status.CONVERGED, Status.CONVERGED, Status.HOLE, Status.CONVERGED]
    assert marked.energy.isnan().tolist() == [False, False, True, False]
    assert Holes(model).marked(relaxed, relaxed, real=[2]) is relaxed
