"""Which library entries are one structure up to the elements: a chemistry-blind fingerprint, clustered.

The clusters of an anonymous composition are found when it is first asked for and kept in the user's
cache folder, by the library's fingerprint and the version of the clustering.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.crystallography.neighbours import neighbour_list
from csp.crystals import Crystals
from csp.files import keep_arrays
from csp.library.library import Library
from csp.matching.matcher import Matcher

__all__ = ["Leaders", "PrototypeIndex", "Prototypes", "clustered", "equal_places", "radial_counts"]

VERSION = 2  # of the fingerprint and the clustering; clusters in the cache are of one version
RADII = torch.linspace(0.6, 1.35, 8, dtype=torch.float64)  # (V/N)^(1/3)
SMEARING = 0.08  # same unit
SAME_PROTOTYPE = 0.15
"""Shells that differ by less are of one prototype. Of 750 pairs of library entries of one space group and
size, for five anonymous compositions, it takes 76 % of those that StructureMatcher finds equal, elements
exchanged, and 4 % of the others."""
COMPARED = 24  # atoms in the primitive cells of two crystals of one composition that are compared
MAX_PERMUTATIONS = 120  # of places with equal amounts; more than five keep the order of their atomic numbers
CRYSTALS_AT_ONCE = 256

Ints = NDArray[np.int64]
RadialCounts = NDArray[np.float32]


def radial_counts(crystals: Crystals, n_places: int) -> Tensor:
    """float [B, k, k, R]: neighbours of one kind that an atom of another has within `RADII`, on average.

    The "atomic number" of an atom is here the number of its kind, 0 … n_places − 1. Lengths are in
    units of (V/N)^(1/3), and each neighbour counts as a smooth step of its distance. Invariant to
    translation, rotation, the choice of the cell and its size.
    """
    radii = RADII.to(crystals.cell)
    scaled = crystals.scaled_to(crystals.n_atoms.to(crystals.cell))
    neighbours = neighbour_list(scaled, float(RADII[-1]) + 2.0 * SMEARING)
    within = 0.5 * torch.erfc((neighbours.distance[:, None] - radii) / (2.0**0.5 * SMEARING))
    kind = crystals.batch * n_places + crystals.numbers
    pair = kind[neighbours.i] * n_places + crystals.numbers[neighbours.j]
    total = within.new_zeros(len(crystals) * n_places**2, len(radii)).index_add(0, pair, within)
    atoms = torch.bincount(kind, minlength=len(crystals) * n_places)
    shape = (len(crystals), n_places, n_places, len(radii))
    return (total.reshape(-1, n_places, len(radii)) / atoms[:, None, None]).reshape(shape)


@dataclass(frozen=True, slots=True, eq=False)
class Prototypes:
    """The n entries of one anonymous composition, and the m structures that they are.

    Attributes:
        rows: int [n], of the library.
        elements: int [n, k], atomic numbers, by the places of the prototype; amounts ascend.
        number: int [n], prototype of each entry, 0 … m − 1.
        symmetry: m × int [g, k], the orders of the places that leave a prototype as it is.
    """

    rows: Ints
    elements: Ints
    number: Ints
    symmetry: list[Ints]

    def __len__(self) -> int:
        return len(self.symmetry)

    def among(self, allowed: NDArray[np.bool_]) -> Prototypes:
        """Only the entries where `allowed` [n]; prototypes that are left without any are gone."""
        kept, number = np.unique(self.number[allowed], return_inverse=True)
        return Prototypes(
            self.rows[allowed],
            self.elements[allowed],
            number.reshape(-1),
            [self.symmetry[p] for p in kept.tolist()],
        )


class PrototypeIndex:
    """The prototypes of a library, by anonymous composition.

    They are those of the whole library, so that a view shares its cache; of a view only the visible
    entries are returned.
    """

    def __init__(self, library: Library, cache: Path | None = None) -> None:
        """Nothing is clustered before it is asked for.

        Args:
            cache: The folder to keep clusters in; None: the user's cache folder.
        """
        from platformdirs import user_cache_path

        self._library, self._whole = library, library.whole
        folder = cache or user_cache_path("csp-engine")
        self._folder = folder / "prototypes" / f"{VERSION}-{self._whole.fingerprint}"
        self._known: dict[tuple[int, ...], Prototypes] = {}

    def of(self, anonymous: tuple[int, ...]) -> Prototypes:
        """The visible entries of an anonymous composition and their prototypes."""
        if anonymous not in self._known:
            path = self._folder / f"{'-'.join(map(str, anonymous))}.npz"
            found = _read(path, self._whole, anonymous) or clustered(self._whole, anonymous)
            if not path.exists():
                _write(path, found)
            visible = np.isin(found.rows, self._library.rows(anonymous))
            self._known[anonymous] = found if visible.all() else found.among(visible)
        return self._known[anonymous]


def equal_places(anonymous: tuple[int, ...]) -> Ints:
    """[P, k]: the orders of the places that exchange only equal amounts, the identity first.

    Only the identity where there are more than `MAX_PERMUTATIONS`.
    """
    places = itertools.groupby(range(len(anonymous)), key=lambda k: anonymous[k])
    ways = itertools.product(*(itertools.permutations(group) for _, group in places))
    found = list(itertools.islice(ways, MAX_PERMUTATIONS + 1))
    return np.array([sum(way, ()) for way in (found if len(found) <= MAX_PERMUTATIONS else found[:1])])


def clustered(library: Library, anonymous: tuple[int, ...]) -> Prototypes:
    """Cluster the entries of an anonymous composition.

    In the order of the library each entry joins the first prototype of its space group whose shells are
    its own in some order of equal amounts, or else is a new one. Crystals of one composition, with the
    elements in the same places, are kept apart if StructureMatcher tells them apart: polytypes of layers and
    packings of molecules have the same shells.
    """
    rows, elements = library.rows(anonymous), library.elements(anonymous)
    orders = equal_places(anonymous)
    leaders: dict[int, Leaders] = defaultdict(Leaders)
    of_composition: dict[
        tuple[int, tuple[int, ...]], int
    ] = {}  # prototype and elements in its places → a row
    number, taken = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    symmetry: list[Ints] = []
    for start, part in _parts(library, rows, elements):
        for k, own in enumerate(part, start):
            ways = own[orders[:, :, None], orders[:, None, :]]  # [P, k, k, R]
            group = leaders[int(library.space_group[rows[k]])]
            for like, order in group.like(ways):
                place = like, _placing(elements[k][orders[order]], symmetry[like])
                other = of_composition.setdefault(place, int(rows[k]))
                if other == rows[k] or _one_crystal(library, other, int(rows[k])):
                    number[k], taken[k] = like, order
                    break
            else:
                number[k] = len(symmetry)
                group.add(own, len(symmetry))
                symmetry.append(orders[_differences(ways, own) < SAME_PROTOTYPE])
                of_composition[int(number[k]), _placing(elements[k], symmetry[-1])] = int(rows[k])
    return Prototypes(rows, np.take_along_axis(elements, orders[taken], 1), number, symmetry)


def _placing(elements: Ints, symmetry: Ints) -> tuple[int, ...]:
    """The elements in the places of a prototype, one for all that its symmetry makes the same."""
    return min(tuple(row) for row in elements[symmetry].tolist())


def _one_crystal(library: Library, row: int, other: int) -> bool:
    """Does StructureMatcher take two entries for one crystal? It is not asked about larger ones than
    `COMPARED`: it takes long, and of 5,696 pairs of AB2 crystals with like surroundings it found 17 to be
    one."""
    first, second = library.n_primitive(np.array([row, other])).tolist()
    if first != second or first > COMPARED:
        return False
    return bool(Matcher.DEFAULT.fits(library.crystals([row]), library.crystals([other]))[0])


class Leaders:
    """The shells of what is different so far, of one space group: the first of each prototype."""

    def __init__(self, tolerance: float = SAME_PROTOTYPE) -> None:
        self._tolerance = tolerance
        self._counts: RadialCounts = np.zeros((0, 0, 0, 0), np.float32)
        self._numbers: list[int] = []

    def add(self, own: RadialCounts, number: int) -> None:
        n = len(self._numbers)
        if n == len(self._counts):
            grown = np.zeros((max(8, 2 * n), *own.shape), np.float32)
            grown[:n] = self._counts[:n] if n else 0.0
            self._counts = grown
        self._counts[n] = own
        self._numbers.append(number)

    def like(self, ways: RadialCounts) -> Iterator[tuple[int, int]]:
        """The prototypes that an entry is in one of the orders [P, k, k, R] of its places, the first ones
        first, and the nearest order of each."""
        if not self._numbers:
            return
        known = self._counts[: len(self._numbers)]
        differences = np.stack([_differences(known, way) for way in ways], 1)  # [L, P]
        for leader in np.flatnonzero((differences < self._tolerance).any(1)).tolist():
            yield self._numbers[leader], int(differences[leader].argmin())


def _differences(known: RadialCounts, own: RadialCounts) -> NDArray[np.float32]:
    """[L]: over the pairs of kinds, the largest mean difference of the shells [L, k, k, R] and [k, k, R],
    relative to their mean (plus one half, for pairs that are nowhere near)."""
    difference = np.abs(known - own).mean(-1)
    mean = 0.5 * (known.mean(-1) + own.mean(-1))
    return (difference / (mean + 0.5)).max((1, 2))


def _parts(library: Library, rows: Ints, elements: Ints) -> Iterator[tuple[int, RadialCounts]]:
    """Runs of rows with their shells, the elements in their order being the kinds."""
    for start in range(0, len(rows), CRYSTALS_AT_ONCE):
        part = slice(start, start + CRYSTALS_AT_ONCE)
        crystals = library.crystals(rows[part]).to(dtype=torch.float32)
        kind = (crystals.numbers[:, None] == torch.from_numpy(elements[part])[crystals.batch]).int().argmax(1)
        yield start, radial_counts(replace(crystals, numbers=kind), elements.shape[1]).numpy()


def _write(path: Path, found: Prototypes) -> None:
    keep_arrays(
        path,
        elements=found.elements.astype(np.uint8),
        number=found.number.astype(np.int32),
        symmetry=np.concatenate([*found.symmetry, np.zeros((0, found.elements.shape[1]), np.int64)]),
        orders=np.array([len(s) for s in found.symmetry], np.int64),
    )


def _read(path: Path, library: Library, anonymous: tuple[int, ...]) -> Prototypes | None:
    """What was kept, or None."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        ends = np.cumsum(arrays["orders"])[:-1]
        return Prototypes(
            library.rows(anonymous),
            arrays["elements"].astype(np.int64),
            arrays["number"].astype(np.int64),
            np.split(arrays["symmetry"].astype(np.int64), ends) if len(arrays["orders"]) else [],
        )
