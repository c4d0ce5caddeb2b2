"""Models for a notebook: as ASE calculators, and made of other packages' potentials."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones as ASELennardJones

import csp
from csp.contracts import check_energy_model
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.face.models import Model
from csp.protocols import EnergyModel, Evaluation, Uncertain
from tests.lennard_jones import LennardJones


def rattled(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(0.05, seed=seed)
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
    return atoms


def salt() -> Atoms:
    return rattled(bulk("NaCl", "rocksalt", a=5.6))


@pytest.mark.parametrize(
    ("load", "tolerance"),
    [(lambda: csp.load_model(LennardJones()), 1e-5), (lambda: csp.load_model("xs"), 5e-3)],
)
def test_forces_and_stress_are_the_derivatives(load: Callable[[], Model], tolerance: float) -> None:
    atoms = salt()
    atoms.calc = load().as_ase()
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert np.abs(calculate_numerical_forces(atoms, eps=1e-3) - forces).max() < tolerance
    assert np.abs(calculate_numerical_stress(atoms, eps=1e-3, voigt=True) - stress).max() < tolerance
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_chgnet_is_as_its_own_calculator() -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from chgnet.model.dynamics import CHGNetCalculator

        theirs = CHGNetCalculator(use_device="cpu")
        mine = salt()
        other = mine.copy()
        mine.calc, other.calc = csp.load_model("chgnet", "cpu").as_ase(), theirs
        assert mine.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=2e-4)
        assert np.abs(mine.get_forces() - other.get_forces()).max() < 1e-3
        assert np.abs(mine.get_stress() - other.get_stress()).max() < 1e-4

        # and through the adapter, where it is told apart from other weights
        adapted = csp.load_model(theirs, functional="PBE+U", correction="MP2020")
        assert adapted.evaluate(mine).energy.item() == pytest.approx(other.get_potential_energy())
        assert adapted.label.checkpoint == csp.load_model(CHGNetCalculator(use_device="cpu")).label.checkpoint
        with torch.no_grad():
            next(theirs.model.parameters()).mul_(1.01)
        assert csp.load_model(theirs).label.checkpoint != adapted.label.checkpoint


def test_a_calculator_asks_for_no_more_than_it_needs() -> None:
    asked = []

    class Watched(LennardJones):
        def evaluate(
            self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
        ) -> Evaluation:
            asked.append(forces)
            return super().evaluate(crystals, forces=forces)

    atoms = salt()
    atoms.calc = csp.load_model(Watched()).as_ase()
    atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    assert asked == [False, True]
    with pytest.raises(InputError, match="pbc=True"):
        Atoms("Na", calculator=atoms.calc).get_potential_energy()


def test_a_model_is_an_energy_model_itself() -> None:
    model = csp.load_model(LennardJones())
    assert isinstance(model, EnergyModel)
    crystals = Crystals.from_atoms([salt()])
    check_energy_model(model, crystals, difference_tolerance=1e-6, step=1e-3)
    assert csp.load_model(model) is model
    assert repr(model).startswith("<lennard-jones: LJ/none/1, ")
    xs = csp.load_model("xs")
    assert isinstance(xs, Uncertain)
    assert xs.sigma(crystals) is not None
    assert model.sigma(crystals) is None
    structures = crystals.structures()
    assert xs.evaluate(structures).energy.item() == xs.evaluate(structures[0]).energy.item()


def test_any_ase_calculator() -> None:
    model = csp.load_model(EMT(), elements=["Cu", 79])
    assert (model.name, str(model.label)[:13], model.elements) == ("EMT", "EMT/none/ase ", {29, 79})
    check_energy_model(
        model,
        Crystals.from_arrays(
            [[[2.6, 0, 0], [0.2, 2.7, 0], [0, 0.1, 5.1]]], [[[0, 0, 0], [0.5, 0.45, 0.52]]], [[29, 79]]
        ),
        difference_tolerance=1e-3,
        step=1e-3,
    )
    relaxed = csp.relax(bulk("Cu", a=3.9), model)
    assert relaxed.converged
    assert relaxed.structure.get_volume() == pytest.approx(11.565, abs=0.05)  # ASE's tutorial on EMT


def test_parameters_tell_calculators_apart() -> None:
    def label(**parameters: float) -> str:
        return str(csp.load_model(ASELennardJones(**parameters)).label)

    assert label(sigma=1.0) == label(sigma=1.0)
    assert label(sigma=1.0) != label(sigma=1.1)
    assert str(csp.load_model(EMT(), name="emt", functional="PBE").label).startswith("PBE/none/ase ")


def test_what_is_no_model() -> None:
    with pytest.raises(InputError, match="of the type int"):
        csp.load_model(3)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"There is no model 'mace'; known are xs, chgnet, .*folders of matgl\.$"
    ):
        csp.load_model("mace")
    with pytest.raises(InputError, match="other models bring their own"):
        csp.load_model("xs", functional="PBE")
    with pytest.raises(InputError, match="There is no element Qq"):
        csp.load_model(EMT(), elements=["Qq"])
    with pytest.raises((InputError, MissingError), match="device"):
        csp.load_model("xs", "tpu")
