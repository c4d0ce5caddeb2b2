"""Kernel regression against scikit-learn's and against itself with values left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from surrogates.properties import library
from surrogates.properties.contributions import contributions
from surrogates.properties.few_values import bound, learn
from surrogates.properties.kernel import FLAT, KernelRegression, _pairs, fit_kernel, surprise
from surrogates.properties.model import PropertyModel, last_layer_input
from surrogates.properties.transfer import learning_curve, transfer
from tests.surrogates.properties.test_model import about
from tests.surrogates.properties.test_transfer import inputs, planted
from tests.surrogates.properties.tiny import card, crystals, model

N, BLOCKS, VALUES = 24, (3, 2), 2


def drawn(n: int, seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, sum(BLOCKS), generator=draws, dtype=torch.float64)


def curved(h: torch.Tensor, seed: int = 9) -> torch.Tensor:
    noise = torch.randn(len(h), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 3.0 + h[:, 0] + torch.sin(2.0 * h[:, 3]) + 0.2 * noise


def fitted(counted: torch.Tensor | None = None) -> KernelRegression:
    values = torch.randn(
        sum(BLOCKS) + 1, VALUES, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return fit_kernel(drawn(N), curved(drawn(N)), values, BLOCKS, counted)


def test_mean_and_sigma_are_scikit_learns() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

    counted = 0.5 + torch.rand(N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    one = fitted(counted)
    assert one.rows.dtype == torch.float64
    noise, a, b, length, b2, length2 = one.parameters.exp().tolist()
    # features beside one another, each block's in its columns: a length of 1e6 makes the others count nothing
    far = [1e6] * VALUES
    first, second = [length] * 3 + [1e6] * 2, [1e6] * 3 + [length2] * 2
    kernel = (
        ConstantKernel(FLAT)
        + ConstantKernel(b**2) * RBF(far + first)
        + ConstantKernel(b2**2) * RBF(far + second)
    )

    def columns(h: torch.Tensor) -> np.ndarray:
        return torch.cat(one._scaled(h), 1).numpy()

    x, y = columns(one.rows), one.y.numpy()
    middle, size = y.mean(), y.std()

    class Linear(DotProduct):  # of the source's values alone
        def __call__(self, left, right=None, eval_gradient=False):
            right = left if right is None else right
            return super().__call__(left[:, :VALUES], right[:, :VALUES], False)

        def diag(self, left):
            return super().diag(left[:, :VALUES])

    whole = kernel + ConstantKernel(a**2) * Linear(1e-9)
    theirs = GaussianProcessRegressor(whole, alpha=(noise / one.counted.numpy()) ** 2, optimizer=None)
    theirs.fit(x, (y - middle) / size)
    others = torch.cat([drawn(30, 5), 20.0 * drawn(3, 6)])
    mean, sigma = theirs.predict(columns(others), return_std=True)
    np.testing.assert_allclose(one.mean(others).numpy(), mean * size + middle, rtol=1e-6)
    np.testing.assert_allclose(one.open(others).sqrt().numpy(), sigma * size, rtol=1e-5)
    value, _ = surprise(
        one.parameters.numpy(),
        _pairs(one._learned, one._learned),
        torch.from_numpy((y - middle) / size),
        one.counted,
    )
    likely = theirs.log_marginal_likelihood_value_
    assert -value - 0.5 * N * np.log(2.0 * np.pi) == pytest.approx(likely, rel=1e-8)


def test_the_gradient_of_the_evidence_is_that_of_finite_differences() -> None:
    one = fitted(0.5 + torch.rand(N, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    pairs, y = _pairs(one._learned, one._learned), (one.y - one.y.mean()) / one.y.std()
    at = np.array([-0.7, 0.1, 0.3, -0.2, -0.5, 0.4])
    _, gradient = surprise(at, pairs, y, one.counted)
    numerical = approx_fprime(at, lambda p: surprise(p, pairs, y, one.counted)[0], 1e-6)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-3, atol=1e-4)


def test_what_is_left_out_in_closed_form_is_a_fit_without_it() -> None:
    """With parameters and scales as they are: the kernel of the others is a part of that of all."""
    one = fitted()
    groups = np.repeat(np.arange(N // 2), 2)
    error, sigma = one.left_out(groups)
    middle, size = one._standard
    own = torch.from_numpy(np.flatnonzero(groups == 3))
    rest = torch.from_numpy(np.flatnonzero(groups != 3))
    covariance = one._to(one.rows)
    across = covariance[own[:, None], rest]
    kept = covariance[rest[:, None], rest] + one._noises[rest].diag()
    y = (one.y - middle) / size
    mean = across @ torch.linalg.solve(kept, y[rest])
    variance = covariance[own[:, None], own] - across @ torch.linalg.solve(kept, across.T)
    torch.testing.assert_close(error[own], (mean - y[own]) * size)
    torch.testing.assert_close(sigma[own], (variance.diagonal() + one._noises[own]).sqrt() * size)


def test_a_value_that_counts_less_is_missed_by_more() -> None:
    counted = torch.ones(N, dtype=torch.float64)
    counted[0] = 0.05
    less = fitted(counted)
    same = replace(less, counted=torch.ones(N, dtype=torch.float64))
    missed = [float((one.mean(one.rows) - one.y)[0].abs()) for one in (less, same)]
    assert missed[0] > missed[1]


def test_far_from_the_data_is_outside_and_near_them_is_not() -> None:
    one = fitted()
    near, far = drawn(50, 3), 100.0 * drawn(50, 3)
    inside = (one.open(near) / one.leverage > 3.0).double().mean()
    assert float(inside) < 0.2
    assert bool((one.open(far) / one.leverage > 3.0).all())


def test_outliers_count_little() -> None:
    h = drawn(40, 4)
    true = curved(h)
    y = true.clone()
    y[7] += 40.0
    other = drawn(200, 8)
    values = torch.zeros(6, 1, dtype=torch.float64)
    found = learn(h, y, values, BLOCKS, np.arange(40)).last
    clean = fit_kernel(h, true, values, BLOCKS)
    assert float(found.counted[7]) < 0.3 * float(found.counted.median())
    plain = fit_kernel(h, y, values, BLOCKS)
    error = [float((one.mean(other) - curved(other)).abs().mean()) for one in (clean, found, plain)]
    assert error[1] < 0.5 * (error[0] + error[2])


def test_values_at_a_bound_tell_that_it_is_there_or_below() -> None:
    h = drawn(60, 4)
    true = 2.0 * h[:, 0]
    y = true.clamp(min=0.0)
    assert bound(y) == 0.0
    assert bound(true) is None
    assert bound(torch.tensor([1.0, 1, 1, 2, 2, 3, 4])) is None  # no commoner than another
    values = torch.zeros(6, 1, dtype=torch.float64)
    values[0] = 1.0  # a source that knows it
    found = learn(h, y, values, BLOCKS, np.arange(60), lowest=0.0).last
    ignored = learn(h, y, values, BLOCKS, np.arange(60)).last
    other = drawn(300, 8)
    expected = (2.0 * other[:, 0]).clamp(min=0.0)
    error = [float((one.mean(other).clamp(min=0.0) - expected).abs().mean()) for one in (found, ignored)]
    assert error[0] < 0.75 * error[1]
    above = y > 0
    torch.testing.assert_close(found.y[above], y[above].float().double())


@pytest.mark.parametrize("composition", [False, True])
def test_a_model_is_the_same_again_and_can_be_begun_with(tmp_path: Path, composition: bool) -> None:
    one = model(composition=composition)
    if composition:
        n = 20
        share = torch.linspace(0.1, 0.9, n)
        amounts = torch.stack([share, 1.0 - share], 1)
        x = torch.stack([torch.tensor([[11.0, 17.0]]).expand(n, 2), amounts], 2)
    else:
        x = inputs(20)
    value = 3.0 * one.last.mean(one.hidden(x)) - 7.0
    data = planted(value)
    found = transfer(one, data, x=x)
    assert found.strategy == "kernel"
    assert found.errors["kernel"] < 0.3 * found.guess
    assert isinstance(found.last, KernelRegression)
    again: Any = KernelRegression.of_tensors(found.last.tensors())
    if composition:  # of crystals the surrogate would have to be a file as well
        path = tmp_path / "hardness.safetensors"
        library.write(path, found.encoder, found.last, seen=set(), **about())
        loaded = library.load(path)
        again = loaded.last
        expected = found.last.mean(last_layer_input(found.encoder, x))
        atol = 0.01 * float(value.std())  # the encoder is in half precision
        torch.testing.assert_close(again.mean(loaded.hidden(x)), expected, rtol=0.0, atol=atol)
    h = found.last.rows
    for key in ("mean", "open"):
        torch.testing.assert_close(getattr(again, key)(h), getattr(found.last, key)(h), rtol=1e-9, atol=1e-9)
    assert (again.leverage, again.noise) == (found.last.leverage, found.last.noise)
    assert (again.q68, again.q95) == pytest.approx((found.last.q68, found.last.q95), rel=1e-6)
    following = PropertyModel(card(), found.encoder, again, one.surrogate)
    for strategy in ("kernel", "bayesian", "affine_model"):
        new = transfer(following, data, strategy=strategy, x=x)
        assert new.errors[strategy] < 0.3 * new.guess
    curve = learning_curve(one, data, x, found)
    assert min(curve.values()) < found.guess


def test_contributions_of_atoms_add_up_to_the_value() -> None:
    one, both = model(), crystals()
    assert one.surrogate is not None
    x = torch.cat([inputs(18), one.inputs(both)])
    value = torch.linspace(1.0, 8.0, 20, dtype=torch.float64)
    found = transfer(one, planted(value), strategy="kernel", x=x)
    learned = PropertyModel(card(scale=found.scale), found.encoder, found.last, one.surrogate)
    predicted = learned.predict(both).value.tolist()
    (shares,) = contributions([learned], one.surrogate, both)
    for each, expected in zip(shares, predicted, strict=True):
        assert each.baseline + each.whole + sum(each.atoms) == pytest.approx(expected, rel=1e-3)
        assert max(map(abs, each.atoms)) > 0
