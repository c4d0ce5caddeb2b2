"""Which candidates to label, and the surrogate adapted to their labels: the learner of a search."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import EnergyModel, Label, Labeller, Labels
from surrogates.exporting import export_adapted
from surrogates.transfer.adapt import Adapted, adapt
from surrogates.transformer.surrogate import Surrogate

__all__ = ["WINDOW", "ActiveLearner", "choose", "farthest"]

# shares of the labels of a later round: lowest in energy; most uncertain of the lower ones; most unlike what
# is labelled; the rest at random, a test that no choice has biased
LOWEST, UNCERTAIN, SPREAD = 0.4, 0.25, 0.15
LOWER = 0.3  # of the candidates, by energy, that the uncertain ones are sought among
FIRST_AMONG = 0.6  # of the candidates, by energy, that the first labels are spread over
# eV/atom over the lowest; none above is labelled while there are others. The surrogate has learned from no
# crystal so far above an anchor, and one such label turns the slope of a linear correction
WINDOW = 2.0


class ActiveLearner:
    """Labels by a labeller, in `folder`; learned by `surrogates.transfer.adapt`, and the model that learned
    them is kept in the folder `models` beside it."""

    def __init__(self, labeller: Labeller, folder: Path) -> None:
        self.label = labeller.label
        self._labeller, self._folder = labeller, folder

    def compute(self, crystals: Crystals) -> Labels:
        """See `csp.protocols.Learner`."""
        return self._labeller.compute(crystals, self._folder)

    def choose(
        self, model: EnergyModel, crystals: Crystals, energy: Tensor, taken: Sequence[int], n: int, seed: int
    ) -> list[int]:
        """See `csp.protocols.Learner` and `choose`. Cells too large for the labeller are left out."""
        surrogate = _surrogate(model)
        features = surrogate.features(crystals)
        sigma = surrogate.sigma(crystals)
        small = crystals.n_atoms <= self._labeller.max_atoms
        among = small.nonzero().flatten().tolist()
        return choose(features, energy, sigma, among, taken, n, seed)

    def adapt(self, model: EnergyModel, crystals: Crystals, energy: Tensor) -> tuple[EnergyModel, str]:
        """See `csp.protocols.Learner`; the new label names the surrogate and hashes the labels."""
        surrogate = _surrogate(model)
        text = " ".join(f"{i} {e:.6f}" for i, e in zip(crystals.ids(), energy.tolist(), strict=True))
        labels = hashlib.blake2b(f"{self.label} {text}".encode(), digest_size=6).hexdigest()
        name = f"{surrogate.label.checkpoint} on {len(crystals)} labels {labels}"
        found = adapt(surrogate, crystals, energy, Label(self.label.functional, self.label.correction, name))
        return found.surrogate, f"{found}; {self._kept(found, crystals, surrogate)}"

    def _kept(self, found: Adapted, crystals: Crystals, parent: Surrogate) -> str:
        """Where the model is; a disk that is full costs the model, not the search."""
        from pymatgen.core import Composition

        name = f"{Composition.from_dict(_counts(crystals)).reduced_formula}-{self._labeller.name}"
        folder = self._folder.with_name("models")
        data = [f"{found.n} labels of {self.label} chosen in a search"]
        try:
            export_adapted(found, name, folder, parent=parent.label.checkpoint, data=data)
        except OSError as error:
            return f"it could not be saved ({error.strerror})"
        return f"saved as {folder.name}/{name}.safetensors"


def choose(
    features: Tensor,
    energy: Tensor,
    sigma: Tensor | None,
    among: Sequence[int],
    taken: Sequence[int],
    n: int,
    seed: int,
) -> list[int]:
    """At most n of B crystals to label next: of `among`, none of `taken`.

    The first labels are spread over the space of the features, from the lowest energy on; later ones go
    where they decide most.

    Args:
        features: float64 [B, W].
        energy: float64 [B], eV/atom, by the model as it is.
        sigma: float64 [B], eV/atom, of the model as it is; None where it has none.
    """
    features = (features - features.mean(0)) / features.std(0, correction=0).clamp(min=1e-6)
    allowed = set(among) - set(taken)
    by_energy = [k for k in torch.argsort(energy, stable=True).tolist() if k in allowed]
    near = [k for k in by_energy if energy[k] - energy[by_energy[0]] <= WINDOW]
    by_energy = near if len(near) >= n else by_energy[:n]
    if not taken:
        lower = by_energy[: max(n, round(FIRST_AMONG * len(by_energy)))]
        return farthest(features, lower, lower[:1], n)
    chosen = by_energy[: round(LOWEST * n)]
    if sigma is not None:
        lower = [k for k in by_energy[: round(LOWER * len(energy))] if k not in chosen]
        chosen += sorted(lower, key=lambda k: -float(sigma[k]))[: round(UNCERTAIN * n)]
    left = [k for k in by_energy if k not in chosen]
    chosen += farthest(features, left, [*taken, *chosen], round(SPREAD * n))
    left = [k for k in left if k not in chosen]
    at_random = np.random.default_rng(seed).permutation(left).tolist()
    return [*chosen, *at_random][:n]


def farthest(points: Tensor, among: Sequence[int], taken: Sequence[int], n: int) -> list[int]:
    """n of `among`, rows of points [B, W], each the farthest from all that were taken before.

    Where nothing is taken but a first point that is itself among them, that one is chosen first.
    (Gonzalez, Theor. Comput. Sci. 38, 293, 1985.)
    """
    chosen = [k for k in taken if k in set(among)][:n]
    left = [k for k in among if k not in set(chosen)]
    near = torch.cdist(points[left], points[list(taken)]).min(1).values if taken else torch.zeros(len(left))
    while left and len(chosen) < n:
        best = int(near.argmax())
        chosen.append(left[best])
        near = torch.minimum(near, (points[left] - points[left[best]]).norm(dim=1))
        near[best] = -torch.inf
        if len(chosen) >= len(among):
            break
    return chosen


def _surrogate(model: EnergyModel) -> Surrogate:
    if not isinstance(model, Surrogate):
        raise InputError(f"{model.name} cannot be adapted to labels; choose a surrogate of ours.")
    return model


def _counts(crystals: Crystals) -> dict[str, int]:
    """How many atoms of each element, by symbol, in the first crystal."""
    from ase.data import chemical_symbols

    numbers, counts = crystals[0].numbers.unique(return_counts=True)
    return {chemical_symbols[z]: n for z, n in zip(numbers.tolist(), counts.tolist(), strict=True)}
