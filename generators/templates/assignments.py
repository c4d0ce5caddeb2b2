"""Different structures for a target, ranked: each prototype with each placing of the elements once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csp.target import Target
from generators.templates.prototypes import Prototypes

__all__ = ["MAX_ASSIGNMENTS", "Assignments", "Candidate", "candidates"]

MAX_ASSIGNMENTS = 50_000  # of the elements to the places of one template; 8 equal amounts have 40,320

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Assignments:
    """The ways to put a target's elements on places with ascending amounts.

    Attributes:
        elements: int [k], the target's atomic numbers, sorted by (amount, atomic number).
        orders: int [P, k], which of them is in each place.
        complete: bool, False if there are more than `MAX_ASSIGNMENTS`.
    """

    elements: Ints
    orders: Ints
    complete: bool

    @classmethod
    def of(cls, target: Target) -> Assignments:
        elements = sorted(zip(target.counts, target.numbers, strict=True))
        equal = itertools.groupby(range(len(elements)), key=lambda k: elements[k][0])
        ways = itertools.product(*(itertools.permutations(group) for _, group in equal))
        found = list(itertools.islice(ways, MAX_ASSIGNMENTS + 1))
        orders = np.array([sum(way, ()) for way in found[:MAX_ASSIGNMENTS]])
        return cls(np.array([z for _, z in elements]), orders, len(found) <= MAX_ASSIGNMENTS)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library entry with the target's elements in its places.

    Attributes:
        row: Of the library: of the entries that are this prototype the one with the largest weight.
        numbers: The target's atomic numbers by the places of the prototype, which take the place of …
        replaced: … the entry's.
        n_entries: Of the prototype.
        score: ln of the probability of this structure, of all that the library has.
        own: Is it the entry as it is, one of the target itself?
    """

    row: int
    numbers: tuple[int, ...]
    replaced: tuple[int, ...]
    n_entries: int
    score: float
    own: bool = False


def candidates(
    prototypes: Prototypes,
    assignments: Assignments,
    similarity: Floats,
    own: NDArray[np.bool_] | None = None,
) -> Iterator[Candidate]:
    """All distinct structures: those that are entries of the target itself, then the others; of each the most
    probable first.

    The weight of a structure is the sum over the entries of its prototype and over the assignments that its
    symmetry makes the same. Ties come in the order of the library.

    Args:
        similarity: ln of the weight of each entry with each assignment, [n, P].
        own: Which entries [n] are of the target's composition; None: none.
    """
    n_prototypes = len(prototypes)
    if n_prototypes == 0:
        return
    members = np.argsort(prototypes.number, kind="stable")
    bounds = np.searchsorted(prototypes.number[members], np.arange(n_prototypes + 1))
    total = np.logaddexp.reduceat(similarity[members], bounds[:-1], axis=0)  # [m, P]
    equivalent = _Equivalent(assignments.orders)
    distinct = np.ones(total.shape, bool)
    summed = total.copy()
    alike: dict[bytes, list[int]] = {}
    for p, symmetry in enumerate(prototypes.symmetry):
        alike.setdefault(symmetry.tobytes(), []).append(p)
    for of_group in alike.values():
        same = equivalent.under(prototypes.symmetry[of_group[0]])  # [g, P]
        summed[of_group] = np.logaddexp.reduce(total[of_group][:, same], axis=1)
        distinct[of_group] = same.min(0) == np.arange(total.shape[1])
    summed -= np.logaddexp.reduce(total.ravel())
    flat = np.flatnonzero(distinct.ravel())
    order = flat[np.argsort(-summed.ravel()[flat].round(9), kind="stable")]
    own_entries = _own_places(prototypes, assignments, equivalent, own)
    order = np.concatenate([order[first := np.isin(order, list(own_entries))], order[~first]])
    for place in order.tolist():
        p, a = divmod(place, total.shape[1])
        same = np.unique(equivalent.under(prototypes.symmetry[p])[:, a])
        entries = members[bounds[p] : bounds[p + 1]]
        if is_own := place in own_entries:
            entry = own_entries[place]
            numbers = prototypes.elements[entry]
        else:
            places = (len(entries), len(same))
            best, way = np.unravel_index(similarity[np.ix_(entries, same)].argmax(), places)
            entry = int(entries[best])
            numbers = assignments.elements[assignments.orders[same[way]]]
        yield Candidate(
            row=int(prototypes.rows[entry]),
            numbers=tuple(numbers.tolist()),
            replaced=tuple(prototypes.elements[entry].tolist()),
            n_entries=len(entries),
            score=float(summed[p, a]),
            own=is_own,
        )


def _own_places(
    prototypes: Prototypes,
    assignments: Assignments,
    equivalent: _Equivalent,
    own: NDArray[np.bool_] | None,
) -> dict[int, int]:
    """Place of a structure among all, p · P + a, to the first entry of the target itself that it is."""
    found: dict[int, int] = {}
    n_ways = len(assignments.orders)
    placed = {tuple(way): a for a, way in enumerate(assignments.elements[assignments.orders].tolist())}
    for entry in np.flatnonzero(own).tolist() if own is not None else ():
        p, a = int(prototypes.number[entry]), placed.get(tuple(prototypes.elements[entry].tolist()))
        if a is not None:  # else it is beyond the cap
            a = int(equivalent.under(prototypes.symmetry[p])[:, a].min())
            found.setdefault(p * n_ways + a, entry)
    return found


class _Equivalent:
    """Which assignments are the same structure under a symmetry of a prototype."""

    def __init__(self, orders: Ints) -> None:
        self._orders = orders
        self._place = {order: a for a, order in enumerate(map(tuple, orders.tolist()))}
        self._known: dict[bytes, Ints] = {}

    def under(self, symmetry: Ints) -> Ints:
        """[g, P]: the assignment that each becomes; itself where that one is beyond the cap."""
        key = symmetry.tobytes()
        if key not in self._known:
            self._known[key] = np.array(
                [
                    [
                        self._place.get(order, a)
                        for a, order in enumerate(map(tuple, self._orders[:, g].tolist()))
                    ]
                    for g in symmetry
                ]
            )
        return self._known[key]
