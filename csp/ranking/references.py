"""Known crystals in all sub-systems of a target: what its crystals are measured against, relaxed once.

Where the library knows how far its entries are above their source's own hull, those on it or near it are
enough, and a system of two elements costs seconds. Elsewhere nothing marks the ground state of a composition,
and neither do cell size, density, symmetry or the frequency of the structure: three entries chosen by one of
these have the lowest formation energy among them for 46 to 56 % of 699 compositions with four entries or
more, three drawn at random for 49 %. There the model itself chooses, by its energies of the crystals as they
are in the library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from csp.crystallography.operations import operations
from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.errors import LabelError
from csp.files import keep_arrays
from csp.formula import electronegativity_key, reduced_formula
from csp.library.library import Library
from csp.matching.fingerprints import unique
from csp.protocols import EnergyModel, Label
from csp.ranking.hull import Hull, convex_hull
from csp.ranking.rank import order
from csp.relaxation.relax import RelaxationResult, Status, enthalpy, relax
from csp.target import Target

__all__ = ["References"]

VERSION = 2  # of the choice and the relaxation; what is cached is of one version
RELAXED = 3  # of each composition
SCREENED = 32  # of each composition whose entries no distances tell apart; small cells first
COMPOSITIONS = 60  # the elements, the target's own and those on their source's hull first
MAX_ATOMS = 60  # in the primitive cell
NEAR = 0.05  # eV/atom above its source's hull: what is farther is not on the model's either
NEAR_LOWEST = 0.025  # eV/atom above the lowest of a composition: models may order these otherwise
MAX_STEPS, MAX_FORCE = 100, 0.05  # eV/Å; the same whatever a search relaxes with, so that all can share them
NAMED = 8  # compositions in a sentence


@dataclass(frozen=True)
class References:
    """The compositions of a target's chemical system that a library knows, elements first.

    Attributes:
        target: The composition whose chemical system it is.
        entries: [n], the crystals of each composition that may be its lowest, primitive.
        formulas: [n], of the compositions.
        cache: Folder that relaxed references are kept in.
        names: Of the library's entries, by the ids of the crystals.
        missing: Sentences on what the library lacks, which people should read before a search.
        left_out: Sentences on what it has and is not relaxed.
        why_not: Why there can be no hull; then `entries` is empty. "": there can.
    """

    target: Target
    entries: list[Crystals]
    formulas: list[str]
    cache: Path
    names: dict[str, str] = field(default_factory=dict, repr=False)
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    why_not: str = ""

    @classmethod
    def of(
        cls, target: Target, library: Library, cache: Path | None = None, *, partial: bool = False
    ) -> References:
        """The references that a library has for a target.

        Args:
            target: The composition.
            library: Where they are taken from.
            cache: Folder to keep relaxed references in; None is the user's cache folder.
            partial: What there is, too, where an element is missing: it will be had from elsewhere.
        """
        from platformdirs import user_cache_path

        folder = (cache or user_cache_path("csp-engine")) / "references"
        known = _Known.of(target, library)
        elements = [chemical_symbols[z] for z in target.numbers]
        lacking = [s for s in elements if s not in {*known.rows, *known.too_large}]
        if lacking and not partial:
            return cls.none(target, f"the library has no entry of {_listed(lacking)}")
        lacking = [s for s in elements if s in known.too_large]
        if lacking and not partial:
            why = f"the library has only cells of more than {MAX_ATOMS} atoms of {_listed(lacking)}"
            return cls.none(target, why)
        first = [*elements, target.formula]
        near = {f: rows for f, rows in known.rows.items() if f in first or known.lowest(rows) <= NEAR}
        formulas = sorted(
            near, key=lambda f: (f not in elements, f not in first, *known.stable_and_small(near[f]), f)
        )
        kept = formulas[:COMPOSITIONS]
        rows = {formula: known.plausible(near[formula]) for formula in kept}
        entries = [primitive(library.crystals(rows[formula])) for formula in kept]
        names = {
            i: str(library.material_id[row])
            for formula, own in zip(kept, entries, strict=True)
            for i, row in reversed(list(zip(own.ids(), rows[formula], strict=True)))
        }
        return cls(
            target,
            entries,
            kept,
            folder,
            names,
            missing=known.missing(target),
            left_out=_left_out(len(known.rows) - len(near), len(formulas) - len(kept)),
        )

    @classmethod
    def none(cls, target: Target, why: str) -> References:
        """No reference at all.

        Args:
            why: There is no hull: a clause for people.
        """
        return cls(target, [], [], Path(), why_not=f"There is no energy above the hull: {why}.")

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def forewarning(self) -> list[str]:
        """What people should know before anything is relaxed."""
        return [self.why_not] if self.why_not else list(self.missing)

    def relax(
        self, part: Iterable[int], model: EnergyModel, *, pressure: float
    ) -> tuple[list[str], RelaxationResult]:
        """The most plausible crystals of these compositions, relaxed keeping their symmetry, and the ids of
        their starts. What any search has relaxed with this model under this pressure is read."""
        paths = {k: self._path(k, model.label, pressure) for k in part}
        kept = {k: _read(path, model.label) for k, path in paths.items()}
        known = {k: found for k, found in kept.items() if found is not None}
        new = [k for k in paths if k not in known]
        starts = [self._most_plausible(k, model, pressure) for k in new]
        if new:
            crystals = Crystals.cat(starts)
            relaxed = relax(
                crystals.to(model.device),
                model,
                max_steps=MAX_STEPS,
                max_force=MAX_FORCE,
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
        self,
        ids: Sequence[str],
        relaxed: RelaxationResult,
        per_atom: Tensor,
        label: Label,
        names: Mapping[str, str] = {},
    ) -> tuple[Hull | None, list[str]]:
        """The hull at the target's composition, and what people should know of it.

        None, with the reason among the notes, where an element or all crystals of a known composition are
        missing.

        Args:
            ids: [B], of the starts (`relax`) and of further entries of the library.
            relaxed: The relaxed crystals of all compositions.
            per_atom: float64 [B], their energies or enthalpies, eV/atom.
            label: Label of what will be compared with the hull.
            names: Of the further entries, by their ids.

        Raises:
            LabelError: If the relaxed crystals have another label.
        """
        if self.why_not:
            return None, [self.why_not]
        good = [k for k, status in enumerate(relaxed.status) if status.has_energy]
        reached = {reduced_formula(numbers.tolist()) for _, _, numbers in relaxed.crystals[good].arrays()}
        notes = [self._summary(relaxed, len(good)), *self.missing, *self.left_out]
        failed = [formula for formula in self.formulas if formula not in reached]
        if failed:
            reason = f"no crystal of {_listed(failed)} could be relaxed"
            return None, [*notes, f"There is no energy above the hull: {reason}."]
        named = {**self.names, **names}
        called = [named.get(ids[k], "") for k in good]
        labels = [relaxed.label, label]
        return convex_hull(self.target, relaxed.crystals[good], per_atom[good], labels, called), notes

    def _summary(self, relaxed: RelaxationResult, n_good: int) -> str:
        text = f"Hull: {n_good} reference crystals of {len(self)} compositions"
        moving = sum(status == Status.MAX_STEPS for status in relaxed.status)
        if moving:
            text += f", {moving} of them not relaxed to the end"
        if n_good < len(relaxed.status):
            text += f"; {len(relaxed.status) - n_good} more could not be relaxed"
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

    def _path(self, k: int, label: Label, pressure: float) -> Path:
        """Named by all that the relaxed crystals depend on, which the library that they are from is not."""
        content = [str(VERSION), str(label), repr(float(pressure)), *self.entries[k].ids()]
        digest = hashlib.blake2b("\n".join(content).encode(), digest_size=16).hexdigest()
        return self.cache / digest[:2] / f"{digest}.npz"


@dataclass(frozen=True, eq=False)
class _Known:
    """What a library has in the chemical system of a target.

    Attributes:
        formulas: Of all compositions.
        rows: Those of each composition, by its formula, in cells of at most `MAX_ATOMS` atoms.
        too_large: Formulas of elements, and of compounds that may be stable, in larger cells only.
        n_atoms: int [N], in the primitive cells of all rows.
        distances: float64 [N], eV/atom above the source's hull, of all rows; NaN where it is not known, and
            under pressure, where other crystals are stable.
    """

    formulas: frozenset[str]
    rows: dict[str, NDArray[np.int64]]
    too_large: list[str]
    n_atoms: NDArray[np.int64]
    distances: NDArray[np.float64]

    @classmethod
    def of(cls, target: Target, library: Library) -> _Known:
        compositions = _in_system(target, library)
        n_atoms = np.zeros(len(library.material_id), np.int64)
        distances = np.full(len(n_atoms), np.nan)
        found, too_large = {}, []
        for formula, own in compositions.items():
            n_atoms[own] = library.n_primitive(own)
            if target.pressure == 0:
                distances[own] = library.distances(own)
            small = own[n_atoms[own] <= MAX_ATOMS]
            if len(small):
                found[formula] = small
            elif formula in chemical_symbols or not distances[own].min() > NEAR:  # NaN: it is not known
                too_large.append(formula)
        return cls(frozenset(compositions), found, sorted(too_large), n_atoms, distances)

    def lowest(self, rows: NDArray[np.int64]) -> float:
        """The least distance, eV/atom; 0 where none is known: any may be stable."""
        known = self.distances[rows]
        known = known[np.isfinite(known)]
        return float(known.min()) if len(known) else 0.0

    def stable_and_small(self, rows: NDArray[np.int64]) -> tuple[float, int]:
        """What is stable and small is relaxed before what is not."""
        return self.lowest(rows), int(self.n_atoms[rows].min())

    def plausible(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of a composition that may be its lowest: by their distances, else the smallest cells."""
        distances = self.distances[rows]
        low = distances <= self.lowest(rows) + NEAR_LOWEST  # not where the distance is NaN
        if not low.any():
            return rows[np.lexsort((rows, self.n_atoms[rows]))][:SCREENED]
        by_distance = np.lexsort((rows, self.n_atoms[rows], distances))
        return rows[by_distance][:RELAXED][low[by_distance][:RELAXED]]

    def missing(self, target: Target) -> tuple[str, ...]:
        """Sentences on neighbouring compositions that are not there."""
        elements = [chemical_symbols[z] for z in target.numbers]
        there = [*self.rows, *self.too_large]
        systems = {
            frozenset(chemical_symbols[z] for z in Target.parse(f, max_atoms=10**6).numbers) for f in there
        }
        pairs = combinations(sorted(elements, key=electronegativity_key), 2)
        empty = ["-".join(pair) for pair in pairs if frozenset(pair) not in systems]
        sentences = []
        if empty:
            sentences.append(
                f"Hull: the library has no compound of {_listed(empty)}; if there is one, the hull may "
                "be lower."
            )
        lacking = sorted(_in_system(target, Library.open()).keys() - self.formulas - {target.formula})
        if lacking:
            sentences.append(
                f"Hull: the library has no {_listed(lacking)}, of which the AFLOW encyclopedia has crystals, "
                "some of them idealised; where one is stable the hull is lower."
            )
        if self.too_large:
            sentences.append(
                f"Hull: the library has only cells of more than {MAX_ATOMS} atoms of "
                f"{_listed(self.too_large)}; they are left out."
            )
        return tuple(sentences)


