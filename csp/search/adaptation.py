"""The first model of a search, adapted to the labels that its store holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from csp.protocols import EnergyModel, Learner
from csp.search.pool import Pool
from csp.store.store import Store

__all__ = ["Adaptation", "labelling_stage"]


def labelling_stage(done: int) -> str:
    """The stage of the labels that are made after so many rounds."""
    return f"label {done}"


@dataclass(frozen=True)
class Adaptation:
    """What labels make of a model; without a learner it stays as it is.

    Attributes:
        model: The model as it is without labels.
        learner: Labels candidates and adapts the model; None: there are no labels.
        store: Holds the labels.
    """

    model: EnergyModel
    learner: Learner | None
    store: Store
    _known: dict[int, tuple[EnergyModel, str]] = field(default_factory=dict)  # by the number of labels

    def labels(self, rounds: int) -> tuple[list[str], Tensor]:
        """Ids and energies, eV per cell (NaN where a label failed), of the first rounds."""
        ids, energies = list[str](), [torch.zeros(0, dtype=torch.float64)]
        for done in range(rounds if self.learner else 0):
            assert self.learner is not None
            found = self.store.energies(labelling_stage(done), self.learner.label)
            ids += found[0]
            energies.append(found[1].energy)
        return ids, torch.cat(energies)

    def after(self, rounds: int, pool: Callable[[], Pool]) -> EnergyModel:
        """The model after so many rounds of labels of members of the pool."""
        return self._adapted(rounds, pool)[0]

    def notes(self, rounds: int, pool: Callable[[], Pool]) -> list[str]:
        """For people: on which labels the model stands and how it was adapted; empty without a learner."""
        if self.learner is None:
            return []
        energy, how = self.labels(rounds)[1], self._adapted(rounds, pool)[1]
        failed = int(energy.isnan().sum())
        text = f"{self.model.name} was adapted to labels of {self.learner.label}: {how}"
        return [text + (f"; {failed} of {len(energy)} labels failed." if failed else ".")]

    def _adapted(self, rounds: int, pool: Callable[[], Pool]) -> tuple[EnergyModel, str]:
        ids, energy = self.labels(rounds)
        good = torch.isfinite(energy)
        if self.learner is None or not bool(good.any()):
            return self.model, "not at all, there is no label"
        if len(ids) not in self._known:
            members = pool()
            place = {i: k for k, i in enumerate(members.ids)}
            crystals = members.crystals[[place[i] for i in ids]]
            self._known[len(ids)] = self.learner.adapt(self.model, crystals[good], energy[good])
        return self._known[len(ids)]
