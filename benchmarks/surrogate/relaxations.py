"""Where do relaxations with a surrogate end, by the teacher's own measure?

From one crystal of each composition the teacher and the surrogate relax, keeping the symmetry as a
search does. The gap is the teacher's energy of the surrogate's end above that of its own end.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.library.compression import compressed
from csp.matching.matcher import Matcher
from csp.protocols import EnergyModel
from csp.relaxation.relax import RelaxationResult, enthalpy, relax
from surrogates.training.labelled import Labelled, read_shard, write_shard

__all__ = ["Gaps", "TeachersEnds", "choose_starts", "gaps"]

STARTS = 100  # one for each of the first compositions
SAME = Matcher(ltol=0.1, stol=0.15, angle_tol=3.0, scale=False)
MAX_STEPS = 100
MAX_FORCE = 0.05  # eV/Å
AT_ONCE = 8  # relaxations of the teacher that are written together


def choose_starts(pools: Sequence[Labelled], seed: int) -> Labelled:
    """One crystal of each of the first 100 pools, drawn at random."""
    drawn = [
        pool[[int(np.random.default_rng([seed, k]).integers(len(pool)))]]
        for k, pool in enumerate(pools[:STARTS])
    ]
    return Labelled.cat(drawn)


@dataclass(frozen=True)
class TeachersEnds:
    """The teacher's relaxations, kept in a folder; under a pressure, GPa, in one for each.

    Energies are enthalpies then.
    """

    folder: Path
    teacher: EnergyModel
    pressure: float = 0.0

    def of(self, starts: Labelled, say: Callable[[str], None] = lambda line: None) -> Labelled:
        """Ends in the order of the starts; `ids` are how the relaxations ended, energies NaN where they
        failed. `say` is told how many are done."""
        parts = []
        for first in range(0, len(starts), AT_ONCE):
            part = starts[list(range(first, min(first + AT_ONCE, len(starts))))]
            which = hashlib.sha256("".join(part.crystals.ids()).encode()).hexdigest()[:12]
            path = self.folder / f"{first:03d}-{which}.npz"
            if not path.is_file():
                ends = _relaxed(part.crystals, self.teacher, self.pressure)
                energy = enthalpy(_energy(ends), ends.crystals.volumes, self.pressure)
                write_shard(path, Labelled(ends.crystals, [str(s) for s in ends.status], energy))
            parts.append(read_shard(path))
            say(f"teacher relaxed {first + len(part)}/{len(starts)}")
        return Labelled.cat(parts)


@dataclass(frozen=True, slots=True)
class Gaps:
    """How a model's relaxations of N starts compare with the teacher's.

    Attributes:
        gap: float64 [N], eV/atom by the teacher; infinite where the model's relaxation failed, NaN where the
            teacher's did.
        matches: bool [N], is the end the teacher's?
        already: bool [N], was the start?
        status: [N], how the model's relaxations ended.
    """

    gap: Tensor
    matches: Tensor
    already: Tensor
    status: list[str]

    @property
    def judged(self) -> Tensor:
        """bool [N]: starts that have some way to go, and that the teacher could go."""
        return ~self.already & ~self.gap.isnan()

    def rows(self) -> list[dict[str, Any]]:
        """JSON values."""
        return [
            {
                "gap_mev": round(1000 * gap, 2) if math.isfinite(gap) else None,
                "matches": matches,
                "already": already,
                "status": status,
            }
            for gap, matches, already, status in zip(
                self.gap.tolist(), self.matches.tolist(), self.already.tolist(), self.status, strict=True
            )
        ]


def gaps(
    model: EnergyModel,
    teacher: EnergyModel,
    starts: Labelled,
    teachers_ends: Labelled,
    pressure: float = 0.0,
) -> Gaps:
    """Relax all starts with the model and compare; under a pressure, GPa, by enthalpies."""
    ends = _relaxed(starts.crystals, model, pressure)
    good = [k for k, status in enumerate(ends.status) if status.has_energy]
    energy = torch.full((len(starts),), math.inf, dtype=torch.float64)
    found = teacher.evaluate(ends.crystals[good].to(teacher.device)).energy.cpu()
    energy[good] = enthalpy(found, ends.crystals[good].volumes, pressure)
    per_atom = starts.crystals.n_atoms
    gap = torch.where(
        teachers_ends.energy.isnan(), torch.nan, energy / per_atom - teachers_ends.energy / per_atom
    )
    ended = torch.zeros(len(starts), dtype=torch.bool)
    ended[good] = True
    return Gaps(
        gap,
        _same(teachers_ends.crystals, ends.crystals) & ended,
        _same(teachers_ends.crystals, starts.crystals),
        [str(status) for status in ends.status],
    )


def _relaxed(crystals: Crystals, model: EnergyModel, pressure: float) -> RelaxationResult:
    """As a search does, on the model's device; back on the CPU."""
    crystals = compressed(crystals, pressure)
    ends = relax(
        crystals.to(model.device),
        model,
        max_steps=MAX_STEPS,
        max_force=MAX_FORCE,
        pressure=pressure,
        symmetry=operations(crystals).to(model.device),
    )
    return RelaxationResult(
        ends.crystals.to("cpu"),
        ends.label,
        ends.energy.cpu(),
        ends.max_force.cpu(),
        ends.steps.cpu(),
        ends.status,
    )


def _energy(ends: RelaxationResult) -> Tensor:
    """NaN where the relaxation failed."""
    good = torch.tensor([status.has_energy for status in ends.status])
    return torch.where(good, ends.energy, torch.nan)


def _same(first: Crystals, second: Crystals) -> Tensor:
    """bool [N]: does each crystal match its partner?"""
    return torch.cat([SAME.fits(first[k], second[k]) for k in range(len(first))])
