"""Pooled features: what they must not depend on."""

from __future__ import annotations

import pytest
import torch

from csp.crystals import Crystals
from csp.errors import InputError
from surrogates.properties.features import n_features, pooled
from tests.surrogates.properties.tiny import crystals, surrogate


def doubled(one: Crystals) -> Crystals:
    """The same crystal in a cell twice as long."""
    cell = one.cell.clone()
    cell[0, 0] *= 2.0
    halves = [one.frac * torch.tensor([0.5, 1, 1]) + torch.tensor([shift, 0.0, 0]) for shift in (0.0, 0.5)]
    n = 2 * len(one.numbers)
    return Crystals(cell, torch.cat(halves), one.numbers.repeat(2), torch.tensor([0, n]))


def test_a_supercell_has_the_features_of_its_crystal() -> None:
    one, model = crystals()[[1]], surrogate()
    torch.testing.assert_close(pooled(model, doubled(one)), pooled(model, one), atol=2e-4, rtol=1e-4)


def test_order_of_atoms_and_company_change_nothing() -> None:
    both, model = crystals(), surrogate()
    one = both[[1]]
    other = Crystals(one.cell, one.frac.flip(0), one.numbers.flip(0), one.offsets)
    alone = pooled(model, one)
    torch.testing.assert_close(pooled(model, other), alone, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(pooled(model, both)[1:], alone, atol=2e-4, rtol=1e-4)


def test_the_mean_at_the_last_depth_is_what_the_energy_is_linear_in() -> None:
    model, both = surrogate(), crystals()
    found = pooled(model, both)
    assert found.shape == (2, n_features(model))
    width = model.network.architecture.width
    last = found[:, 4 * width : 5 * width].double()  # two depths of mean and spread stand before it
    torch.testing.assert_close(last, model.features(both), atol=1e-5, rtol=1e-4)
    energy = model.evaluate(both).energy / both.n_atoms
    torch.testing.assert_close(found[:, -1].double(), energy, atol=1e-5, rtol=1e-4)


def test_an_unknown_element_is_named() -> None:
    one = crystals()[[0]]
    strange = Crystals(one.cell, one.frac, torch.tensor([11, 79]), one.offsets)
    with pytest.raises(InputError, match="79"):
        pooled(surrogate(), strange)
