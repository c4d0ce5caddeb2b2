"""Transfer of a property model to few values of another property.

    kernel         Gaussian-process regression on the source's values and features and, of crystals, on the
                   surrogate's (`surrogates.properties.kernel`)
    bayesian       a new last layer, its widths and noise by the evidence, on the source's features and, of
                   crystals, the principal components of the surrogate's features over the data
    affine_model   the source's own values, scaled and shifted, and a new last layer on top (affine model
                   transfer, Minami, Fukumizu, Hayashi and Yoshida, NeurIPS 2023, its linear form)
    full           all weights of the source's encoder and last layer go on learning

They are compared by their error on values left out in groups of equal composition: in parts for new weights,
in closed form for all others. Of these "auto" takes the kernel, which is the best from few values, as long as
it is quick: a choice among many by errors on few is a choice of luck.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csp.errors import InputError
from surrogates.properties.catalogue import IDENTITY, LOG10, backward, forward
from surrogates.properties.few_values import COUNTED_FROM, FewLearned, bound, learn, quantiles
from surrogates.properties.fitting import PropertyRecipe, fit
from surrogates.properties.kernel import KernelRegression
from surrogates.properties.model import LastLayer, PropertyModel, last_layer_input
from surrogates.properties.own_data import OwnData
from surrogates.transfer.regression import Block, Linear, fit_linear, folds
from surrogates.transformer.uncertainty import Rigidity, widening, with_constant

__all__ = [
    "FULL",
    "KERNEL",
    "LAST_LAYERS",
    "STRATEGIES",
    "Transferred",
    "learning_curve",
    "quick",
    "scales",
    "source_input",
    "transfer",
]

KERNEL = "kernel"
LAST_LAYERS = ("bayesian", "affine_model")
FULL = "full"
STRATEGIES = (KERNEL, *LAST_LAYERS, FULL)
KERNEL_TO = 1000  # values up to which the default tries the kernel: its time goes with their third power
FULL_FROM = 100  # values from which on the default tries all weights
DRAWS, FEWEST_LEARNED = 3, 5  # of the learning curve
MOST_OWN = 0.98  # share of its own prediction that a value may have for its left-out σ
PARTS = 5  # in which values are left out from new weights
GENTLE = PropertyRecipe(epochs=100, least=150, most=600, batch=32, lr=5e-4, weight_decay=0.05)
START = 1.0  # where the width of the last layer's weights is sought from, in standard deviations of y


@dataclass(frozen=True, slots=True, eq=False)
class Transferred:
    """What transfer gave.

    Attributes:
        encoder, last: Of the new model.
        scale: What was learned: the value or its decimal logarithm.
        strategy: The one that was taken.
        errors: strategy → mean absolute left-out error, in the values' unit.
        left_out: float64 [N], of the strategy taken, predicted minus y, as learned.
        lowest: No value is below it; None: any may be.
        guess: Mean absolute error of taking the median of all values for each: what must be undercut.
    """

    encoder: Any
    last: LastLayer | KernelRegression
    scale: str
    strategy: str
    errors: dict[str, float]
    left_out: Tensor
    guess: float
    lowest: float | None = None


def quick(n: int) -> tuple[str, ...]:
    """The strategies in closed form that the default tries of n values."""
    return (KERNEL,) if n <= KERNEL_TO else LAST_LAYERS


def scales(value: Tensor) -> list[str]:
    """How values may be learned: positive ones as their logarithms, too."""
    return [IDENTITY, LOG10] if bool((value > 0).all()) else [IDENTITY]


def _least(errors: Mapping[tuple[str, str], float]) -> tuple[str, str]:
    """The strategy and the scale of the smallest error."""
    return min(errors, key=lambda one: errors[one])


def source_input(source: PropertyModel, data: OwnData, features: Tensor | None = None) -> Tensor:
    """What the source's encoder reads of the data.

    Raises:
        InputError: It needs crystals, and the table has formulas alone; or a row has unknown elements.
    """
    data.check_elements(source.elements, source.card.name)
    if source.by_composition:
        return data.composition
    if features is not None:
        return features
    if data.crystals is None:
        raise InputError(
            f"{source.card.name} reads crystals, and the table has formulas alone; name a model of "
            "compositions as the source, or give structure files."
        )
    return source.inputs(data.crystals)


def transfer(
    source: PropertyModel,
    data: OwnData,
    *,
    strategy: str = "auto",
    x: Tensor | None = None,
    seed: int = 0,
) -> Transferred:
    """Adapt a source to values.

    Args:
        strategy: One of `STRATEGIES`, or "auto": of those that are tried of so many values, the one with the
            smallest left-out error.
        x: `source_input` of the data, where it is known already.

    Raises:
        InputError: No such strategy, or the source cannot read the data.
    """
    if strategy not in (*STRATEGIES, "auto"):
        raise InputError(f"There is no strategy {strategy!r}; choose from auto, {', '.join(STRATEGIES)}.")
    x = source_input(source, data) if x is None else x
    plain = source.with_plain(x)
    full = [FULL] if len(data) >= FULL_FROM else []
    tried = [strategy] if strategy != "auto" else [*quick(len(data)), *full]
    found: dict[tuple[str, str], tuple[Any, LastLayer | KernelRegression, Tensor]] = {}
    errors: dict[tuple[str, str], float] = {}
    for name in tried:
        if name == KERNEL:
            scale, encoder, learned = _by_kernel(source, x, data)
            found[name, scale] = encoder, learned.last, learned.left_out
            errors[name, scale] = _error(forward(data.value, scale), learned.left_out, scale)
            continue
        for scale in scales(data.value) if name != FULL or not errors else [_least(errors)[1]]:
            y, weight = forward(data.value, scale), _weights(data, scale)
            one: tuple[Any, LastLayer, Tensor]
            if name == FULL:
                one = _all_weights(plain, x, y, data, weight, seed)
            else:
                one = plain.encoder, *_last_layer(plain, plain.hidden(x), y, data, weight, name)
            found[name, scale], errors[name, scale] = one, _error(y, one[2], scale)
    taken, scale = _least(errors)
    encoder, last, left_out = found[taken, scale]
    guess = float((data.value - data.value.median()).abs().mean())
    by_name = {name: min(error for (one, _), error in errors.items() if one == name) for name in tried}
    lowest = bound(data.value) if taken == KERNEL else None
    return Transferred(encoder, last, scale, taken, by_name, left_out, guess, lowest)


def _by_kernel(source: PropertyModel, x: Tensor, data: OwnData) -> tuple[str, Any, FewLearned]:
    """The scale, of which the values left out are the most probable, the encoder and what was learned."""
    source = source.with_raw()
    h, found = source.hidden(x), dict[str, FewLearned]()
    for scale in scales(data.value):
        y = forward(data.value, scale)
        lowest = None if bound(data.value) is None else float(y.min())
        found[scale] = _kernel(source, h, y, data.groups, lowest, _weights(data, scale))

    def surprise(scale: str) -> float:
        """Of the values in their unit."""
        density = torch.log(data.value * math.log(10.0)).sum() if scale == LOG10 else 0.0
        return found[scale].surprise + float(density)

    scale = min(found, key=surprise)
    return scale, source.encoder, found[scale]


def _kernel(
    source: PropertyModel,
    h: Tensor,
    y: Tensor,
    groups: Any,
    lowest: float | None,
    weight: Tensor | None = None,
) -> FewLearned:
    """Of a source's features, one block, and the surrogate's if they stand beside them, another."""
    blocks = source.blocks if source.by_composition else [sum(source.blocks[:-1]), source.blocks[-1]]
    return learn(h, y, source.values, blocks, groups, lowest=lowest, counted=weight)


def learning_curve(
    source: PropertyModel, data: OwnData, x: Tensor, found: Transferred, seed: int = 0
) -> dict[int, float]:
    """Number of values → mean absolute error on the others, in the values' unit, of what learned so many as
    `found` did, by the kernel, or else of a new last layer; the mean of draws by composition."""
    by_kernel, scale = found.strategy == KERNEL, found.scale
    source = source.with_raw() if by_kernel else source.with_plain(x)
    y, h, groups = forward(data.value, scale), source.hidden(x), data.groups
    lowest = None if found.lowest is None else float(y.min())
    curve: dict[int, float] = {}
    for quarters in (1, 2, 3):
        errors, sizes = [], []
        for repeat in range(DRAWS):
            parts = folds(groups, 4, seed + repeat)
            if len(parts) < 4:
                continue
            learned = np.concatenate(parts[:quarters])
            others = np.setdiff1d(np.arange(len(y)), learned)
            if len(learned) >= FEWEST_LEARNED:
                own = h[learned], y[learned], groups[learned]
                last: LastLayer | KernelRegression
                if by_kernel:
                    last = _kernel(source, *own, lowest).last
                else:
                    last = _regression(source, *own, LAST_LAYERS[0])[0]
                predicted = last.mean(h[others])
                predicted = predicted if lowest is None else predicted.clamp(min=lowest)
                errors.append(_error(y[others], predicted - y[others], scale))
                sizes.append(len(learned))
        if errors:
            curve[round(float(np.mean(sizes)))] = float(np.mean(errors))
    return curve


def _error(y: Tensor, left_out: Tensor, scale: str) -> float:
    """Mean absolute error in the values' unit."""
    predicted, _ = backward(y + left_out, torch.zeros_like(y), scale)
    true, _ = backward(y, torch.zeros_like(y), scale)
    return float((predicted - true).abs().mean())


