"""Transfer to few values: planted truths, and left-out errors against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from csp.errors import InputError
from surrogates.properties.model import PropertyModel, last_layer_input
from surrogates.properties.own_data import OwnData
from surrogates.properties.transfer import Transferred, scales, transfer
from tests.surrogates.properties.tiny import model

FEATURES = 12 * 8 + 4  # of the tiny surrogate


def planted(value: Tensor) -> OwnData:
    n = len(value)
    composition = torch.tensor([[[11.0, 0.5], [17.0, 0.5]]]).expand(n, 2, 2)
    names = [f"11:1 17:{k}" for k in range(n)]
    return OwnData(
        None, composition, names, [frozenset({11, 17})] * n, value, None, list(range(2, n + 2)), "GPa", []
    )


def inputs(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, FEATURES, generator=torch.Generator().manual_seed(seed))


def foretold(found: Transferred, x: Tensor) -> Tensor:
    return found.last.mean(last_layer_input(found.encoder, x))


def source() -> PropertyModel:
    return model()


def test_what_is_linear_in_the_sources_value_is_found_from_ten_values() -> None:
    one = source()
    x, others = inputs(10), inputs(50, 1)
    value = 3.0 * one.last.mean(one.hidden(x)) - 7.0
    found = transfer(one, planted(value), strategy="affine_model", x=x)
    expected = 3.0 * one.last.mean(one.hidden(others)) - 7.0
    error = foretold(found, others) - expected
    assert float(error.abs().mean()) < 0.05 * float(expected.std())
    assert found.errors["affine_model"] < 0.1 * found.guess


def test_left_out_errors_are_those_of_models_that_have_not_seen_the_value() -> None:
    """With the widths and the noise found with all values, as the closed form has it."""
    one, x = source(), inputs(25)
    noise = 0.3 * torch.randn(25, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    value = one.last.mean(one.hidden(x)) + noise
    found = transfer(one, planted(value), strategy="bayesian", x=x)
    in_sample = foretold(found, x) - value
    # leaving a value out can only raise its residual, and raises that of a value with leverage
    assert bool((found.left_out.abs() >= in_sample.abs() - 1e-9).all())
    fresh = transfer(one, planted(value[1:]), strategy="bayesian", x=x[1:])
    brute = float(foretold(fresh, x[:1])[0] - value[0])
    assert float(found.left_out[0]) == pytest.approx(brute, abs=0.15 * float(value.std()))


def test_intervals_hold_as_much_as_they_say() -> None:
    one, within = source(), []
    for seed in range(6):
        x, others = inputs(60, seed), inputs(200, 100 + seed)
        draws = torch.Generator().manual_seed(seed)
        noise = torch.randn(260, generator=draws, dtype=torch.float64)
        value = one.last.mean(one.hidden(x)) + noise[:60]
        found = transfer(one, planted(value), strategy="affine_model", x=x)
        h = last_layer_input(found.encoder, others)
        sigma = found.last.q68 * (found.last.open(h) + found.last.noise**2).sqrt()
        away = found.last.mean(h) - one.last.mean(one.hidden(others)) - noise[60:]
        within.append(float((away.abs() <= sigma).double().mean()))
    assert np.mean(within) == pytest.approx(0.683, abs=0.08)


def test_noise_is_no_knowledge() -> None:
    one, x = source(), inputs(30)
    value = torch.randn(30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = transfer(one, planted(value), strategy="bayesian", x=x)
    assert found.errors["bayesian"] > 0.8 * found.guess


def test_positive_values_are_learned_as_logarithms_where_that_is_better() -> None:
    assert scales(torch.tensor([1.0, 10.0])) == ["identity", "log10"]
    assert scales(torch.tensor([-1.0, 90.0])) == ["identity"]
    one, x = source(), inputs(14)
    log = one.last.mean(one.hidden(x))
    found = transfer(one, planted(10.0 ** (log - log.mean())), strategy="affine_model", x=x)
    assert found.scale == "log10"
    assert float((foretold(found, x) - (log - log.mean())).abs().mean()) < 0.1 * float(log.std())


def test_what_the_source_never_learned_is_found_in_the_features() -> None:
    one = source()
    x, others = inputs(60), inputs(60, 1)
    x[:, 5:], others[:, 5:] = 0.0, 0.0  # few features vary, which the source mixes up
    found = transfer(one, planted(x[:, 1].double() * 10.0), strategy="bayesian", x=x)
    error = foretold(found, others) - others[:, 1].double() * 10.0
    assert float(error.abs().mean()) < 0.5


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(InputError, match="There is no strategy 'best'"):
        transfer(source(), planted(torch.arange(12.0).double()), strategy="best", x=inputs(12))
