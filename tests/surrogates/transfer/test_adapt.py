"""Transfer on few labels: against brute force, planted truths, and the contract of energy models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import surrogates.transfer.adapt
from csp.contracts import check_energy_model
from csp.crystallography.neighbours import distance_ratio
from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import Label
from surrogates.transfer.adapt import TUNINGS, adapt
from surrogates.transfer.regression import Block, Linear, fit_linear
from surrogates.transformer.network import MAX_Z, CrystalTransformer, SurrogateArchitecture
from surrogates.transformer.surrogate import Surrogate
from surrogates.transformer.uncertainty import Rigidity, with_constant

KINDS = ("formation", "anchored")
OTHER = Label("PBE", "none", "a DFT code")
WIDTH = 12
SIZES = {"layers": 1, "heads": 2, "edge": 8, "hidden": 16, "radial": 6, "angular": 2, "cutoff": 4.0}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `adapt` tunes weights with, in fewer steps."""
    few = {name: replace(settings, steps=30, epochs=1, folds=2) for name, settings in TUNINGS.items()}
    monkeypatch.setattr(surrogates.transfer.adapt, "TUNINGS", few)


def surrogate() -> Surrogate:
    torch.manual_seed(0)
    network = CrystalTransformer(SurrogateArchitecture(kinds=KINDS, width=WIDTH, **SIZES))  # type: ignore[arg-type]
    torch.nn.init.normal_(network.energy.weight, std=0.3)
    network.reference[:, 1:] = torch.randn(2, MAX_Z, dtype=torch.float64)
    return Surrogate(
        network.double(),
        kind="anchored",
        name="random",
        label=Label("PBE+U", "anchored", "random"),
        elements=frozenset(range(1, 95)),
    )


def salts(n: int, seed: int = 0) -> Crystals:
    """NaCl cells of four atoms at random that do not collide."""
    rng = np.random.default_rng(seed)
    m = 40 * n
    crystals = Crystals.from_arrays(
        4.5 * np.eye(3) + 0.4 * rng.standard_normal((m, 3, 3)),
        list(rng.random((m, 4, 3))),
        [[11, 11, 17, 17]] * m,
    )
    apart = crystals[distance_ratio(crystals) > 0.7]
    assert len(apart) >= n
    return apart[:n]


def planted(model: Surrogate, crystals: Crystals, slope: float, spread: float, noise: float) -> torch.Tensor:
    """eV per cell: E' = slope · E + constant + v·f̄ + noise, per atom."""
    rng = np.random.default_rng(7)
    v = torch.from_numpy(rng.standard_normal(WIDTH)) * spread
    features = model.features(crystals)
    before = model.evaluate(crystals).energy / crystals.n_atoms
    random = noise * torch.from_numpy(rng.standard_normal(len(crystals)))
    return (slope * before + 3.0 + features @ v + random) * crystals.n_atoms


# -- the regression -----------------------------------------------------------------------------------


