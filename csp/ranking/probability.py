"""How probable each ranked crystal is to be the ground truth: its energy weighed with where it comes from.

Polytypes differ by less than a potential errs, and a potential that is right on average is wrong where it
counts: among the lowest. What proposed a crystal knows something too. So the crystals of a ranking compete
in a conditional logit (McFadden, in: Frontiers in Econometrics, Academic Press 1974, p. 105), against each
other and against the event that the ground truth is none of them:

    p_k = exp(w · x_k) / (exp(w_0) + Σ_j exp(w · x_j))

The ground truth is what the weights were fitted to find: the crystal of lowest formation energy that the
Materials Project has of a composition, for compositions of which it has several and no generator's training
has seen any (that of `xs` has seen most of them, and CHGNet's probably did). (Where it has one, that was
often the only one ever computed, and to be lowest means nothing.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from csp.protocols import Label, Provenance

__all__ = ["FEATURES", "SCORED", "AnswerProbability", "best_first", "features", "scores"]

SHIPPED = Path(__file__).parents[1] / "data" / "answer_probability.json"
# the first two give ln p of the same thing, which is averaged
SCORED = ("template", "metric_learning", "space_group")
LEAST = -6.0  # ln p of what a generator did not propose, or holds for less probable
SOFT = 0.01  # eV/atom; the errors of potentials have long tails, so that p falls by a power of the energy …
FAR = 0.1  # eV/atom; … and for what is far up by more, where the potential deserves it
FEATURES = ("energy", "far", "templates", "drawn")
RIDGE = 0.1
DECIMALS = 6  # of probabilities; below, they are equal


def scores(provenance: Sequence[Iterable[Provenance]]) -> Tensor:
    """float64 [R, 3]: the best ln p that each of `SCORED` gave for each of R crystals, `LEAST` where it did
    not propose it."""
    best = [[_score(proposed, name) for name in SCORED] for proposed in provenance]
    return torch.tensor(best, dtype=torch.float64).reshape(-1, len(SCORED))


def features(per_atom: Tensor, ln_p: Tensor) -> Tensor:
    """float64 [R, F], more is better: what speaks for each of R crystals of one search.

    Args:
        per_atom: float [R], eV/atom; how far it is above the lowest counts.
        ln_p: float64 [R, 3], see `scores`.
    """
    above = per_atom.double() - per_atom.double().amin() if len(per_atom) else per_atom.double()
    held = ln_p.clamp(min=LEAST)
    templates = held[:, :2].logsumexp(1) - math.log(2.0)
    return torch.stack([-(above / SOFT).log1p(), -above / FAR, templates, held[:, 2]], 1)


def best_first(probability: Tensor) -> Tensor:
    """int64 [R]: the places of the most probable; equal ones, to what is printed, as they were."""
    return torch.argsort(probability.round(decimals=DECIMALS), descending=True, stable=True)


def _score(proposed: Iterable[Provenance], generator: str) -> float:
    return max((one.score for one in proposed if one.generator == generator), default=LEAST)


@dataclass(frozen=True, slots=True)
class AnswerProbability:
    """The weights w of the features, and w_0 of none of the crystals being the ground truth.

    Attributes:
        weights: w, in the order of `FEATURES`.
        none: w_0.
    """

    weights: tuple[float, ...]
    none: float

    @classmethod
    def load(
        cls, label: Label, entries: int, generators: Iterable[str], path: Path = SHIPPED
    ) -> AnswerProbability | None:
        """The fit for searches like this one; None where there is none.

        That a generator did not propose a crystal speaks against it, as far as the generator was asked: in
        the searches of the fits all of `SCORED` were, so that without one of them nothing is known. That a
        small library has no template for a crystal says less than that a large one has none.

        Args:
            label: Of the energies.
            entries: Of the library that templates come from. The fit is the one whose library is nearest in
                size, of half to twice that size; that of the largest library is for larger ones too.
            generators: Names of those that propose.
        """
        if not set(SCORED) <= set(generators):
            return None
        fits = [fit for fit in json.loads(path.read_text(encoding="utf-8")) if fit["label"] == str(label)]
        most = max((fit["entries"] for fit in fits), default=0)
        usable = [
            fit
            for fit in fits
            if fit["entries"] <= 2 * entries and (entries <= 2 * fit["entries"] or fit["entries"] == most)
        ]
        if not usable:
            return None
        fitted = min(usable, key=lambda fit: abs(math.log(fit["entries"] / entries)))
        return cls(tuple(fitted["weights"][f] for f in FEATURES), fitted["none"])

    @classmethod
    def fit(cls, searches: Sequence[tuple[Tensor, Tensor]]) -> AnswerProbability:
        """The most likely weights for searches with (features [R, F], bool [R]: is it the ground truth?).

        Several matching crystals of a search share their probability; where none matches, none was there.
        What is far up is never the more probable for it, though a potential with holes would have it so.
        """
        free = torch.zeros(len(FEATURES) + 1, dtype=torch.float64)
        free[FEATURES.index("far")] = 1.0  # a square's slope at 0 is none
        free.requires_grad_()
        square = torch.tensor([name == "far" for name in (*FEATURES, "none")])
        optimiser = torch.optim.LBFGS([free], max_iter=500, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            w = torch.where(square, free**2, free)
            total = -sum(_log_likelihood(w[:-1], w[-1], *search) for search in searches)
            total = total + RIDGE * (w[:-1] ** 2).sum()
            total.backward()
            return total

        optimiser.step(loss)
        *weights, none = torch.where(square, free**2, free).tolist()
        return cls(tuple(weights), none)

    def probabilities(self, features: Tensor) -> Tensor:
        """float64 [R]: that each crystal is the ground truth; together at most 1."""
        return _log_p(*self._tensors(), features).exp()[:-1]

    def log_likelihood(self, features: Tensor, truths: Tensor) -> float:
        """ln p of what turned out in one search (as `fit` has it)."""
        return float(_log_likelihood(*self._tensors(), features, truths))

    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.weights, dtype=torch.float64), torch.tensor(self.none, dtype=torch.float64)


def _log_p(weights: Tensor, none: Tensor, features: Tensor) -> Tensor:
    """[R + 1]: of each crystal, and of none of them."""
    return torch.cat([features @ weights, none[None]]).log_softmax(0)


def _log_likelihood(weights: Tensor, none: Tensor, features: Tensor, truths: Tensor) -> Tensor:
    happened = torch.cat([truths, ~truths.any()[None]])
    return _log_p(weights, none, features)[happened].logsumexp(0)
