"""Drawing from the space-group model: whole batches, each candidate with random numbers of its own.

Skeletons are drawn as a tree: candidates that agree so far share one row of the batch and of the cache of
keys and values, and the leaves are the distinct skeletons. Geometries start from the cache of their skeleton.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.wyckoff import wyckoff_table
from generators.completion import Walks, begin
from generators.description_table import Table
from generators.descriptions import Descriptions, starts
from generators.mixtures import VON_MISES_DRAWS
from generators.randomness import Streams
from generators.space_group_batches import Batch, lattice_of
from generators.space_group_loss import prefix, who_sees_whom
from generators.space_group_model import FREE_CELL, MAX_Z, Cache, SpaceGroupModel, site_freedom

__all__ = ["Drawn", "Geometries", "draw_skeletons", "joint"]

AT_ONCE = 512  # rows of a batch


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """U distinct skeletons and the candidates [B] that drew them.

    skeletons  with unit cells and all points at 0, in the order in which candidates first drew them
    log_p      float64 [U]  ln of the probability of the letters, given group and Z
    which      int64 [B]    the skeleton of each candidate
    """

    skeletons: Descriptions
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
def draw_skeletons(
    model: SpaceGroupModel,
    numbers: tuple[int, ...],
    counts: tuple[int, ...],
    group: Tensor,
    z: Tensor,
    streams: Streams,
    temperature: float = 1.0,
) -> Drawn:
    """A skeleton for each candidate, of space group [B] and formula units [B] in which there is one."""
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
    return _in_order_of_appearance(_skeletons(roots, leaves, numbers, counts), leaves, which)


def _extended(model: SpaceGroupModel, token: Tensor, cache: Cache, parent: Tensor) -> tuple[Tensor, Cache]:
    """Outputs [N, d] of one more token each, and the caches with it; `parent` is the cache's row before."""
    outs, caches = [], []
    for rows in torch.arange(len(token)).split(AT_ONCE):
        past = [(k[parent[rows]], v[parent[rows]]) for k, v in cache]
        out, more = model.trunk(token[rows, None], past=past)
        outs.append(out[:, 0])
        caches.append(more)
    return torch.cat(outs), _joined(caches)


def _joined(caches: list[Cache]) -> Cache:
    """Caches of parts of a batch as one."""
    layers = zip(*caches, strict=True)
    return [(torch.cat([k for k, _ in parts]), torch.cat([v for _, v in parts])) for parts in layers]


def _skeletons(
    roots: Tensor,
    leaves: list[tuple[Tensor, Tensor, Tensor]],
    numbers: tuple[int, ...],
    counts: tuple[int, ...],
) -> Descriptions:
    """The leaves as descriptions with unit cells."""
    root = torch.cat([r for r, _, _ in leaves])
    orbits = torch.cat([h.reshape(-1, 2) for _, h, _ in leaves])
    n_orbits = torch.cat([torch.full((len(h),), h.shape[1]) for _, h, _ in leaves])
    u, e = len(root), len(numbers)
    return Descriptions(
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
    skeletons: Descriptions, leaves: list[tuple[Tensor, Tensor, Tensor]], which: Tensor
) -> Drawn:
    first = torch.full((len(skeletons),), len(which))
    first = first.scatter_reduce(0, which, torch.arange(len(which)), "amin")
    order = first.argsort()
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return Drawn(skeletons[order], torch.cat([p for _, _, p in leaves])[order], place[which])


def skeletons_as_batch(skeletons: Descriptions) -> Batch:
    """Skeletons as what the model reads; their cells mean nothing."""
    nothing = torch.zeros(len(skeletons.position), dtype=torch.int64)
    ids = np.full(len(skeletons), "")
    return Batch.of(Table(skeletons, nothing, ids), torch.ones(len(skeletons), dtype=torch.float64))


