"""Is a ranked crystal known? It is compared with the library's entries of the composition, and by structure
type with those of the whole ratio and with the prototypes of the AFLOW encyclopedia."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.primitive import lattice_points
from csp.crystallography.prototype_label import prototype_label
from csp.crystals import Crystals
from csp.library.library import Library
from csp.matching.matcher import Matcher
from csp.target import Target

__all__ = ["KnownAs", "KnownCrystals", "Told"]

SYMPREC = 0.05  # Å, as of the libraries' own space groups
COMPARED = 30  # entries with the letters of a crystal, of those of its space group and size, at most
LETTERED = 400  # of these whose letters are looked at, at most
MAX_ORDERS = 120  # of elements with equal amounts

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class KnownAs:
    """An entry that a crystal is.

    Attributes:
        e_above_hull_ev_per_atom: As its source has it, above the source's own hull.
        experimental: Was it made? None: the source does not say.
    """

    id: str
    source: str
    e_above_hull_ev_per_atom: float | None = None
    experimental: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def details(self) -> str:
        """What its source says of it, for people."""
        above = self.e_above_hull_ev_per_atom
        said = [
            self.source.split(" (")[0],
            *([] if above is None else [f"{1000 * above:.0f} meV/atom above its hull"]),
            *([] if self.experimental is None else ["made" if self.experimental else "only computed"]),
        ]
        return ", ".join(said)

    def __str__(self) -> str:
        return f"{self.id} ({self.details})"


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a crystal.

    Attributes:
        known_as: Entries of its composition that it is.
        prototype: AFLOW label of its structure type, with the common name where the encyclopedia has one.
        same_type_as: An entry of another composition with its structure; "" if there is none or it need not
            be looked for.
    """

    known_as: tuple[KnownAs, ...] = ()
    prototype: str = ""
    same_type_as: str = ""

    @property
    def novelty(self) -> str:
        """Say "known", "known type" or, where nothing matches, "new"."""
        return "known" if self.known_as else "known type" if self.same_type_as else "new"


