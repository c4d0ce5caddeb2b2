"""Transfer learning on few labels of one composition: the surrogate with a new last layer.

All strategies here end in a linear function of the surrogate's last features, so the result is again a
surrogate, as fast as before and with forces:

    affine     E' = E + a (w·f̄) + b
    bayesian   E' = E + a (w·f̄) + b + v·f̄

with f̄ the mean features of the atoms and w the old weights; in one composition w·f̄ is the energy per atom
up to a constant. Both are Bayesian linear regressions
(Bishop, Pattern Recognition and Machine Learning, 2006, §3.3–3.5) around "no change" (a = 0, v = 0): b is
free, the prior widths of a and v and the noise are those that make the labels most probable. The error
that is expected on crystals without a label is told by leaving out one group of labels after the other,
in closed form.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import Label
from surrogates.surrogate import Surrogate
from surrogates.uncertainty import Rigidity, with_constant

__all__ = ["STRATEGIES", "Adapted", "Linear", "adapt", "fit_linear"]

STRATEGIES = ("affine", "bayesian")
FREE = 1e3  # eV/atom; prior width of the constant
ENOUGH_FOR_FEATURES = 8  # labels; with fewer, only the affine correction is tried

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """y ≈ Φ w with Gaussian uncertainty of w.

    weights     [P]
    covariance  [P, P]
    noise       eV/atom: one standard deviation of what Φ w leaves unexplained
    left_out    [N]  residuals y − Φ w of each label when its group was not fitted, eV/atom
    """

    weights: Floats
    covariance: Floats
    noise: float
    left_out: Floats

    @property
    def error(self) -> float:
        """Mean absolute left-out residual, eV/atom."""
        return float(np.abs(self.left_out).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """What transfer learning gave.

    surrogate  with the new head; its label is the one of the labels it learned
    strategy   the one that was taken
    errors     strategy → mean absolute left-out error, eV/atom, of those that were tried; "none" is the
               surrogate as it was, shifted by a constant
    n          labels
    """

    surrogate: Surrogate
    strategy: str
    errors: dict[str, float]
    n: int

    def __str__(self) -> str:
        tried = ", ".join(f"{name} {1000 * error:.0f}" for name, error in self.errors.items())
        return f"{self.strategy} on {self.n} labels (left-out error, meV/atom: {tried})"


def adapt(
    surrogate: Surrogate,
    crystals: Crystals,
    energy: Tensor,
    label: Label,
    *,
    groups: Sequence[int] | None = None,
    strategy: str = "auto",
) -> Adapted:
    """The surrogate adapted to labels of crystals of one composition.

    energy    float64 [N]  eV per cell, all under `label`
    groups    [N]  labels of one group are left out together (near-duplicates); None: each is its own
    strategy  one of `STRATEGIES`, or "auto": the one with the smallest left-out error

    Raises InputError for no labels, a label that is not finite, crystals of several compositions or a
    strategy that does not exist.
    """
    if strategy not in (*STRATEGIES, "auto"):
        raise InputError(f"There is no strategy {strategy!r}; choose from auto, {', '.join(STRATEGIES)}.")
    if len(crystals) == 0:
        raise InputError("There are no labels to learn from.")
    if not bool(torch.isfinite(energy).all()):
        raise InputError("A label without a finite energy cannot be learned from.")
    fractions = _fractions(crystals)
    if not torch.allclose(fractions, fractions[:1].expand_as(fractions)):
        raise InputError("The labels are of several compositions; adapt to one at a time.")
    group = np.arange(len(crystals)) if groups is None else np.asarray(groups)

    features = surrogate.features(crystals).cpu()
    before = (surrogate.evaluate(crystals).energy / crystals.n_atoms).double().cpu().numpy()
    change = (energy.double() / crystals.n_atoms).cpu().numpy() - before
    phi = with_constant(features).numpy()
    directions = _directions(surrogate, phi, before)
    wanted = [strategy] if strategy != "auto" else list(STRATEGIES)
    if strategy == "auto" and len(before) < ENOUGH_FOR_FEATURES:
        wanted = ["affine"]
    fits = {name: fit_linear(phi @ directions[name], change, group) for name in ("none", *wanted)}
    best = min(wanted, key=lambda name: fits[name].error)
    fit, columns = fits[best], directions[best]
    covariance = columns @ fit.covariance @ columns.T
    covariance[-1, -1] += fit.noise**2
    return Adapted(
        _reheaded(surrogate, columns @ fit.weights, covariance, label),
        best,
        {name: f.error for name, f in fits.items()},
        len(before),
    )


def _directions(surrogate: Surrogate, phi: Floats, before: Floats) -> dict[str, Floats]:
    """strategy → [W + 1, P]: what may change in the last layer's weights and constant, column by column.

    Columns are a constant, the old energy less its mean, and the features, centred and of unit spread.
    """
    old = surrogate.network.energy.weight[surrogate.column].double().cpu().numpy()
    constant = np.zeros((phi.shape[1], 1))
    constant[-1] = 1.0
    slope = np.append(old, -phi[:, :-1].mean(0) @ old)[:, None]
    spread = np.maximum(phi[:, :-1].std(0), 1e-6)
    each = np.vstack([np.diag(1.0 / spread), -(phi[:, :-1].mean(0) / spread)[None]])
    return {
        "none": constant,
        "affine": np.hstack([constant, slope]),
        "bayesian": np.hstack([constant, slope, each]),
    }


def fit_linear(design: Floats, y: Floats, groups: NDArray[np.int64]) -> Linear:
    """Bayesian linear regression of y [N] on design [N, P]; column 0 is the constant and has a flat prior,
    column 1 the slope with a prior width of its own, the others share one."""
    n, p = design.shape
    gram, moment, power = design.T @ design, design.T @ y, float(y @ y)
    kind = np.minimum(np.arange(p), 2)

    def prior(log_widths: Floats) -> Floats:
        """Prior precisions [P]."""
        widths = np.array([FREE, *np.exp(log_widths)])[kind]
        return np.asarray(1.0 / widths**2)

    def surprise(parameters: Floats) -> float:
        """−ln p(y), constants aside: noise² I + Φ Λ⁻¹ Φᵀ through its P × P form."""
        noise2, precision = np.exp(2.0 * parameters[0]), prior(parameters[1:])
        factor = cho_factor(gram / noise2 + np.diag(precision), lower=True)
        mean = cho_solve(factor, moment) / noise2
        log_det = 2.0 * np.log(np.diag(factor[0])).sum() - np.log(precision).sum() + n * np.log(noise2)
        # a weak pull to sensible widths keeps what few labels leave open from running away
        pull = ((parameters - start) ** 2).sum() / 18.0
        return float(0.5 * (log_det + (power - moment @ mean) / noise2) + pull)

    spread = max(float(y.std()), 1e-3)
    start = np.log(np.array([0.5 * spread, 0.3, 0.1 * spread]))
    bounds = [(np.log(1e-4), np.log(10.0)), (np.log(1e-3), np.log(10.0)), (np.log(1e-5), np.log(10.0))]
    best = minimize(surprise, start, method="L-BFGS-B", bounds=bounds)
    noise = float(np.exp(best.x[0]))
    covariance = np.asarray(np.linalg.inv(gram / noise**2 + np.diag(prior(best.x[1:]))), np.float64)
    weights = np.asarray(covariance @ moment / noise**2, np.float64)
    hat = design @ covariance @ design.T / noise**2
    residual = y - design @ weights
    left_out = np.empty(n)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        left_out[rows] = np.linalg.solve(np.eye(len(rows)) - hat[np.ix_(rows, rows)], residual[rows])
    return Linear(weights, covariance, noise, left_out)


def _reheaded(surrogate: Surrogate, change: Floats, covariance: Floats, label: Label) -> Surrogate:
    """The surrogate with its last layer and constant changed by [W + 1], and σ from the covariance."""
    network, column = copy.deepcopy(surrogate.network), surrogate.column
    with torch.no_grad():
        network.energy.weight[column] += torch.from_numpy(change[:-1]).to(network.energy.weight)
        network.reference[column] += float(change[-1])
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    factor = torch.from_numpy(vectors * np.sqrt(np.maximum(values, 0.0)))
    return Surrogate(
        network,
        kind=surrogate.kind,
        name=f"{surrogate.name}+transfer",
        label=label,
        elements=surrogate.elements,
        rigidity=Rigidity(factor),
    )


def _fractions(crystals: Crystals) -> Tensor:
    """float64 [B, 119]: atomic fractions of the elements."""
    total = torch.zeros(len(crystals), 119, dtype=torch.float64, device=crystals.device)
    ones = torch.ones_like(crystals.numbers, dtype=torch.float64)
    total.index_put_((crystals.batch, crystals.numbers), ones, accumulate=True)
    return total / crystals.n_atoms[:, None]
