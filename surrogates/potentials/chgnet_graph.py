"""CHGNet's graph of bonds and angles: of every atom, or of one site of each orbit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csp.crystallography.neighbours import Neighbours
from csp.crystallography.orbits import Orbits
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals, ranges

__all__ = ["Graph"]


@dataclass(frozen=True, slots=True)
class Graph:
    """The bonds and angles of R sites: E directed bonds of U kinds, S of them short, H angles.

    A bond, its reverse and what is equivalent to them by symmetry are of one kind and share their features.
    Without symmetry a kind is a bond with its reverse.

    Attributes:
        ends: int64 [2, E], the two atoms of each directed bond, the first a site.
        vector: float [E, 3], from the first to the second, Å.
        sites: int64 [R], atoms.
        bonds: int64 [2, U], the sites at (or equivalent to those at) the two ends of each kind.
        first: int64 [U], a directed bond of each kind, from its first end.
        count: float [2, U], how many of a kind begin at each of its ends (half of them where both ends are
            one site); None: one everywhere.
        short: int64 [S], kinds within the bond graph's cutoff.
        vertex: int64 [H], the site at the vertex of each unordered angle.
        arms: int64 [2, H], its two directed bonds.
        sides: int64 [2, H], their kinds, as positions in `short`.
        share: float [2, H], what its messages to its sides count for, one over `count`; None: one everywhere.
    """

    ends: Tensor
    vector: Tensor
    sites: Tensor
    bonds: Tensor
    first: Tensor
    count: Tensor | None
    short: Tensor
    vertex: Tensor
    arms: Tensor
    sides: Tensor
    share: Tensor | None

    @classmethod
    def build(
        cls,
        crystals: Crystals,
        surroundings: Surroundings,
        cutoff: float,
        bond_cutoff: float,
        dtype: torch.dtype,
    ) -> Graph:
        """The graph of all crystals; `vector` in the given precision."""
        pairs, orbits = surroundings.neighbours(crystals, cutoff), surroundings.orbits
        origin = orbits.site_of[pairs.i]
        kind, first = _kinds(_reverse(crystals, orbits, pairs))
        bonds = torch.stack([origin[first], orbits.site_of[pairs.j[first]]])
        far = (origin != bonds[0][kind]).long()  # which end of its kind a directed bond begins at
        count = None
        if not orbits.trivial:
            count = torch.zeros_like(bonds).index_put_((far, kind), torch.ones_like(far), accumulate=True)
            count = torch.where(bonds[0] == bonds[1], count.sum(0) / 2, count).to(dtype)

        short = (pairs.distance[first] <= bond_cutoff).nonzero().flatten()
        place = torch.full_like(first, -1)
        place[short] = torch.arange(len(short), device=place.device)
        # short directed bonds, which are grouped by their origin; each forms an angle with every later one
        directed = (place[kind] >= 0).nonzero().flatten()
        degree = torch.bincount(origin[directed], minlength=len(orbits.sites))
        last = torch.cumsum(degree, 0)[origin[directed]]
        position = torch.arange(1, len(directed) + 1, device=directed.device)
        later = last - position
        one = torch.repeat_interleave(position - 1, later)
        arms = torch.stack([directed[one], directed[ranges(position, later)]])
        return cls(
            ends=torch.stack([pairs.i, pairs.j]),
            vector=pairs.vector.to(dtype),
            sites=orbits.sites,
            bonds=bonds,
            first=first,
            count=count,
            short=short,
            vertex=origin[arms[0]],
            arms=arms,
            sides=place[kind[arms]],
            share=None if count is None else 1.0 / count[far[arms], kind[arms]],
        )


def _reverse(crystals: Crystals, orbits: Orbits, pairs: Neighbours) -> Tensor:
    """int64 [E]: of each directed bond i → j one that is equivalent to j → i.

    An operation takes j to its site, and the bond with it. A bond at the cutoff, where no weight is left,
    may have lost its reverse to rounding, and stands for it itself.
    """
    itself = torch.arange(len(pairs.j), device=pairs.j.device)
    if len(itself) == 0:
        return itself
    site, partner = orbits.sites[orbits.site_of[pairs.j]], orbits.image(pairs.j, pairs.i)
    turned = pairs.shift + crystals.frac[pairs.j] - crystals.frac[pairs.i]
    if orbits.operations is not None:
        rotation = orbits.operations.rotation[orbits.to_site[pairs.j]]
        turned = torch.einsum("eij,ej->ei", rotation, turned)
    shift = (-turned - crystals.frac[partner] + crystals.frac[site]).round().long()
    shifts = torch.cat([pairs.shift, shift])
    low, high = shifts.amin(0), shifts.amax(0)
    x, y, z = (high - low + 1).unbind()

    def key(i: Tensor, j: Tensor, s: Tensor) -> Tensor:
        a, b, c = (s - low).unbind(1)
        return (((i * len(crystals.numbers) + j) * x + a) * y + b) * z + c

    known, order = torch.sort(key(pairs.i, pairs.j, pairs.shift))
    wanted = key(site, partner, shift)
    found = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    return torch.where(known[found] == wanted, order[found], itself)


def _kinds(reverse: Tensor) -> tuple[Tensor, Tensor]:
    """Directed bonds [E] that are joined by `reverse`: the kind of each, and the first one of each kind."""
    label = torch.arange(len(reverse), device=reverse.device)
    while True:
        joined = torch.minimum(label, label[reverse])
        joined = joined.scatter_reduce(0, reverse, joined, "amin")
        if torch.equal(joined, label):
            break
        label = joined
    first, kind = torch.unique(label, return_inverse=True)
    return kind, first