class Geometries:
    """Cells and coordinates for skeletons [U], which the model reads once."""

    @torch.no_grad()
    def __init__(self, model: SpaceGroupModel, skeletons: Descriptions) -> None:
        self._model = model
        self._skeletons = skeletons
        self._batch = batch = skeletons_as_batch(skeletons)
        tokens = prefix(model, batch)
        n_tokens, rows = tokens.shape[1], torch.arange(len(batch))
        sees = who_sees_whom(batch)[:, :n_tokens, :n_tokens]
        parts = [model.trunk(tokens[part], sees[part]) for part in rows.split(AT_ONCE)]
        self._cache = _joined([cache for _, cache in parts])
        n_elements = batch.number.shape[1]
        self._last = torch.cat([out for out, _ in parts])[rows, n_elements + skeletons.n_orbits]
        one = torch.ones(len(batch), 1, dtype=torch.bool)
        self._real = torch.cat([batch.number > 0, one, batch.orbit_number > 0], 1)

    @torch.no_grad()
    def draw(
        self, which: Tensor, streams: Streams, volume_per_atom: float, temperature: float = 1.0
    ) -> Descriptions:
        """A geometry for each of the skeletons `which` [B].

        volume_per_atom: Å³, expected of the composition. Cells may not exist (see `descriptions.build`).
        """
        values = torch.zeros(len(which), 6, dtype=torch.float64)
        points = torch.zeros(len(which), self._batch.site_number.shape[1], 3)
        for part in torch.arange(len(which)).split(AT_ONCE):
            values[part], points[part] = self._drawn(which[part], streams[part], temperature)
        return _placed(self._skeletons, self._batch, which, values, points, volume_per_atom)

    def _drawn(self, which: Tensor, streams: Streams, temperature: float) -> tuple[Tensor, Tensor]:
        """Parameters of the cells [B, 6] and points of the sites [B, F, 3]."""
        model, group = self._model, self._batch.group[which]
        values = model.cells(self._last[which]).sample(streams.child(0).uniform(7), temperature)
        values = values * FREE_CELL[group]
        number, row = self._batch.site_number[which], self._batch.site_row[which]
        free, n_sites = self._batch.site_free[which], number.shape[1]
        points = torch.zeros(len(which), n_sites, 3)
        active = (number[:, 0] > 0).nonzero().flatten() if n_sites else which[:0]
        if not len(active):
            return values, points
        token = model.cell(group, values.float(), number[:, 0], row[:, 0])[active]
        past = [(k[which[active]], v[which[active]]) for k, v in self._cache]
        real = self._real[which[active]]
        for site in range(n_sites):
            real = torch.cat([real, torch.ones(len(real), 1, dtype=torch.bool)], 1)
            out, past = model.trunk(token[:, None], real[:, None], past)
            own = streams[active].child(1 + site)
            points[active, site] = _point(model, out[:, 0], free[active, site], own, temperature)
            if site + 1 == n_sites:
                break
            more = number[active, site + 1] > 0
            active = active[more]
            if not len(active):
                break
            here, there = (active, site), (active, site + 1)
            token = model.site(number[here], row[here], points[here], number[there], row[there])
            past, real = [(k[more], v[more]) for k, v in past], real[more]
        return values, points


def _point(model: SpaceGroupModel, h: Tensor, free: Tensor, streams: Streams, temperature: float) -> Tensor:
    """Coordinates u [B, 3] of a site each, one axis after the other."""
    point = torch.zeros(len(h), 3)
    for axis in range(3):
        rows = free[:, axis].nonzero().flatten()
        density = model.axis(axis, h[rows], point[rows], free[rows])
        uniform = streams[rows].child(axis).uniform(VON_MISES_DRAWS)
        point[rows, axis] = density.sample(uniform, temperature).float()
    return point


def _placed(
    skeletons: Descriptions,
    batch: Batch,
    which: Tensor,
    values: Tensor,
    points: Tensor,
    volume_per_atom: float,
) -> Descriptions:
    """The skeletons `which` [B] with these cells [B, 6] and points of their sites [B, F, 3]."""
    result = skeletons[which]
    expected = torch.full((len(which),), volume_per_atom, dtype=torch.float64)
    lattice = lattice_of(values, result.group, result.n_atoms, expected).float()
    crystal = torch.repeat_interleave(torch.arange(len(which)), result.n_orbits)
    first = torch.arange(len(crystal)) == result.first_orbit[crystal]
    site = site_freedom(result.group[crystal], result.position, first).any(1)
    point = torch.zeros(len(crystal), 3)
    point[site] = points[batch.site_number[which] > 0]
    return replace(result, lattice=lattice, point=point)
