"""Drawing Wyckoff assignments from the space-group model: each candidate with random numbers of its own.

They are drawn as a tree: candidates that agree so far share one row of the batch and of the cache of keys
and values, and the leaves are the distinct assignments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.crystallography.wyckoff import wyckoff_table
from generators.random_streams import Streams
from generators.space_group.letters import Walks, begin
from generators.space_group.model import MAX_Z, Cache, SpaceGroupModel
from generators.space_group.representation import WyckoffRepresentation, starts

__all__ = ["AT_ONCE", "Drawn", "draw_assignments", "joined", "joint"]

AT_ONCE = 512  # rows of a batch


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """U distinct assignments and the candidates [B] that drew them.

    Attributes:
        assignments: With unit cells and all points at 0, in the order in which candidates first drew them.
        log_p: float64 [U], ln of the probability of the letters, given group and Z.
        which: int64 [B], the assignment of each candidate.
    """

    assignments: WyckoffRepresentation
    log_p: Tensor
    which: Tensor


@torch.no_grad()
def joint(
    model: SpaceGroupModel,
    numbers: tuple[int, ...],
    counts: tuple[int, ...],
    z: NDArray[np.int64],
    possible: NDArray[np.bool_],
) -> Tensor:
    """float64 [231, Z]: ln p of space group and formula units z [Z] among what is possible [231, Z].

    More formula units than the model tells apart share the probability of the largest number that it does.
    """
    log_group, whole = model.composition(torch.tensor([numbers]), torch.tensor([counts]))
    log_units = model.formula_units(whole.expand(231, -1), torch.arange(231))
    known = torch.from_numpy(z).clamp(max=MAX_Z) - 1
    shared = torch.bincount(known, minlength=MAX_Z)[known].double().log()
    both = log_group[0, :, None].double() + log_units[:, known].double() - shared
    both = both.masked_fill(~torch.from_numpy(possible), -torch.inf)
    return both - both.flatten().logsumexp(0)


@torch.no_grad()
def draw_assignments(
    model: SpaceGroupModel,
    numbers: tuple[int, ...],
    counts: tuple[int, ...],
    group: Tensor,
    z: Tensor,
    streams: Streams,
    temperature: float = 1.0,
) -> Drawn:
    """An assignment for each candidate, of space group [B] and formula units [B] in which there is one."""
    walks, keys, table = Walks(len(numbers)), model.keys(), wyckoff_table()
    number = torch.tensor(numbers)
    _, prefix_cache = model.trunk(model.elements(number[None], torch.tensor([counts])))
    roots, node = torch.unique(torch.stack([group, z], 1), dim=0, return_inverse=True)
    state = np.array([walks.number(begin(g, [n * k for n in counts])) for g, k in roots.tolist()])
    left = torch.tensor(counts)[0] * roots[:, 1]
    token = model.condition(roots[:, 0], roots[:, 1], number[:1].expand(len(roots)), left)
    parent, cache = torch.zeros(len(roots), dtype=torch.int64), prefix_cache
    log_p = torch.zeros(len(roots), dtype=torch.float64)
    history = torch.zeros((len(roots), 0, 2), dtype=torch.int64)  # element and row of each orbit so far
    root = torch.arange(len(roots))
    alive = torch.arange(len(group))
    leaves: list[tuple[Tensor, Tensor, Tensor]] = []
    which = torch.zeros(len(group), dtype=torch.int64)
    depth = 0
    while len(alive):
        h, cache = _extended(model, token, cache, parent)
        mask = torch.from_numpy(walks.mask(state))
        log_letters = model.letters(h, roots[root, 0], mask, keys).double() / temperature
        log_letters = log_letters.log_softmax(-1)
        edges = log_letters.exp().cumsum(1)
        uniform = streams[alive].child(depth).uniform(1)
        own = edges[node[alive]]
        letter = (uniform * own[:, -1:] >= own).sum(1)
        # each distinct pair of a node and a letter becomes a node
        pairs, place = torch.unique(node[alive] * 32 + letter, return_inverse=True)
        parent, taken = pairs // 32, pairs % 32
        element = torch.from_numpy(walks.element(state))[parent]
        row = table.first[roots[root[parent], 0]] + taken
        log_p = log_p[parent] + log_letters[parent, taken]
        root = root[parent]
        history = torch.cat([history[parent], torch.stack([element, row], 1)[:, None]], 1)
        state = walks.after(state[parent.numpy()], taken.numpy())
        left = torch.from_numpy(walks.left(state))
        complete = left == 0
        ended = complete[place]
        base = sum(len(r) for r, _, _ in leaves)
        leaf = base + torch.cumsum(complete, 0) - 1
        which[alive[ended]] = leaf[place[ended]]
        leaves.append((root[complete], history[complete], log_p[complete]))
        # the others go on
        going = (~complete).nonzero().flatten()
        new_place = torch.cumsum(~complete, 0) - 1
        node[alive] = new_place[place]
        alive = alive[~ended]
        turn = number[torch.from_numpy(walks.element(state))]
        token = model.orbit(number[element], row, turn, left)[going]
        parent, root, history, log_p = parent[going], root[going], history[going], log_p[going]
        state = state[going.numpy()]
        depth += 1
    return _in_order_of_appearance(_assignments(roots, leaves, numbers, counts), leaves, which)


def _extended(model: SpaceGroupModel, token: Tensor, cache: Cache, parent: Tensor) -> tuple[Tensor, Cache]:
    """Outputs [N, d] of one more token each, and the caches with it; `parent` is the cache's row before."""
    outs, caches = [], []
    for rows in torch.arange(len(token)).split(AT_ONCE):
        past = [(k[parent[rows]], v[parent[rows]]) for k, v in cache]
        out, more = model.trunk(token[rows, None], past=past)
        outs.append(out[:, 0])
        caches.append(more)
    return torch.cat(outs), joined(caches)


def joined(caches: list[Cache]) -> Cache:
    """Caches of parts of a batch as one."""
    layers = zip(*caches, strict=True)
    return [(torch.cat([k for k, _ in parts]), torch.cat([v for _, v in parts])) for parts in layers]


def _assignments(
    roots: Tensor,
    leaves: list[tuple[Tensor, Tensor, Tensor]],
    numbers: tuple[int, ...],
    counts: tuple[int, ...],
) -> WyckoffRepresentation:
    """The leaves as descriptions with unit cells."""
    root = torch.cat([r for r, _, _ in leaves])
    orbits = torch.cat([h.reshape(-1, 2) for _, h, _ in leaves])
    n_orbits = torch.cat([torch.full((len(h),), h.shape[1]) for _, h, _ in leaves])
    u, e = len(root), len(numbers)
    return WyckoffRepresentation(
        roots[root, 0],
        roots[root, 1],
        torch.tensor([1.0, 1, 1, 0, 0, 0]).expand(u, 6),
        starts(torch.full((u,), e)),
        torch.tensor(numbers).repeat(u),
        torch.tensor(counts).repeat(u),
        starts(n_orbits),
        orbits[:, 0],
        orbits[:, 1],
        torch.zeros(len(orbits), 3),
    )


def _in_order_of_appearance(
    assignments: WyckoffRepresentation, leaves: list[tuple[Tensor, Tensor, Tensor]], which: Tensor
) -> Drawn:
    first = torch.full((len(assignments),), len(which))
    first = first.scatter_reduce(0, which, torch.arange(len(which)), "amin")
    order = first.argsort()
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return Drawn(assignments[order], torch.cat([p for _, _, p in leaves])[order], place[which])
