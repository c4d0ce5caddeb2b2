"""Models of torch-sim as energy models: the same potential on our side of the adapter is the oracle."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import csp
from csp.contracts import check_energy_model
from csp.crystals import Crystals
from csp.errors import InputError
from surrogates.potentials import adapters
from tests.lennard_jones import LennardJones
from tests.surrogates.potentials.test_models import sample

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it compiles functions in a way that PyTorch no longer likes
    torch_sim = pytest.importorskip("torch_sim")
    from torch_sim.models.interface import ModelInterface, validate_model_outputs


class Pair(ModelInterface):  # type: ignore[misc]
    """The Lennard-Jones model of our tests for torch-sim, whose cells have their vectors as columns."""

    def __init__(self, *, compute_stress: bool = True) -> None:
        super().__init__()
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_forces, self._compute_stress = True, compute_stress
        self.batches: list[int] = []

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        cell = state.cell.mT
        frac = torch.einsum("ai,aij->aj", state.positions, torch.linalg.inv(cell)[state.system_idx])
        counts = torch.bincount(state.system_idx)
        offsets = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
        self.batches.append(len(counts))
        found = LennardJones().evaluate(Crystals(cell, frac, state.atomic_numbers, offsets), forces=True)
        assert found.forces is not None
        assert found.stress is not None
        return {"energy": found.energy, "forces": found.forces, "stress": found.stress}


def test_the_model_of_this_test_is_one() -> None:
    validate_model_outputs(Pair(), torch.device("cpu"), torch.float64)


def test_it_gives_what_the_potential_gives() -> None:
    crystals = sample()
    model = csp.load_model(Pair(), elements=LennardJones.elements)
    found, expected = (m.evaluate(crystals, forces=True) for m in (model, LennardJones()))
    torch.testing.assert_close(found.energy, expected.energy, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.forces, expected.forces, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.stress, expected.stress, rtol=0, atol=1e-9)


def test_it_keeps_the_contract() -> None:
    model = csp.load_model(Pair(), elements=LennardJones.elements)
    check_energy_model(model, sample()[[0, 1]], difference_tolerance=1e-5, step=1e-3)


def test_large_batches_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    crystals, pair = sample(), Pair()
    whole = csp.load_model(pair).evaluate(crystals).energy
    assert pair.batches == [len(crystals)]
    monkeypatch.setattr(adapters, "DENSITY_AT_ONCE", {"cpu": 1.0})
    parts = csp.load_model(pair).evaluate(crystals).energy
    assert len(pair.batches) > 2
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-9)


def test_what_cannot_be_used() -> None:
    with pytest.raises(InputError, match="Pair must be made with compute_stress=True"):
        csp.load_model(Pair(compute_stress=False))
    with pytest.raises(InputError, match="does not know Ti, Sr"):
        csp.load_model(Pair(), elements=[8]).evaluate(sample()[:1])