def regression(n: int, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    design = np.column_stack([np.ones(n), rng.standard_normal((n, 6))])
    weights = np.array([2.0, 0.4, 0.2, -0.1, 0.0, 0.3, -0.2])
    return design, design @ weights + noise * rng.standard_normal(n)


def fitted(design: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Linear:
    blocks = [Block(design[:, :1], None), Block(design[:, 1:2], 0.3), Block(design[:, 2:], 0.1)]
    return fit_linear(blocks, y, groups)


def test_left_out_residuals_are_those_of_fits_without_the_group() -> None:
    design, y = regression(30)
    groups = np.arange(30) // 3
    fit = fitted(design, y, groups)
    precision = np.linalg.inv(fit.covariance) - design.T @ design / fit.noise**2
    for group in range(10):
        kept, out = groups != group, groups == group
        inverse = np.linalg.inv(design[kept].T @ design[kept] / fit.noise**2 + precision)
        weights = inverse @ design[kept].T @ y[kept] / fit.noise**2
        np.testing.assert_allclose(fit.left_out[out], y[out] - design[out] @ weights, atol=1e-8)


def test_noise_and_weights_are_found_and_most_probable() -> None:
    design, y = regression(800)
    fit = fitted(design, y, np.arange(800))
    assert fit.noise == pytest.approx(0.05, rel=0.08)
    np.testing.assert_allclose(fit.weights, [2.0, 0.4, 0.2, -0.1, 0.0, 0.3, -0.2], atol=0.01)
    precision = np.diag(np.linalg.inv(fit.covariance) - design.T @ design / fit.noise**2).copy()
    precision[0] = 1e-3  # flat: the difference above has lost it
    prior = np.diag(1.0 / precision)

    def evidence(noise: float) -> float:
        total = design @ prior @ design.T + noise**2 * np.eye(800)
        sign, log_det = np.linalg.slogdet(total)
        assert sign > 0
        return float(-0.5 * (log_det + y @ np.linalg.solve(total, y)))

    assert evidence(fit.noise) > max(evidence(1.1 * fit.noise), evidence(0.9 * fit.noise))


# -- the surrogate ------------------------------------------------------------------------------------


def test_an_affine_change_is_learned_exactly_and_keeps_forces() -> None:
    model, crystals = surrogate(), salts(60)
    energy = planted(model, crystals, slope=0.7, spread=0.0, noise=0.0)
    adapted = adapt(model, crystals[:10], energy[:10], OTHER, strategy="affine")
    found = adapted.surrogate.evaluate(crystals[10:], forces=True)
    torch.testing.assert_close(found.energy, energy[10:], atol=2e-3, rtol=0)
    before = model.evaluate(crystals[10:], forces=True)
    assert found.forces is not None
    assert before.forces is not None
    torch.testing.assert_close(found.forces, 0.7 * before.forces, atol=2e-3, rtol=0)
    assert found.label == OTHER
    assert adapted.errors["affine"] < 1e-3 < adapted.errors["shift"]


def test_the_adapted_surrogate_keeps_the_contract() -> None:
    model, crystals = surrogate(), salts(40)
    energy = planted(model, crystals, slope=0.9, spread=0.2, noise=0.01)
    check_energy_model(adapt(model, crystals, energy, OTHER).surrogate, crystals[:4])


def test_the_default_takes_what_predicts_best_and_knows_how_well() -> None:
    model, crystals = surrogate(), salts(500)
    energy = planted(model, crystals, slope=0.8, spread=0.5, noise=0.02)
    adapted = adapt(model, crystals[:100], energy[:100], OTHER)
    assert adapted.strategy == "bayesian"
    assert "bayesian on 100 labels" in str(adapted)
    rest = crystals[100:]
    found = adapted.surrogate.evaluate(rest)
    error = ((found.energy - energy[100:]) / rest.n_atoms).abs()
    assert found.sigma is not None
    assert float(error.mean()) < 0.03
    assert float(error.mean()) == pytest.approx(adapted.errors["bayesian"], rel=0.5)
    assert float((error < found.sigma).double().mean()) == pytest.approx(0.683, abs=0.08)
    assert float((error < 2 * found.sigma).double().mean()) == pytest.approx(0.954, abs=0.04)


def test_one_label_shifts() -> None:
    model, crystals = surrogate(), salts(3)
    energy = model.evaluate(crystals).energy + 5.0 * crystals.n_atoms
    adapted = adapt(model, crystals[:1], energy[:1], OTHER)
    assert adapted.strategy == "shift"
    found = adapted.surrogate.evaluate(crystals).energy
    torch.testing.assert_close(found, energy, atol=1e-3, rtol=0)


def test_labels_that_cannot_be_learned_from_are_refused() -> None:
    model, crystals = surrogate(), salts(3)
    energy = model.evaluate(crystals).energy
    with pytest.raises(InputError, match="no labels"):
        adapt(model, crystals[:0], energy[:0], OTHER)
    with pytest.raises(InputError, match="finite"):
        adapt(model, crystals, energy * torch.nan, OTHER)
    with pytest.raises(InputError, match="no strategy 'magic'"):
        adapt(model, crystals, energy, OTHER, strategy="magic")
    other = Crystals(crystals.cell, crystals.frac, crystals.numbers.clone(), crystals.offsets)
    other.numbers[0] = 17
    with pytest.raises(InputError, match="several compositions"):
        adapt(model, other, energy, OTHER, strategy="affine")


# -- rigidity -----------------------------------------------------------------------------------------


def test_rigidity_is_the_posterior_of_a_linear_model() -> None:
    """For a linear model fitted to noisy data, errors on other data have the variance that it gives, up to
    the noise that it cannot know of; where data are scarce they are larger."""
    rng = np.random.default_rng(0)
    scales = np.array([1.0, 1.0, 0.1, 0.01])
    train, other = (torch.from_numpy(rng.standard_normal((n, 4)) * scales) for n in (50, 4000))
    noise = 0.3
    inverse = torch.linalg.inv(with_constant(train).T @ with_constant(train))
    weights = torch.linalg.cholesky(inverse) @ torch.from_numpy(rng.standard_normal((5, 400))) * noise
    errors = (with_constant(other) * weights.T[rng.integers(400, size=4000)]).sum(1)
    rigidity = Rigidity.fit(train, other, errors)
    closed = noise * torch.einsum("mi,ij,mj->m", with_constant(other), inverse, with_constant(other)).sqrt()
    ratio = rigidity.sigma(other) / closed
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(ratio.std()) < 0.05