def _in_system(target: Target, library: Library) -> dict[str, NDArray[np.int64]]:
    """Formula → rows of the library's compositions of the target's elements or some of them."""
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    inside = np.isin(numbers, [0, *target.numbers]).all(axis=1)
    inside &= ~library.stand_in(rows) & ~library.duplicate(rows)
    rows, numbers, counts = rows[inside], numbers[inside], counts[inside]
    kinds, kind = np.unique(np.hstack([numbers, counts]), axis=0, return_inverse=True)
    return {
        reduced_formula(np.repeat(z, n).tolist()): rows[kind.reshape(-1) == k]
        for k, (z, n) in enumerate(zip(*np.hsplit(kinds, 2), strict=True))
    }


def _left_out(far: int, beyond: int) -> tuple[str, ...]:
    sentences = []
    if far:
        sentences.append(
            f"Hull: {far} compositions that are more than {1000 * NEAR:.0f} meV/atom above the hull of the "
            "library's own source are left out."
        )
    if beyond:
        sentences.append(
            f"Hull: {beyond} further compositions, less stable or of larger cells, are left out."
        )
    return tuple(sentences)


def _distinct(ids: Sequence[str]) -> list[int]:
    return sorted({i: b for b, i in reversed(list(enumerate(ids)))}.values())


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
