"""How sure the energy differences of a ranking are.

Most of a potential's error cancels between crystals of one composition; what is left is larger where they
lie far apart and where another model, asked at the same geometries, tells another difference. So the error
of Δ_k = E_k − E_lowest by the model that ranks is taken for Student's t of ν degrees of freedom and the
scale s_k,

    s_k² = a² + (b Δ_k)² + Σ_m c_m² (Δ_k,m − Δ_k)²

with Δ_k,m by each other model m. The parameters are the most likely ones for pairs of crystals of
compositions that no generator's training has seen, with differences by DFT (`csp benchmark differences`).
Disagreement of models as a measure of error: Seung, Opper and Sompolinsky (COLT 1992, p. 287);
Lakshminarayanan, Pritzel and Blundell (NeurIPS 2017).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from csp.protocols import Label

__all__ = ["DifferenceErrors", "disagreements"]

SHIPPED = Path(__file__).parents[1] / "data" / "difference_errors.json"
FIRST = 3  # crystals of a ranking whose order is compared
MUCH = 0.05  # eV/atom


@dataclass(frozen=True, slots=True)
class DifferenceErrors:
    """Parameters of the errors of differences.

    Attributes:
        floor: a, eV/atom.
        difference: b.
        others: c, of each other model.
        freedom: ν.
    """

    floor: float
    difference: float
    others: tuple[float, ...]
    freedom: float

    @classmethod
    def load(
        cls, label: Label, others: Sequence[Label | None], path: Path = SHIPPED
    ) -> DifferenceErrors | None:
        """For differences by the model of a label: the fit that knows most of the other models (None: a model
        without a lasting label), the rest of which count for nothing. None where there is no fit."""
        asked = [str(other) for other in others]
        fits = [
            fit
            for fit in json.loads(path.read_text(encoding="utf-8"))
            if fit["label"] == str(label) and set(fit["others"]) <= set(asked)
        ]
        if not fits:
            return None
        fit = max(fits, key=lambda fit: len(fit["others"]))
        weights = tuple(fit["others"].get(name, 0.0) for name in asked)
        return cls(fit["floor"], fit["difference"], weights, fit["freedom"])

    @classmethod
    def fit(cls, differences: Tensor, others: Tensor, true: Tensor) -> DifferenceErrors:
        """The most likely parameters for N pairs.

        Args:
            differences: float64 [N], Δ, eV/atom.
            others: float64 [N, M], Δ by each other model.
            true: float64 [N], Δ by DFT.
        """
        start = [math.log(0.01), math.log(0.2), *[math.log(0.3)] * others.shape[1], math.log(4.0)]
        x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([x], max_iter=500, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            scale = _scale(x[:-1].exp(), differences, others)
            t = torch.distributions.StudentT(x[-1].exp(), 0.0, scale)
            total: Tensor = -t.log_prob(true - differences).mean() + 1e-4 * (x**2).sum()
            total.backward()
            return total

        optimiser.step(loss)
        floor, difference, *c, freedom = x.exp().tolist()
        return cls(floor, difference, tuple(c), freedom)

    def intervals(self, differences: Tensor, others: Tensor, share: float = 0.6827) -> Tensor:
        """float64 [N]: half the width of the interval, eV/atom, that holds the true difference with this
        probability; 0 for no difference to the lowest itself, which is where Δ and all Δ_m are 0."""
        from scipy.stats import t

        parameters = torch.tensor([self.floor, self.difference, *self.others], dtype=torch.float64)
        width = float(t.ppf(0.5 + share / 2, self.freedom)) * _scale(parameters, differences, others)
        itself = (differences == 0) & (others == 0).all(1)
        return width.masked_fill(itself, 0.0)

    def as_dict(self, others: Sequence[str]) -> dict[str, object]:
        """For the file, with the labels of the other models."""
        return asdict(self) | {"others": dict(zip(others, self.others, strict=True))}


def _scale(parameters: Tensor, differences: Tensor, others: Tensor) -> Tensor:
    """float64 [N]; parameters: a, b and each c."""
    a, b, c = parameters[0], parameters[1], parameters[2:]
    apart = c * (others - differences[:, None])
    return (a**2 + (b * differences) ** 2 + (apart**2).sum(1)).sqrt()


def disagreements(per_atom: Tensor, others: Tensor) -> list[tuple[int, int, float]]:
    """Pairs of the first crystals of a ranking that another model orders the other way, and much so.

    Args:
        per_atom: float64 [R], eV/atom, by the model that ranks, in the order of the ranking.
        others: float64 [R], by the other, at the same geometries.

    Returns:
        (i, j, by how much the two models' differences differ, eV/atom) with i the lower of the two by the
        model that ranks, where that is more than `MUCH`.
    """
    found = []
    for a in range(min(FIRST, len(per_atom))):
        for b in range(a + 1, min(FIRST, len(per_atom))):
            i, j = (a, b) if per_atom[a] <= per_atom[b] else (b, a)
            ours, theirs = float(per_atom[j] - per_atom[i]), float(others[j] - others[i])
            if theirs < 0 and ours - theirs > MUCH:
                found.append((i, j, ours - theirs))
    return found
