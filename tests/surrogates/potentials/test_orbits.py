"""Models that compute one site of each orbit against the whole computation, in all 230 space groups.

In double precision, where rounding is far below the limits; what single precision adds is the rounding of
another order of sums.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from csp.crystallography.operations import SymmetryOperations, operations
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.protocols import EnergyModel, Evaluation
from csp.relaxation.relax import relax
from surrogates.potentials.models import load_chgnet, load_nequix
from surrogates.zoo import load_surrogate
from tests.places import SHARED, needs
from tests.symmetric_crystals import symmetric_crystals

NEQUIX = SHARED / "models" / "nequix-oam-1" / "nequix-oam-1.nqx"


def nequix() -> EnergyModel:
    return load_nequix(NEQUIX, "nequix-oam-1", dtype=torch.float64)


def transformer() -> EnergyModel:
    model = load_surrogate("xs")
    model.network.double()
    return model


def chgnet() -> EnergyModel:
    return load_chgnet(dtype=torch.float64)


@pytest.fixture(scope="module")
def known() -> SymmetryOperations:
    return operations(symmetric_crystals())


@pytest.fixture(scope="module")
def crystals(known: SymmetryOperations) -> Crystals:
    return known.symmetrize(symmetric_crystals())


@pytest.mark.parametrize("load", [transformer, chgnet, pytest.param(nequix, marks=needs(NEQUIX))])
def test_one_site_of_each_orbit_is_enough(
    load: Callable[[], EnergyModel], crystals: Crystals, known: SymmetryOperations
) -> None:
    """To 1e-6 eV/atom and 1e-5 eV/Å; found are 1e-12."""
    model = load()
    surroundings = Surroundings.of(crystals, known)
    assert len(surroundings.orbits.sites) < len(crystals.numbers) / 5
    found = model.evaluate(crystals, forces=True, surroundings=surroundings)
    expected = model.evaluate(crystals, forces=True)
    assert expected.forces is not None
    assert expected.forces.norm(dim=1).amax() > 1.0
    torch.testing.assert_close(
        found.energy / crystals.n_atoms, expected.energy / crystals.n_atoms, rtol=0, atol=1e-6
    )
    torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.stress, expected.stress, rtol=0, atol=1e-6)
    energies = model.evaluate(crystals, surroundings=surroundings).energy
    torch.testing.assert_close(energies, found.energy, rtol=0, atol=1e-6)
    if expected.sigma is not None:
        torch.testing.assert_close(found.sigma, expected.sigma)


class Untold:
    """A model that is told nothing of symmetry and earlier pairs."""

    def __init__(self, model: EnergyModel) -> None:
        self.model = model
        self.name, self.label, self.elements, self.device = (
            model.name,
            model.label,
            model.elements,
            model.device,
        )

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        return self.model.evaluate(crystals, forces=forces)


def test_relaxations_end_the_same(crystals: Crystals, known: SymmetryOperations) -> None:
    """With pairs that last and crystals that leave, over a few dozen steps."""
    chosen = torch.arange(0, 230, 11)
    model = transformer()
    ends = [
        relax(crystals[chosen], m, max_steps=25, symmetry=known[chosen], max_force=0.2)
        for m in (model, Untold(model))
    ]
    assert ends[0].status == ends[1].status
    assert len(set(ends[0].steps.tolist())) > 3
    torch.testing.assert_close(ends[0].energy, ends[1].energy, rtol=0, atol=1e-6)
    torch.testing.assert_close(ends[0].crystals.cell, ends[1].crystals.cell, rtol=0, atol=1e-6)
