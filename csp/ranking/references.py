"""Known crystals in all sub-systems of a target: what its crystals are measured against, relaxed once.

Nothing in a library need mark the ground state of a composition, and neither do cell size,
density, symmetry or the frequency of the structure: three entries chosen by one of these have the lowest
formation energy among them for 46 to 56 % of 699 compositions with four entries or more, three drawn at
random for 49 %. So the model itself chooses, by its energies of the crystals as they are in the library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from csp.crystallography.operations import operations
from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.errors import LabelError
from csp.files import keep_arrays
from csp.library.library import Library
from csp.matching.fingerprints import unique
from csp.protocols import EnergyModel, Label
from csp.ranking.hull import Hull, convex_hull
from csp.ranking.rank import order
from csp.relaxation.relax import RelaxationResult, Status, enthalpy, relax
from csp.target import Target, electronegativity_key

__all__ = ["References"]

VERSION = 1  # of the choice and the relaxation; what is cached is of one version
RELAXED = 3  # of each composition
SCREENED = 64  # of each composition; small cells first
COMPOSITIONS = 150  # the elements and the smallest cells first
NAMED = 8  # compositions in a sentence


@dataclass(frozen=True)
class References:
    """The compositions of a target's chemical system that a library knows, elements first.

    Attributes:
        target: The composition whose chemical system it is.
        entries: [n], the crystals of each composition, primitive, at most `SCREENED`.
        formulas: [n], of the compositions.
        too_large: Formulas of those that are known in larger cells than the target may have only.
        left_out: Number of compositions beyond `COMPOSITIONS`.
        cache: Folder that relaxed references are kept in.
    """

    target: Target
    entries: list[Crystals]
    formulas: list[str]
    too_large: list[str]
    left_out: int
    cache: Path

    @classmethod
    def of(cls, target: Target, library: Library, cache: Path | None = None) -> References:
        """The references that a library has for a target.

        Args:
            target: The composition.
            library: Where they are taken from.
            cache: Folder to keep relaxed references in; None is the user's cache folder.
        """
        from platformdirs import user_cache_path

        rows = library.all_rows()
        numbers, counts = library.compositions(rows)
        inside = np.isin(numbers, [0, *target.numbers]).all(axis=1)
        rows, numbers, counts = rows[inside], numbers[inside], counts[inside]
        n_atoms = library.n_primitive(rows)
        kinds, kind = np.unique(np.hstack([numbers, counts]), axis=0, return_inverse=True)
        found: list[tuple[tuple[bool, int, str], np.ndarray]] = []
        too_large = []
        for k, (z, n) in enumerate(zip(*np.hsplit(kinds, 2), strict=True)):
            formula = _formula(z[n > 0], n[n > 0])
            own = np.flatnonzero(kind.reshape(-1) == k)
            own = own[np.lexsort((rows[own], n_atoms[own]))]
            small = own[n_atoms[own] <= target.max_atoms]
            if len(small):
                found.append((((n > 0).sum() > 1, int(n_atoms[small[0]]), formula), rows[small[:SCREENED]]))
            else:
                too_large.append(formula)
        found.sort(key=lambda pair: pair[0])
        kept = found[:COMPOSITIONS]
        return cls(
            target,
            [primitive(library.crystals(own)) for _, own in kept],
            [formula for (_, _, formula), _ in kept],
            sorted(too_large),
            len(found) - len(kept),
            (cache or user_cache_path("csp-engine")) / "references",
        )

    def __len__(self) -> int:
        return len(self.entries)

    def relax(
        self, part: Iterable[int], model: EnergyModel, *, max_steps: int, max_force: float, pressure: float
    ) -> tuple[list[str], RelaxationResult]:
        """The most plausible crystals of these compositions, relaxed keeping their symmetry, and the ids of
        their starts. What any search has relaxed with this model is read."""
        settings = {"max_steps": max_steps, "max_force": max_force, "pressure": pressure}
        paths = {k: self._path(k, model.label, settings) for k in part}
        kept = {k: _read(path, model.label) for k, path in paths.items()}
        known = {k: found for k, found in kept.items() if found is not None}
        new = [k for k in paths if k not in known]
        starts = [self._most_plausible(k, model, pressure) for k in new]
        if new:
            crystals = Crystals.cat(starts)
            relaxed = relax(
                crystals.to(model.device),
                model,
                max_steps=max_steps,
                max_force=max_force,
                pressure=pressure,
                symmetry=operations(crystals).to(model.device),
            ).to("cpu")
            first = 0
            for k, start in zip(new, starts, strict=True):
                known[k] = start.ids(), relaxed.take(list(range(first, first + len(start))))
                first += len(start)
                _write(paths[k], *known[k])
        found = [known[k] for k in paths]
        return [i for ids, _ in found for i in ids], reduce(
            RelaxationResult.followed_by, [relaxed for _, relaxed in found]
        )

    def hull(
        self, relaxed: RelaxationResult, per_atom: Tensor, label: Label
    ) -> tuple[Hull | None, list[str]]:
        """The hull at the target's composition, and what people should know of it.

        None, with the reason among the notes, where an element or all crystals of a known composition are
        missing.

        Args:
            relaxed: The relaxed crystals of all compositions.
            per_atom: float64 [B], their energies or enthalpies, eV/atom.
            label: Label of what will be compared with the hull.

        Raises:
            LabelError: If the relaxed crystals have another label.
        """
        good = [k for k, status in enumerate(relaxed.status) if status.has_energy]
        reached = {
            _formula(*np.unique(numbers, return_counts=True))
            for _, _, numbers in relaxed.crystals[good].arrays()
        }
        notes = [self._summary(relaxed, len(good))]
        for what, formulas in (
            ("has no entry of", [s for s in self._elements() if s not in {*self.formulas, *self.too_large}]),
            (f"has only cells of more than {self.target.max_atoms} atoms of", self.too_large),
        ):
            if formulas:
                notes.append(f"Hull: the library {what} {_listed(formulas)}.")
        failed = [formula for formula in self.formulas if formula not in reached]
        if failed:
            notes.append(f"Hull: no crystal of {_listed(failed)} could be relaxed.")
        missing = [s for s in self._elements() if s not in reached]
        if failed or missing:
            lacking = list(dict.fromkeys([*missing, *failed]))
            notes.append(f"There is no energy above the hull: references of {_listed(lacking)} are missing.")
            return None, notes
        labels = [relaxed.label, label]
        return convex_hull(self.target, relaxed.crystals[good], per_atom[good], labels), notes

    def _elements(self) -> list[str]:
        return [chemical_symbols[z] for z in self.target.numbers]

    def _summary(self, relaxed: RelaxationResult, n_good: int) -> str:
        text = f"Hull: {n_good} reference crystals of {len(self)} compositions"
        moving = sum(status == Status.MAX_STEPS for status in relaxed.status)
        if moving:
            text += f", {moving} of them not relaxed to the end"
        if n_good < len(relaxed.status):
            text += f"; {len(relaxed.status) - n_good} more could not be relaxed"
        if self.left_out:
            text += f"; {self.left_out} further compositions, of larger cells, are left out"
        return text + "."

    def _most_plausible(self, k: int, model: EnergyModel, pressure: float) -> Crystals:
        """The lowest distinct crystals of a composition, as they are in the library."""
        entries = self.entries[k]
        if len(entries) <= RELAXED:
            return entries[_distinct(entries.ids())]
        energy = model.evaluate(entries.to(model.device)).energy.cpu()
        per_atom = enthalpy(energy, entries.volumes, pressure) / entries.n_atoms
        distinct = (unique(entries, energies=per_atom) == torch.arange(len(entries))).nonzero().flatten()
        ids = entries.ids()
        by_energy = distinct[order(per_atom[distinct], [ids[b] for b in distinct.tolist()])]
        return entries[by_energy[:RELAXED]]

    def _path(self, k: int, label: Label, settings: dict[str, float]) -> Path:
        """Named by all that the relaxed crystals depend on."""
        content = [str(VERSION), str(label), repr(sorted(settings.items())), *self.entries[k].ids()]
        digest = hashlib.blake2b("\n".join(content).encode(), digest_size=16).hexdigest()
        return self.cache / digest[:2] / f"{digest}.npz"


def _distinct(ids: Sequence[str]) -> list[int]:
    return sorted({i: b for b, i in reversed(list(enumerate(ids)))}.values())


def _formula(numbers: np.ndarray, counts: np.ndarray) -> str:
    """As `Target.formula` writes it: elements by electronegativity, amounts coprime."""
    divisor = np.gcd.reduce(counts)
    amounts = {
        chemical_symbols[z]: n // divisor for z, n in zip(numbers.tolist(), counts.tolist(), strict=True)
    }
    ordered = sorted(amounts, key=electronegativity_key)
    return "".join(f"{s}{amounts[s] if amounts[s] > 1 else ''}" for s in ordered)


def _listed(formulas: Sequence[str]) -> str:
    more = len(formulas) - NAMED
    return ", ".join(formulas[:NAMED]) + (f" and {more} more" if more > 0 else "")


# -- the cache ----------------------------------------------------------------------------------------


def _write(path: Path, ids: list[str], relaxed: RelaxationResult) -> None:
    keep_arrays(
        path,
        ids=np.array(ids),
        label=np.array([relaxed.label.functional, relaxed.label.correction, relaxed.label.checkpoint]),
        cell=relaxed.crystals.cell.numpy(),
        frac=relaxed.crystals.frac.numpy(),
        numbers=relaxed.crystals.numbers.numpy(),
        offsets=relaxed.crystals.offsets.numpy(),
        energy=relaxed.energy.numpy(),
        max_force=relaxed.max_force.numpy(),
        steps=relaxed.steps.numpy(),
        status=np.array([str(status) for status in relaxed.status]),
    )


def _read(path: Path, label: Label) -> tuple[list[str], RelaxationResult] | None:
    """What was kept, or None.

    Raises:
        LabelError: For energies of another label.
    """
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        kept = Label(*arrays["label"].tolist())
        if kept != label:
            raise LabelError(f"The references in {path} are of {kept}, not of {label}.")
        crystals = Crystals(
            *(torch.from_numpy(arrays[name]) for name in ("cell", "frac", "numbers", "offsets"))
        )
        energy, max_force, steps = (
            torch.from_numpy(arrays[name]) for name in ("energy", "max_force", "steps")
        )
        status = [Status(status) for status in arrays["status"].tolist()]
        return arrays["ids"].tolist(), RelaxationResult(crystals, label, energy, max_force, steps, status)
