"""The two protocols everything plugs into, and what passes through them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import LabelError
from csp.target import Target

__all__ = [
    "DONE",
    "EnergyModel",
    "Evaluation",
    "Generator",
    "Label",
    "Labeller",
    "Labels",
    "Learner",
    "Low",
    "Proposals",
    "Provenance",
    "Skeleton",
    "Steerable",
    "Uncertain",
]


@dataclass(frozen=True, slots=True)
class Label:
    """What an energy is an energy of. Only energies with equal labels may be compared.

    Attributes:
        functional: For example "PBE".
        correction: For example "MP2020" (the Materials Project's corrected scale) or "none".
        checkpoint: Hash of the weights, or code and version of a DFT calculation.
    """

    functional: str
    correction: str
    checkpoint: str

    def __str__(self) -> str:
        return f"{self.functional}/{self.correction}/{self.checkpoint}"

    @staticmethod
    def same(labels: Sequence[Label]) -> Label:
        """The one label of all.

        Raises:
            LabelError: If there are several.
        """
        distinct = sorted({str(label) for label in labels})
        if len(distinct) != 1:
            raise LabelError(f"Energies of different labels cannot be compared: {', '.join(distinct)}.")
        return labels[0]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a candidate comes from: enough to find, explain and replay it.

    Attributes:
        generator: Name of the generator.
        index: Place of the candidate in the generator's sequence.
        seed: The seed it was made with.
        template_id: Id of the library entry it was made from, "" if none.
        space_group: Number of the space group it was made in.
        wyckoff: Occupied positions, "Sr:a Ti:b O:c", "" if not known.
        score: The generator's own figure of merit, higher is better; its scale is the generator's.
        why: One short clause for people.
        own: Is it that entry with no element exchanged, a known crystal of the target's own composition?
    """

    generator: str
    index: int
    seed: int
    space_group: int
    template_id: str = ""
    wyckoff: str = ""
    score: float = 0.0
    why: str = ""
    own: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Proposals:
    """B built candidates out of `requested`; the others are counted in `failed` by reason.

    Invariant: len(crystals) == len(provenance) and len(crystals) + failed.total() == requested.

    Attributes:
        crystals: The candidates that could be built.
        provenance: Where each of them comes from.
        requested: How many candidates were asked for.
        failed: How many could not be built, by reason.
    """

    crystals: Crystals
    provenance: list[Provenance]
    requested: int
    failed: Counter[str] = field(default_factory=Counter)

    def scaled(self, factor: float) -> Proposals:
        """At so many times the volume."""
        if factor == 1.0:
            return self
        return replace(self, crystals=self.crystals.scaled_to(factor * self.crystals.volumes))


@runtime_checkable
class Generator(Protocol):
    """Makes virtual crystals of a target's exact composition.

    Attributes:
        name: Short name, as in the setting `generators`.
    """

    name: str

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """The candidates start … start + n − 1.

        Candidate i depends only on (target, seed, i), so shards can be made in any order and
        anywhere. Cells are primitive, float64 on the CPU, with at most `target.max_atoms` atoms; the
        space groups and formula units obey the target. A finite generator counts the candidates past
        its end as failed with the reason "exhausted".
        """
        ...


class Skeleton(NamedTuple):
    """What of a crystal is chosen before its geometry.

    Attributes:
        space_group: Its number.
        wyckoff: Occupied positions, "Sr:a Ti:b O:c", as `Provenance` has them.
    """

    space_group: int
    wyckoff: str


class Low(NamedTuple):
    """The lowest distinct crystals that a search has found.

    Attributes:
        crystals: N crystals; under pressure at the volume that they would have without.
        weight: float64 [N], exp(−ΔE / 50 meV), ΔE of an atom over the lowest by the model that ranks.
    """

    crystals: Crystals
    weight: Tensor


@runtime_checkable
class Steerable(Protocol):
    """A generator that can be told where to look, by what a search has found."""

    name: str

    def redraw(
        self, target: Target, skeletons: Sequence[Skeleton], *, seed: int, start: int = 0
    ) -> Proposals:
        """A new geometry for each of the skeletons; candidate start + i depends only on the target, the seed,
        start + i and skeletons[i], but for rounding."""
        ...

    def steered(
        self, target: Target, n: int, groups: Mapping[int, float], low: Low, *, seed: int, start: int = 0
    ) -> Proposals:
        """As `propose`, other candidates, with the odds of space groups changed by these factors. A generator
        that learns may have learned from the low crystals before, always the same from the same ones; nothing
        allowed may be left out for that."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Energies of B crystals under one label.

    Attributes:
        label: What the energies are energies of.
        energy: float64 [B], eV per cell; NaN where `unsupported`.
        forces: float64 [A, 3], eV/Å, or None.
        stress: float64 [B, 3, 3], eV/Å³, (1/V) dE/dε, positive = tension, or None.
        sigma: float64 [B], one standard deviation, eV/atom, or None where the model has none.
    """

    label: Label
    energy: Tensor
    forces: Tensor | None = None
    stress: Tensor | None = None
    sigma: Tensor | None = None


@runtime_checkable
class EnergyModel(Protocol):
    """Energies (and forces and stress) of batches of crystals.

    Elements outside `elements` are never passed in by the engine: it gives such crystals the
    status `unsupported_element`. If they are, `evaluate` raises InputError.

    Attributes:
        name: Short name, for reports and messages.
        label: What its energies are energies of.
        elements: Atomic numbers that it knows.
        device: Where it computes.
    """

    name: str
    label: Label
    elements: frozenset[int]
    device: torch.device

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        """Evaluate all crystals in the order given; inputs are not changed.

        Results come back in float64 on the device of `crystals`. The model splits the batch into
        chunks that suit its device; results do not depend on what else is in the batch (to 1e-5).

        Args:
            crystals: The batch.
            forces: Forces and stress as well.
            surroundings: What is known of the crystals: operations that they keep exactly, and pairs from
                earlier calls. A model may save work by it or leave it; results are the same (to 1e-6 eV/atom,
                1e-5 eV/Å).
        """
        ...


@dataclass(frozen=True, slots=True)
class Labels:
    """What a labeller found for B crystals.

    Attributes:
        energy: float64 [B], eV per cell; NaN where there is none.
        outcome: [B], "done", or in a few words why there is no energy.
    """

    energy: Tensor
    outcome: list[str]

    @property
    def failed(self) -> Counter[str]:
        """How many have no energy, by reason."""
        return Counter(why for why in self.outcome if why != DONE)


DONE = "done"


@runtime_checkable
class Uncertain(Protocol):
    """An energy model that also knows by how much it may be off."""

    def sigma(self, crystals: Crystals) -> Tensor | None:
        """float64 [B]: one standard deviation of the energies, eV/atom; None where it is not known."""
        ...


@runtime_checkable
class Labeller(Protocol):
    """Computes reference energies one crystal after the other: a DFT code, or a potential in its stead.

    A calculation that fails is an outcome and costs nothing but itself.

    Attributes:
        name: Short name, for reports and messages.
        label: What its energies are energies of.
        elements: Atomic numbers that it knows.
        max_atoms: Larger cells are not worth their time and should not be chosen.
    """

    name: str
    label: Label
    elements: frozenset[int]
    max_atoms: int

    def compute(self, crystals: Crystals, folder: Path) -> Labels:
        """Label all crystals in the order given; what `folder` holds of earlier calculations is reused."""
        ...


@runtime_checkable
class Learner(Protocol):
    """Chooses which crystals of the composition at hand to label, and adapts an energy model to the labels.

    Attributes:
        label: What the labels are energies of.
    """

    label: Label

    def choose(
        self, model: EnergyModel, crystals: Crystals, energy: Tensor, taken: Sequence[int], n: int, seed: int
    ) -> list[int]:
        """At most n of B crystals to label next, none of `taken`.

        Args:
            model: The model as it is.
            crystals: The B crystals to choose from.
            energy: float64 [B], eV/atom by the model as it is, lower is better.
            taken: Those that have been labelled before.
            n: At most so many are chosen.
            seed: Same seed, same choice.
        """
        ...

    def compute(self, crystals: Crystals) -> Labels:
        """The labels of these crystals."""
        ...

    def adapt(self, model: EnergyModel, crystals: Crystals, energy: Tensor) -> tuple[EnergyModel, str]:
        """The model adapted to labels, energy float64 [N] eV per cell, and how, in one clause for people."""
        ...