@dataclass(frozen=True)
class KnownCrystals:
    """What a library and the encyclopedia know of a target.

    Attributes:
        target: The composition.
        library: With the entries of the target, even if the search does without them.
        note: A sentence that says which library it is; "" if people named it.
        left_out: Does the search do without them?
        symprec: Å, with which the space groups of the ranked crystals are reported.
        encyclopedia: The AFLOW prototypes.
    """

    target: Target
    library: Library
    note: str = ""
    left_out: bool = False
    symprec: float = SYMPREC
    encyclopedia: Library = field(default_factory=Library.open)
    _letters: dict[tuple[int, int], str] = field(default_factory=dict, repr=False)

    @cached_property
    def own(self) -> Ints:
        """The library's entries of the composition."""
        return self.library.own_rows(self.target)

    @cached_property
    def _own_crystals(self) -> Crystals:
        return self.library.crystals(self.own)

    @property
    def sentence(self) -> str:
        """For people: which library there was, and what it has of the target."""
        formula, n = self.target.formula, len(self.own)
        of_ratio = len(self.library.rows(self.target.anonymous))
        begin = f"{self.note} It" if self.note else "The library"
        if n:
            entries = "1 entry" if n == 1 else f"{n:,} entries"
            left_out = "; the search did without them" if self.left_out else ""
            return f"{begin} has {entries} of {formula}, among {of_ratio:,} of its ratio{left_out}."
        return f"{begin} has no entry of {formula}, and {of_ratio:,} of its ratio."

    def of(self, crystal: Crystals, template: str = "") -> Told:
        """What is known of one crystal of the target.

        Args:
            template: Id of the entry that it was made from, which is compared first; "" if none.
        """
        fits = Matcher.DEFAULT.fits(crystal, self._own_crystals).tolist() if len(self.own) else []
        same = [row for row, is_same in zip(self.own.tolist(), fits, strict=True) if is_same]
        # a crystal that is a little distorted is one of its type, too
        labels = [*dict.fromkeys(prototype_label(crystal, within) for within in (self.symprec, SYMPREC))]
        labels = [label for label in labels if label] or [""]
        label, named = labels[0], self._first_same(crystal, self.encyclopedia, labels)
        name = "" if named is None else str(self.encyclopedia.about["name"][named])
        if named is not None:
            label = str(self.encyclopedia.material_id[named]).removeprefix("aflow:").rsplit("-", 1)[0]
        elsewhere = "" if named is None else str(self.encyclopedia.material_id[named])
        if not same and not elsewhere:
            row = self._first_same(crystal, self.library, labels, template)
            elsewhere = "" if row is None else str(self.library.material_id[row])
        if not same and not elsewhere:
            row = self._same_type(crystal, self.encyclopedia, "")  # whatever its symmetry
            elsewhere = "" if row is None else str(self.encyclopedia.material_id[row])
        return Told(
            tuple(self._known_as(row) for row in same),
            f"{label} ({name})" if name else label,
            "" if same else elsewhere,
        )

    def _known_as(self, row: int) -> KnownAs:
        about = {name: self.library.about.get(name) for name in ("e_above_hull", "experimental")}
        above, made = (None if column is None else column[row] for column in about.values())
        return KnownAs(str(self.library.material_id[row]), str(self.library.origin[0][row]), above, made)

    def _first_same(
        self, crystal: Crystals, library: Library, labels: Sequence[str], template: str = ""
    ) -> int | None:
        """An entry that is the crystal by the first of its labels by which there is one."""
        found = (self._same_type(crystal, library, label, template) for label in labels if label)
        return next((row for row in found if row is not None), None)

    def _same_type(self, crystal: Crystals, library: Library, label: str, template: str = "") -> int | None:
        """The entry of the ratio that is most like the crystal once its elements are exchanged, or None.

        Args:
            label: The crystal's; only entries of its space group and letters are looked at. "": any.
            template: The id of an entry that counts before others.
        """
        rows = library.rows(self.target.anonymous)
        if label:
            rows = rows[library.space_group[rows] == int(label.split("_")[2])]
        rows = rows[library.n_primitive(rows) == _n_primitive(crystal)]
        first = library.material_id[rows] == template
        rows = np.concatenate([rows[first], rows[~first]])
        alike = rows[:LETTERED].tolist()
        if label:
            letters = _sorted_letters(label)
            ones = (row for row in alike if self._letters_of(library, row) == letters)
            alike = list(itertools.islice(ones, COMPARED))
        chosen = np.array(alike, dtype=np.int64)
        if not len(chosen):
            return None
        elements = library.elements(self.target.anonymous)
        elements = elements[np.searchsorted(library.rows(self.target.anonymous), chosen)]
        entries = library.crystals(chosen)
        place = (entries.numbers[:, None] == torch.from_numpy(elements)[entries.batch]).int().argmax(1)
        found: list[tuple[float, int]] = []
        for order in self._orders:
            numbers = torch.tensor(order)[place]
            placed = Crystals(entries.cell, entries.frac, numbers, entries.offsets)
            fitting = Matcher.DEFAULT.fits(crystal, placed).nonzero().flatten().tolist()
            if 0 in fitting and library.material_id[chosen[0]] == template:
                return int(chosen[0])
            off = Matcher.DEFAULT.rms(crystal, placed[fitting]).tolist()
            found += [(round(rms, 4), k) for rms, k in zip(off, fitting, strict=True)]
        return int(chosen[min(found)[1]]) if found else None

    @cached_property
    def _orders(self) -> list[tuple[int, ...]]:
        """The target's elements in the places of ascending amounts, in each order of equal ones."""
        pairs = sorted(zip(self.target.counts, self.target.numbers, strict=True))
        equal = [[z for _, z in group] for _, group in itertools.groupby(pairs, key=lambda pair: pair[0])]
        ways = itertools.product(*(itertools.permutations(group) for group in equal))
        return [sum(way, ()) for way in itertools.islice(ways, MAX_ORDERS)]

    def _letters_of(self, library: Library, row: int) -> str:
        key = (id(library), row)
        if key not in self._letters:
            self._letters[key] = _sorted_letters(prototype_label(library.crystals([row]), SYMPREC))
        return self._letters[key]


def _n_primitive(crystal: Crystals) -> int:
    """Atoms in the primitive cell of one crystal."""
    return int(crystal.n_atoms) // int(lattice_points(crystal))


def _sorted_letters(label: str) -> str:
    """The letters of a label whatever its species."""
    parts: Sequence[str] = label.split("_")
    return "_".join(sorted(parts[3:]))
