"""Which atoms make a property what it is: the difference to the mean crystal, shared out among the atoms.

A model reads features p of the whole crystal, pooled from those of its atoms. The difference of its value
to that of the mean features c of the crystals it learned from is shared out in two steps, each without
remainder.

First among the features, by integrated gradients along the straight line from c to p (M. Sundararajan,
A. Taly, Q. Yan, ICML 2017; the Aumann-Shapley value): feature k has (p_k − c_k) ∫ ∂value/∂p_k.

Then each feature's part among the N atoms, in the proportion in which they make p_k − c_k:

- of a mean, atom i has (x_i − c)/N;
- of a spread s, ((x_i − mean)²/s − c)/N, which sum up to s − c;
- of the largest (and likewise the smallest), its Shapley value in the game whose worth is the largest
  feature of those who take part (S. Littlechild, G. Owen, Management Sci. 20, 370, 1973). It is continuous:
  atoms that are nearly the largest count nearly as much, and equal atoms equally.

So equal atoms have equal contributions, and those of a supercell sum up to those of its crystal. Volume and
density belong to no atom; what they add is told apart. What an atom's features are depends on its neighbours:
its contribution is that of the atom in its place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.property_value import Contributions, Shell
from surrogates.properties.attention import shells
from surrogates.properties.catalogue import backward
from surrogates.properties.features import WHOLE, AtomFeatures, mean_and_spread
from surrogates.properties.model import PropertyModel
from surrogates.transformer.surrogate import Surrogate

__all__ = ["contributions"]

STEPS = 64  # of the line from the mean features to the crystal's


def contributions(
    models: Sequence[PropertyModel], surrogate: Surrogate, crystals: Crystals
) -> list[list[Contributions]]:
    """[models][B], of models that read the features of one surrogate.

    Raises:
        InputError: For an element that the surrogate was not trained on.
    """
    surrogate.check_elements(crystals)
    there = crystals.to(surrogate.device)
    found = [dict[int, Contributions]() for _ in models]
    for rows in surrogate.chunks(there, there.n_atoms):
        part = AtomFeatures.of(surrogate, there[rows])
        attended = shells(surrogate.network, part.atoms, part.depths)
        for of_model, model in zip(found, models, strict=True):
            of_model.update(zip(rows.tolist(), _of_model(model, part, attended), strict=True))
    return [[of_model[b] for b in range(len(crystals))] for of_model in found]


def _of_model(
    model: PropertyModel, part: AtomFeatures, attended: Sequence[tuple[Shell, ...]]
) -> list[Contributions]:
    features = part.pooled().double()
    centre = model.encoder.centre.double().to(features.device)
    baseline, slope = _mean_slope(model, features)
    crystal = part.atoms.crystal
    by_atom = torch.zeros(len(crystal), dtype=torch.float64, device=features.device)
    whole = torch.zeros(len(features), dtype=torch.float64, device=features.device)
    begin = 0
    for share in _shares(part, centre):
        end = begin + (WHOLE if share is None else share.shape[1])
        if share is None:
            whole = ((features - centre) * slope)[:, begin:end].sum(1)
        else:
            by_atom += (share * slope[crystal, begin:end]).sum(1)
        begin = end
    n_atoms = torch.bincount(crystal, minlength=len(features)).tolist()
    neighbours = iter(attended)
    return [
        Contributions(baseline, float(whole[b]), tuple(own.tolist()), tuple(islice(neighbours, n_atoms[b])))
        for b, own in enumerate(by_atom.split(n_atoms))
    ]


def _mean_slope(model: PropertyModel, features: Tensor) -> tuple[float, Tensor]:
    """The value of the mean features, and float64 [B, F]: the mean derivative of the value, in its unit and
    not below what is possible, on the way from there to features [B, F]."""
    encoder = copy.deepcopy(model.encoder).double().to(features.device)

    def learned(x: Tensor) -> Tensor:
        return model.last.mean(encoder(x).transpose(0, 1).flatten(1))

    def value(y: Tensor) -> Tensor:
        found, _ = backward(y, torch.zeros_like(y), model.card.scale)
        return found if model.card.lowest is None else found.clamp(min=model.card.lowest)

    centre = encoder.centre
    read = centre + encoder.scaled(features) * encoder.spread  # cut where no training crystal was
    away = features - centre
    kept = torch.where(away == 0, 1.0, (read - centre) / away)
    with torch.no_grad():
        ends = [learned(torch.lerp(centre.expand_as(read), read, k / STEPS)) for k in range(STEPS + 1)]
    slope = torch.zeros_like(features)
    for k, (before, after) in enumerate(pairwise(ends)):
        middle = torch.lerp(centre.expand_as(read), read, (k + 0.5) / STEPS).requires_grad_()
        with torch.enable_grad():  # whoever calls
            (of_learned,) = torch.autograd.grad(learned(middle).sum(), middle)
        slope += of_learned * _chord(value, before, after)[:, None] / STEPS
    return float(value(ends[0][:1])), slope * kept


def _chord(value: Callable[[Tensor], Tensor], before: Tensor, after: Tensor) -> Tensor:
    """The mean derivative of the value between two of what is learned, kinks included."""
    change = after - before
    near = change.abs() < 1e-9
    after = torch.where(near, before + 1e-9, after)
    return (value(after) - value(before)) / (after - before)


def _shares(part: AtomFeatures, centre: Tensor) -> Iterator[Tensor | None]:
    """float64 [A, W]: of each block of the pooled features, in their order, what each atom has of its
    difference to the mean features; None for the block of the whole crystal."""
    atoms, width = part.atoms, part.depths[0].shape[1]
    means = iter(centre.split([*[width] * (2 * len(part.depths) + 2), WHOLE, part.energy.shape[1]]))
    count = torch.bincount(atoms.crystal, minlength=atoms.n_crystals)[atoms.crystal][:, None]
    for depth in part.depths:
        x = depth.double()
        mean, spread = (pool[atoms.crystal] for pool in mean_and_spread(x, atoms))
        yield (x - next(means)) / count
        own = torch.where(spread > 0, (x - mean) ** 2 / spread, 0.0)
        yield (own - next(means)) / count
    last = part.depths[-1].double()
    yield _of_largest(last, next(means), atoms.crystal)
    yield -_of_largest(-last, -next(means), atoms.crystal)
    next(means)
    yield None
    yield (part.energy - next(means)) / count


def _of_largest(x: Tensor, centre: Tensor, crystal: Tensor) -> Tensor:
    """float64 [A, W]: Shapley values of each crystal's atoms, x [A, W], in the game whose worth is the
    largest among who takes part, and the centre [W] where nobody does."""
    found = torch.empty_like(x)
    for atoms in torch.arange(len(x), device=x.device).split(torch.bincount(crystal).tolist()):
        ordered, order = x[atoms].sort(0)
        steps = torch.diff(ordered, dim=0, prepend=centre[None])
        sharing = torch.arange(len(atoms), 0, -1, device=x.device)[:, None]  # who reaches so high
        found[atoms] = torch.empty_like(steps).scatter_(0, order, (steps / sharing).cumsum(0))
    return found