def _weights(data: OwnData, scale: str) -> Tensor | None:
    """float64 [N]: how much each value counts, by its σ; one half to two."""
    if data.sigma is None:
        return None
    sigma = data.sigma / data.value if scale == LOG10 else data.sigma
    return (sigma.median() / sigma).clamp(0.5, 2.0)


def _regression(
    source: PropertyModel,
    h: Tensor,
    y: Tensor,
    groups: Any,
    name: str,
    weight: Tensor | None = None,
) -> tuple[LastLayer, Linear]:
    """A last layer by Bayesian regression, on features scaled as they vary over the data."""
    centre, spread = h.mean(0), h.std(0, correction=0)
    # a feature that hardly varies over the data says nothing of it: it must not be blown up
    spread = spread.clamp(min=0.1 * float(spread.mean()) + 1e-9)
    phi = ((h - centre) / spread).numpy() / np.sqrt(h.shape[1])
    middle, size = float(y.mean()), max(float(y.std(correction=0)), 1e-9)
    target = ((y - middle) / size).numpy()
    ones = np.ones((len(y), 1))
    # each of models taken together has a width of its own: the evidence finds which of them matter
    parts = np.split(phi, np.cumsum(source.blocks)[:-1], axis=1)
    blocks = [Block(ones, None), *(Block(part, START) for part in parts)]
    linear, size_of = source.values[:-1], torch.ones(0, dtype=torch.float64)
    if name == "affine_model":
        before = (h - centre) @ linear
        size_of = before.std(0, correction=0).clamp(min=1e-9)
        blocks.insert(1, Block((before / size_of).numpy(), 1.0))
    w = np.ones(len(y)) if weight is None else weight.numpy()
    blocks = [Block(block.columns * w[:, None], block.width) for block in blocks]
    fitted = fit_linear(blocks, target * w, groups)
    # from the scaled columns back to the features
    n, width = len(fitted.weights), h.shape[1]
    back = torch.zeros(width + 1, n, dtype=torch.float64)
    back[-1, 0] = 1.0
    by_feature = torch.diag(1.0 / (spread * np.sqrt(width)))
    back[:-1, n - width :] = by_feature
    back[-1, n - width :] = -centre @ by_feature
    for column, scale in enumerate(size_of, start=1):
        back[:-1, column] = linear[:, column - 1] / scale
        back[-1, column] = -(centre @ linear[:, column - 1]) / scale
    new = back @ torch.from_numpy(fitted.weights) * size
    new[-1] += middle
    spread2, axes = np.linalg.eigh(0.5 * (fitted.covariance + fitted.covariance.T))
    root = axes * np.sqrt(spread2.clip(min=0.0))
    factor = back @ torch.from_numpy(root) * size
    leverage = float(((with_constant(h) @ factor) ** 2).sum(1).mean())
    last = LastLayer(new, factor, fitted.noise * size, 1.0, 1.0, leverage)
    return last, replace(fitted, left_out=-fitted.left_out * size / w)


