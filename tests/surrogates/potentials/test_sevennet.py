"""SevenNet, whose package carries its weights, through both adapters: `make test-adapters` runs these in an
environment that has it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from ase.build import bulk

import csp
from csp.face.models import Model
from tests.surrogates.potentials.test_models import sample

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # torch-sim, e3nn and SevenNet have many to give
]


@pytest.fixture(scope="module")
def calculator() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calculators = pytest.importorskip("sevenn.calculator")
        return calculators.SevenNetCalculator("7net-0", device="cpu")


@pytest.fixture(scope="module")
def by_ase(calculator: Any) -> Model:
    return csp.load_model(calculator, name="7net-0", functional="PBE")


@pytest.fixture(scope="module")
def by_torch_sim() -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torch_sim")
        from sevenn.util import load_checkpoint
        from torch_sim.models.sevennet import SevenNetModel

        network = load_checkpoint("7net-0").build_model()
        return csp.load_model(SevenNetModel(network, device="cpu"), name="7net-0", functional="PBE")


def test_the_adapter_gives_the_numbers_of_the_calculator(by_ase: Model, calculator: Any) -> None:
    crystals = sample()[:3]
    found = by_ase.evaluate(crystals, forces=True)
    assert found.forces is not None
    assert found.stress is not None
    for b, atoms in enumerate(crystals.atoms()):
        atoms.calc = calculator
        start, stop = crystals.offsets[b], crystals.offsets[b + 1]
        assert float(found.energy[b]) == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        assert abs(found.forces[start:stop].numpy() - atoms.get_forces()).max() < 1e-4
        assert abs(found.stress[b].numpy() - atoms.get_stress(voigt=False)).max() < 1e-5


def test_both_adapters_agree(by_ase: Model, by_torch_sim: Model) -> None:
    crystals = sample()[:3]
    one, other = (model.evaluate(crystals, forces=True) for model in (by_ase, by_torch_sim))
    torch.testing.assert_close(one.energy, other.energy, rtol=0, atol=1e-3)
    torch.testing.assert_close(one.forces, other.forces, rtol=0, atol=1e-3)
    torch.testing.assert_close(one.stress, other.stress, rtol=0, atol=1e-4)


def test_other_weights_have_another_label(by_ase: Model) -> None:
    from sevenn.calculator import SevenNetCalculator

    again = csp.load_model(SevenNetCalculator("7net-0", device="cpu"), name="7net-0", functional="PBE")
    other = csp.load_model(
        SevenNetCalculator("7net-0_22May2024", device="cpu"), name="7net-0", functional="PBE"
    )
    assert again.label == by_ase.label != other.label


def test_rock_salt_relaxes_to_its_lattice(by_ase: Model, by_torch_sim: Model) -> None:
    """PBE has 5.70 Å (the Materials Project's mp-22862: 5.69)."""
    start = bulk("NaCl", "rocksalt", a=5.4)
    for model in (by_ase, by_torch_sim):
        found = csp.relax(start, model)
        assert found.converged
        assert (4 * found.structure.get_volume()) ** (1 / 3) == pytest.approx(5.70, abs=0.06)


def test_a_search(by_torch_sim: Model) -> None:
    found = csp.predict(
        "NaCl",
        relaxer=by_torch_sim,
        candidates=24,
        relaxed=6,
        refined=3,
        rattled=0,
        max_atoms=4,
        progress=False,
    )
    assert found[0].space_group == "Fm-3m"
    assert str(found.label).startswith("PBE/none/torch_sim")
