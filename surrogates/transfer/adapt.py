"""Transfer learning on few labels: which strategy, and the surrogate that it gives.

    shift, affine, bayesian, affine_model   a new last layer (`surrogates.transfer.fit_correction`), for one
    composition frozen, full                            new weights (`surrogates.transfer.finetune`), for one
    or several

The result is again a surrogate, with forces and with σ. Strategies are compared by their error on labels
that they have not learned, left out in groups of near-duplicates: one group after the other, in closed form,
for the last layer; in four parts for new weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import InputError
from csp.matching.fingerprints import unique
from csp.protocols import Label
from surrogates.training.batches import KINDS, Source
from surrogates.training.labelled import Labelled, compositions, hashed
from surrogates.transfer.finetune import FROZEN, FULL, FineTuning, fine_tune
from surrogates.transfer.fit_correction import LAST_LAYER, fit_correction
from surrogates.transfer.regression import Floats
from surrogates.transformer.correction import LastLayerCorrection
from surrogates.transformer.network import CrystalTransformer
from surrogates.transformer.surrogate import Surrogate
from surrogates.transformer.uncertainty import Rigidity

__all__ = ["KIND", "STRATEGIES", "Adapted", "adapt", "best", "candidates", "near_duplicates"]

KIND = "tuned"  # the only head of an adapted surrogate
TUNINGS = {"frozen": FROZEN, "full": FULL}
STRATEGIES = (*LAST_LAYER, *TUNINGS)
ALIKE = 0.15  # distance of fingerprints, volume aside: about a displacement of 0.1 Å
# labels of one composition from which on the default tries a strategy; frozen was nowhere better than full,
# which is good after ten labels at random and bad after ten that were chosen among the low
TRIED_FROM = {"shift": 1, "affine": 2, "bayesian": 8, "affine_model": 20, "full": 20}
# On n labels the left-out error of new weights counts 1 + 20/n times less than a new last layer's: it is one
# of networks that learned three quarters of the labels. With 20 GPAW labels each of Si, GaAs and MgO it was
# 1.8, 1.3 and 1.7 times the last layer's, and the network that learned all was 10 to 25 % better on others.
FORGIVEN = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """What transfer learning gave.

    Attributes:
        surrogate: With the new head; its label is the one of the labels it learned.
        strategy: The one that was taken.
        errors: strategy → mean absolute left-out error, eV/atom, of those that were tried; NaN where all
            labels are near-duplicates of each other and nothing can be left out.
        n: Labels.
        groups: Of near-duplicates among them.
        asked: The strategy was asked for, not chosen.
    """

    surrogate: Surrogate
    strategy: str
    errors: dict[str, float]
    n: int
    groups: int
    asked: bool

    def __str__(self) -> str:
        tried = ", ".join(f"{name} {1000 * error:.0f}" for name, error in self.errors.items())
        why = "as asked" if self.asked else "by its error"
        if not self.asked and any(error < self.errors[self.strategy] for error in self.errors.values()):
            why += ", which counts less for being that of networks with three quarters of the labels,"
        return (
            f"{self.strategy} on {self.n} labels, {why} (on labels left out in {self.groups} groups of "
            f"near-duplicates, meV/atom: {tried})"
        )


def adapt(
    surrogate: Surrogate,
    crystals: Crystals,
    energy: Tensor,
    label: Label,
    *,
    groups: Sequence[int] | None = None,
    strategy: str = "auto",
    replay: Labelled | None = None,
    seed: int = 0,
) -> Adapted:
    """The surrogate adapted to labels.

    Args:
        energy: float64 [N], eV per cell, all under `label`.
        groups: [N], labels of one group are left out together; None: near-duplicates are.
        strategy: One of `STRATEGIES`, or "auto": of those that so many labels allow, the one with the
            smallest left-out error.
        replay: Crystals that the surrogate's head was trained on, for frozen and full to keep learning from.

    Raises:
        InputError: There are no labels or one that is not finite, elements that the surrogate does not know,
            crystals of several compositions with a strategy for one, or no such strategy.
    """
    _check(surrogate, crystals, energy, strategy)
    several = len(set(compositions(crystals))) > 1
    if several and strategy in LAST_LAYER:
        raise InputError(
            f"The labels are of several compositions; {strategy} learns one, frozen and full all."
        )
    group = near_duplicates(crystals) if groups is None else np.asarray(groups)
    names = candidates(len(crystals), several=several) if strategy == "auto" else [strategy]
    found: dict[str, tuple[Surrogate, Floats]] = {}
    if not several:  # what a shift leaves is reported beside what was asked for
        last_layers = dict.fromkeys(("shift", *(name for name in names if name in LAST_LAYER)))
        found |= _new_last_layers(surrogate, crystals, energy, label, group, list(last_layers))
    source = None if replay is None else _source(surrogate, replay)
    for name in names:
        if name in TUNINGS:
            labelled = Labelled(crystals, [""] * len(crystals), energy.double())
            found[name] = _new_weights(surrogate, labelled, label, group, TUNINGS[name], source, seed)
    less = 1.0 + FORGIVEN / len(crystals)
    taken = best({name: found[name][1] / (less if name in TUNINGS else 1.0) for name in names})
    errors = {name: float(np.abs(left_out).mean()) for name, (_, left_out) in found.items()}
    return Adapted(
        found[taken][0], taken, errors, len(crystals), len(np.unique(group)), asked=strategy != "auto"
    )


def best(left_out: Mapping[str, Floats]) -> str:
    """The strategy with the smallest mean absolute left-out residual; the first of equals, and where nothing
    could be left out (NaN)."""
    return min(left_out, key=lambda name: np.nan_to_num(np.abs(left_out[name]).mean(), nan=np.inf))


def candidates(n: int, *, several: bool = False) -> list[str]:
    """The strategies that the default tries on n labels, of one composition or of several."""
    if several:
        return list(TUNINGS)
    return [name for name, least in TRIED_FROM.items() if n >= least]


def near_duplicates(crystals: Crystals) -> NDArray[np.int64]:
    """int64 [N]: equal for crystals of one structure at several volumes or with slightly displaced atoms."""
    return unique(crystals, scale=True, tolerance=ALIKE).cpu().numpy()


def _check(surrogate: Surrogate, crystals: Crystals, energy: Tensor, strategy: str) -> None:
    if strategy not in (*STRATEGIES, "auto"):
        raise InputError(f"There is no strategy {strategy!r}; choose from auto, {', '.join(STRATEGIES)}.")
    if len(crystals) == 0:
        raise InputError("There are no labels to learn from.")
    if not bool(torch.isfinite(energy).all()):
        raise InputError("A label without a finite energy cannot be learned from.")
    unknown = set(crystals.numbers.unique().tolist()) - surrogate.elements
    if unknown:
        numbers = ", ".join(str(z) for z in sorted(unknown))
        raise InputError(f"{surrogate.name} was not trained on the elements {numbers}.")
    if surrogate.correction is not None:
        raise InputError(
            f"{surrogate.name} is itself the outcome of affine_model; adapt the model that it came from."
        )


def _new_last_layers(
    surrogate: Surrogate,
    crystals: Crystals,
    energy: Tensor,
    label: Label,
    group: NDArray[np.int64],
    names: list[str],
) -> dict[str, tuple[Surrogate, Floats]]:
    """Strategy → the surrogate and its left-out residuals, eV/atom."""
    features = surrogate.features(crystals).cpu()
    before = surrogate.evaluate(crystals).energy
    change = ((energy.double() - before) / crystals.n_atoms).cpu()
    old = surrogate.network.energy.weight[surrogate.column].double().cpu()
    found = {}
    for name in names:
        correction, left_out = fit_correction(name, features, change, old, group)
        if len(np.unique(group)) < 2:
            left_out = np.full(len(group), np.nan)
        found[name] = _with_correction(surrogate, correction, label, crystals), left_out
    return found


def _with_correction(
    surrogate: Surrogate, correction: LastLayerCorrection, label: Label, crystals: Crystals
) -> Surrogate:
    """A linear change goes into the weights, another one on top."""
    network = surrogate.network.with_heads((surrogate.column,), (KIND,))
    if not correction.is_linear:
        return _adapted(surrogate, network, label, crystals, correction=correction)
    change, factor = correction.as_linear()
    with torch.no_grad():
        network.energy.weight[0] += change[:-1].to(network.energy.weight)
        network.reference[0] += float(change[-1])
    return _adapted(surrogate, network, label, crystals, rigidity=Rigidity(factor))


def _new_weights(
    surrogate: Surrogate,
    labelled: Labelled,
    label: Label,
    group: NDArray[np.int64],
    settings: FineTuning,
    replay: Source | None,
    seed: int,
) -> tuple[Surrogate, Floats]:
    """The surrogate and its left-out residuals, which σ is scaled to."""
    tuned = fine_tune(
        surrogate.network, surrogate.column, labelled, group, settings, replay=replay, seed=seed
    )
    found = _adapted(surrogate, tuned.network, label, labelled.crystals)
    if len(np.unique(group)) < 2:
        return found, np.full(len(group), np.nan)
    features = found.features(labelled.crystals).cpu()
    rigidity = Rigidity.fit(features, None, tuned.left_out)
    found = _adapted(surrogate, tuned.network, label, labelled.crystals, rigidity=rigidity)
    return found, tuned.left_out.numpy()


def _adapted(
    surrogate: Surrogate,
    network: CrystalTransformer,
    label: Label,
    crystals: Crystals,
    rigidity: Rigidity | None = None,
    correction: LastLayerCorrection | None = None,
) -> Surrogate:
    return Surrogate(
        network,
        kind=KIND,
        name=f"{surrogate.name}+transfer",
        label=label,
        elements=surrogate.elements,
        rigidity=rigidity,
        correction=correction,
        seen=surrogate.seen | {hashed(name) for name in compositions(crystals)},
    )


def _source(surrogate: Surrogate, replay: Labelled) -> Source:
    if surrogate.kind not in KINDS:
        raise InputError(
            f"{surrogate.name} was itself adapted; only a model that was not can replay its training."
        )
    cutoff = surrogate.network.architecture.cutoff
    return Source(surrogate.kind, replay, 1.0, cutoff, surrogate.device)