def _last_layer(
    source: PropertyModel, h: Tensor, y: Tensor, data: OwnData, weight: Tensor | None, name: str
) -> tuple[LastLayer, Tensor]:
    last, fitted = _regression(source, h, y, data.groups, name, weight)
    left_out = torch.from_numpy(fitted.left_out)
    # σ² of a value left out, from σ² with it and its share of its own prediction (Sherman-Morrison)
    share = (last.open(h) / last.noise**2).clamp(max=MOST_OWN)
    return _widened(last, left_out * (1.0 - share).sqrt() / last.noise, fitted.freedom), left_out


def _widened(last: LastLayer, ratio: Tensor, freedom: int) -> LastLayer:
    """As wide as the left-out errors are by their σ, `ratio` [N]: by their quantiles where there are many,
    else by their mean square and as Student's distribution is."""
    from scipy.stats import t

    if len(ratio) >= COUNTED_FROM:
        q68, q95 = quantiles(ratio.abs())
        return replace(last, q68=q68, q95=q95)
    scale = float((ratio**2).mean().sqrt())
    return replace(last, q68=scale * widening(freedom), q95=scale * float(t.ppf(0.97725, max(freedom, 1))))


def _all_weights(
    source: PropertyModel, x: Tensor, y: Tensor, data: OwnData, weight: Tensor | None, seed: int
) -> tuple[Any, LastLayer, Tensor]:
    """All weights learn, from where a Bayesian last layer begins."""
    recipe, groups = replace(GENTLE, seed=seed), data.groups

    def train(rows: Sequence[int] | Any) -> Any:
        h = source.hidden(x[rows])
        start, _ = _regression(source, h, y[rows], groups[rows], "bayesian")
        encoder = copy.deepcopy(source.encoder).requires_grad_(True)
        counted = None if weight is None else weight[rows].float()
        return fit(encoder, x[rows], y[rows], recipe, last=start.weight, weight=counted, decay=1.0)

    left_out = torch.zeros_like(y)
    for held in folds(groups, PARTS, seed):
        fitted = train(np.setdiff1d(np.arange(len(y)), held))
        left_out[held] = last_layer_input(fitted.encoder, x[held]) @ fitted.weight + fitted.bias - y[held]
    fitted = train(np.arange(len(y)))
    h = last_layer_input(fitted.encoder, x)
    whole = torch.cat([fitted.weight, torch.tensor([fitted.bias], dtype=torch.float64)])
    factor = Rigidity.fit(h, None, left_out).factor
    noise = float(left_out.abs().median())
    leverage = float(((with_constant(h) @ factor) ** 2).sum(1).mean())
    last = LastLayer(whole, factor, noise, 1.0, 1.0, leverage)
    ratio = left_out / (last.open(h) + noise**2).sqrt()
    return fitted.encoder, _widened(last, ratio, len(y) - 1), left_out
