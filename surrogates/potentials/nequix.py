"""Nequix: E(3)-equivariant message passing, written for periodic crystals.

Koker et al., arXiv:2508.16067; with phonons in the training, arXiv:2601.07742. The network is the authors'
(their JAX code gave the numbers that the tests hold it to); the order of the operations is not. A message
from j to i is Σ over the images s of j of R(r_s) Y(v_s) ⊗ x_j, and x_j is the same for all images, of which
a small cell has many. So the images are summed first:

- R(r) = Φ(r) V with few functions Φ (see `surrogates.nequix_radial`);
- N_ij = Σ_s C(Y(v_s)) Φ(r_s), with the couplings C, is all that is done for a neighbour that is an image;
- Σ_j N_ij x_j is one matrix product for each site, of good shape, in place of a sum over neighbours;
- V follows, per site.

The backward pass of these products is written out and makes N again, which is cheaper than to fetch it.
With orbits (`csp.crystallography.orbits`) only one site of each is computed, and its features are turned for
the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import silu

from csp.crystallography.orbits import Orbits
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from surrogates.potentials.nequix_couplings import L_MAX, coupling, rotation_matrices, spherical_harmonics
from surrogates.potentials.nequix_radial import RadialTable

__all__ = ["Nequix"]

MULTIPLICITIES = (128, 64, 32, 32)  # channels of l = 0 … 3 between the layers
SILU_NORM = 0.5964586854233045  # of silu on a million quantiles of a normal deviate, as e3nn-jax has it

PRODUCTS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 28}  # CPU: what stays in a core's own cache

Put = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Graph:
    """The neighbours of T sites in E pairs, grouped by the atom they are images of.

    ends    int64 [2, E]  the atoms i and j of each pair; i is a site
    vector  float [E, 3]  from i to the image of j, Å
    orbits  of the atoms
    source  int64 [T, P]  atoms with images around each site; the rest is filled up with any atom
    slot    int64 [E]     place of each pair in the padded block [T, P, S] of images
    images  S
    """

    ends: Tensor
    vector: Tensor
    orbits: Orbits
    source: Tensor
    slot: Tensor
    images: int

    @classmethod
    def build(
        cls, crystals: Crystals, surroundings: Surroundings, cutoff: float, dtype: torch.dtype
    ) -> Graph:
        """All pairs within the cutoff; `vector` in the given precision."""
        pairs, orbits = surroundings.neighbours(crystals, cutoff), surroundings.orbits
        i, j = pairs.i, pairs.j
        group, count = torch.unique_consecutive(i * len(crystals.numbers) + j, return_counts=True)
        of_group = torch.repeat_interleave(torch.arange(len(group), device=i.device), count)
        site = orbits.site_of[torch.div(group, len(crystals.numbers), rounding_mode="floor")]
        groups_of_site = torch.bincount(site, minlength=len(orbits.sites))
        first = torch.cumsum(groups_of_site, 0) - groups_of_site
        width = max(int(groups_of_site.max()) if len(site) else 0, 1)
        images = max(int(count.max()) if len(count) else 0, 1)
        place = site * width + torch.arange(len(group), device=i.device) - first[site]
        source = group.new_zeros(len(orbits.sites) * width)
        source[place] = group % len(crystals.numbers)
        rank = torch.arange(len(i), device=i.device) - (torch.cumsum(count, 0) - count)[of_group]
        return cls(
            ends=torch.stack([i, j]),
            vector=pairs.vector.to(dtype),
            orbits=orbits,
            source=source.view(-1, width),
            slot=place[of_group] * images + rank,
            images=images,
        )


@dataclass(frozen=True, slots=True)
class _Path:
    """From features of l1 with harmonics of l2 to l3.

    coupling  float [2 l3 + 1, (2 l1 + 1)(2 l2 + 1)]
    columns   its channels among all that arrive at l3
    """

    l3: int
    coupling: Tensor
    columns: slice


@dataclass(frozen=True, slots=True)
class _Group:
    """The n paths from features of l1 with harmonics of l2; mix float [q, n c] is their V."""

    l1: int
    l2: int
    mix: Tensor
    paths: list[_Path]


class _Messages(torch.autograd.Function):
    """What arrives at the sites, by l3: Σ over neighbours of features × weighted harmonics, coupled.

    pairs    float [T P, 16, q]           Σ over images of Y(v) Φ(r)
    groups   of the layer
    widths   channels that arrive at each l3
    x        float [T, P, 2 l1 + 1, c]    features of the sources, by l1
    → float [T, 2 l3 + 1, width] by l3

    Features and weighted harmonics are multiplied channel by channel and summed over the neighbours; the
    coupling follows for each site. The backward pass is written out: autograd's would make many more passes
    over memory.
    """

    @staticmethod
    def forward(
        ctx: Any, pairs: Tensor, groups: list[_Group], widths: list[int], *x: Tensor
    ) -> tuple[Tensor, ...]:
        n_sites, n_sources = x[0].shape[:2]
        by_l = _by_l(pairs)
        arrived = tuple(x[0].new_empty((n_sites, 2 * l + 1, width)) for l, width in enumerate(widths))
        kept = []
        for g in groups:
            features = x[g.l1][:, :, :, None, None]
            weighted = (by_l[g.l2] @ g.mix).view(n_sites, n_sources, 1, 2 * g.l2 + 1, len(g.paths), -1)
            kept.append(weighted)
            products = _summed_products(weighted, features, (1,)).flatten(1, 2)
            for k, path in enumerate(g.paths):
                c = path.coupling.expand(n_sites, -1, -1)
                arrived[path.l3][:, :, path.columns] = torch.bmm(c, products[:, :, k])
        ctx.save_for_backward(*x, *kept)
        ctx.groups, ctx.n_x, ctx.shape = groups, len(x), pairs.shape
        return arrived

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, kept = ctx.saved_tensors[: ctx.n_x], ctx.saved_tensors[ctx.n_x :]
        wanted = ctx.needs_input_grad[3]
        n_sites, q = len(x[0]), ctx.shape[2]
        on_pairs: list[Tensor | None] = [None] * (L_MAX + 1)
        on_x: list[Tensor | None] = [None] * len(x)
        for g, weighted in zip(ctx.groups, kept, strict=True):
            m1, m2, n, channels = 2 * g.l1 + 1, 2 * g.l2 + 1, len(g.paths), x[g.l1].shape[3]
            grad = x[0].new_empty((n_sites, m1 * m2, n, channels))
            for k, path in enumerate(g.paths):
                c = path.coupling.mT.expand(n_sites, -1, -1)
                grad[:, :, k] = torch.bmm(c, grads[path.l3][:, :, path.columns])
            grad = grad.view(n_sites, 1, m1, m2, n, channels)
            on_weighted = _summed_products(x[g.l1][:, :, :, None, None], grad, (2,)).view(-1, n * channels)
            on_pairs[g.l2] = _added(on_pairs[g.l2], on_weighted, g.mix.mT)
            if wanted:
                more = _summed_products(weighted, grad, (3, 4))
                on_x[g.l1] = more if on_x[g.l1] is None else on_x[g.l1].add_(more)
        zero = x[0].new_zeros(())
        parts = [
            zero.expand(ctx.shape[0], 2 * l + 1, q) if part is None else part.view(ctx.shape[0], 2 * l + 1, q)
            for l, part in enumerate(on_pairs)
        ]
        return torch.cat(parts, 1), None, None, *on_x


def _by_l(pairs: Tensor) -> list[Tensor]:
    """[N, 16, q] → [N (2 l + 1), q] by l."""
    parts = pairs.split([2 * l + 1 for l in range(L_MAX + 1)], 1)
    return [part.reshape(-1, pairs.shape[2]) for part in parts]


def _added(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """total + a @ b, in place."""
    return a @ b if total is None else total.addmm_(a, b)


def _summed_products(a: Tensor, b: Tensor, dims: tuple[int, ...]) -> Tensor:
    """(a * b).sum(dims), the product a block of sites after the other so that it stays in the cache."""
    shape = torch.broadcast_shapes(a.shape, b.shape)
    left = [n for d, n in enumerate(shape) if d not in dims]
    dims = tuple(d for d in dims if shape[d] > 1)  # torch's sum over a dimension of one is slow
    if not dims:
        return (a * b).view(left)
    block = max(1, PRODUCTS_AT_ONCE.get(a.device.type, PRODUCTS_AT_ONCE["cpu"]) // math.prod(shape[1:]))
    if block >= shape[0]:
        return (a * b).sum(dims).view(left)
    product = a.new_empty((block, *shape[1:]))
    total = a.new_empty([n for d, n in enumerate(shape) if d not in dims])
    for start in range(0, shape[0], block):
        stop = min(start + block, shape[0])
        part = product[: stop - start]
        torch.mul(a[start:stop], b[start:stop], out=part)
        torch.sum(part, dims, out=total[start:stop])
    return total.view(left)


class Layer:
    """One convolution with its gate.

    inputs, outputs  channels by l
    take             gives the arrays of the file one after the other
    """

    groups: list[_Group]

    def __init__(
        self, inputs: Sequence[int], outputs: Sequence[int], take: Callable[[], Tensor], n_neighbours: float
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.network = [take() for _ in range(3)]
        self.before = [take() / math.sqrt(n) for n in inputs]
        orders = range(L_MAX + 1)
        # the columns of the radial network are in this order
        self.paths = sorted(
            (
                (l1, l2, l3)
                for l1 in range(len(inputs))
                for l2 in orders
                for l3 in range(abs(l1 - l2), min(l1 + l2, len(outputs) - 1) + 1)
                if (l1 + l2 + l3) % 2 == 0
            ),
            key=lambda path: path[2],
        )
        self.widths = [sum(inputs[l1] for l1, _, l3 in self.paths if l3 == l) for l in range(len(outputs))]
        self.after = [take() / math.sqrt(width * n_neighbours) for width in self.widths]
        self.skip = [take() / math.sqrt(n) for n in inputs[: len(outputs)]]
        self.norm = [take() for _ in outputs]

    def prepare(self, mix: Tensor, put: Put) -> None:
        """Bring the weights to their device and precision; `mix` [q, columns] stands for the network."""
        parts = mix.split([self.inputs[l1] for l1, _, _ in self.paths], 1)
        columns = dict(zip(self.paths, parts, strict=True))
        stop, arriving = dict.fromkeys(range(L_MAX + 1), 0), {}
        for path in self.paths:
            start, stop[path[2]] = stop[path[2]], stop[path[2]] + self.inputs[path[0]]
            arriving[path] = slice(start, stop[path[2]])
        self.groups = []
        for l1, l2 in sorted({path[:2] for path in self.paths}):
            own = [path for path in self.paths if path[:2] == (l1, l2)]
            coupled = [put(torch.from_numpy(coupling(*path)).flatten(0, 1).T) for path in own]
            paths = [_Path(p[2], c, arriving[p]) for p, c in zip(own, coupled, strict=True)]
            self.groups.append(_Group(l1, l2, put(torch.cat([columns[path] for path in own], 1)), paths))
        for name in ("before", "after", "skip", "norm"):
            setattr(self, name, [put(w) for w in getattr(self, name)])

    def __call__(self, x: list[Tensor], skip: list[Tensor], pairs: Tensor) -> list[Tensor]:
        """Features of the sites [T, 2 l + 1, channels] by l.

        x [T, P, 2 l1 + 1, channels] by l1: of the sources; pairs [T P, 16, q]: Σ over images of Y Φ
        """
        arrived = _Messages.apply(pairs, self.groups, self.widths, *x)
        y = [a @ w for a, w in zip(arrived, self.after, strict=True)]
        y = [y[l] + skip[l] if l < len(skip) else y[l] for l in range(len(y))]
        # as trained: squares are summed over the channels
        square = sum(a.square().sum((1, 2)) / ((2 * l + 1) ** 2 * len(self.outputs)) for l, a in enumerate(y))
        inverse = torch.rsqrt(square + 1e-12)[:, None, None]
        y = [a * (w * inverse) for a, w in zip(y, self.norm, strict=True)]
        gates = (silu(y[0]) / SILU_NORM).split(list(self.outputs), 2)
        return [gates[0], *(a * gate for a, gate in zip(y[1:], gates[1:], strict=True))]


class Nequix:
    """Energies of sites from the contents of a .nqx file.

    config  its first line; arrays: the others, in their order
    """

    # Pairs of a site and an atom that go through together. On a CPU their N should stay in the caches.
    load_at_once: ClassVar[Mapping[str, int]] = {"cpu": 1_200, "cuda": 40_000}
    uses_orbits: ClassVar[bool] = True

    def __init__(
        self,
        config: Mapping[str, Any],
        arrays: Sequence[Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.cutoff, self.dtype = float(config["cutoff"]), dtype
        rest = iter(arrays)
        take: Callable[[], Tensor] = lambda: next(rest).double()  # noqa: E731
        put: Put = lambda w: w.to(device, dtype).contiguous()  # noqa: E731
        numbers = sorted(int(z) for z in config["atomic_numbers"])
        self.elements = frozenset(numbers)
        n_layers = int(config["n_layers"])
        reference = take()
        self.layers = [
            Layer(
                MULTIPLICITIES if k else (len(numbers),),
                MULTIPLICITIES if k < n_layers - 1 else MULTIPLICITIES[:1],
                take,
                float(config["avg_n_neighbors"]),
            )
            for k in range(n_layers)
        ]
        self.readout = put(take() / math.sqrt(MULTIPLICITIES[0]))
        self.radial = RadialTable(
            [layer.network for layer in self.layers],
            cutoff=self.cutoff,
            n_basis=int(config["radial_basis_size"]),
            power=float(config["radial_polynomial_p"]),
        ).to(device, dtype)
        for layer, mix in zip(self.layers, self.radial.mix, strict=True):
            layer.prepare(mix, put)
        self.scale, self.reference = float(config["scale"]), (reference + float(config["shift"])).to(device)
        self.index = torch.full((120,), -1, device=device)
        self.index[torch.tensor(numbers, device=device)] = torch.arange(len(numbers), device=device)

    def load(self, crystals: Crystals, n_sites: Tensor) -> Tensor:
        """float [B]: what an evaluation costs, in pairs of a site and an atom."""
        return (n_sites * crystals.n_atoms).to(crystals.cell)

    def graph(self, crystals: Crystals, surroundings: Surroundings) -> Graph:
        return Graph.build(crystals, surroundings, self.cutoff, self.dtype)

    def energies(self, graph: Graph, crystals: Crystals) -> Tensor:
        """float64 [T], eV: the energy of each site."""
        orbits = graph.orbits
        n_sites, width = graph.source.shape
        distance = graph.vector.norm(dim=1)
        shape = (n_sites * width, graph.images)
        harmonics = _padded(spherical_harmonics(graph.vector / distance[:, None]), graph.slot, shape)
        radial = _padded(self.radial(distance), graph.slot, shape)
        pairs = torch.bmm(harmonics.mT, radial).split(self.radial.sizes, -1)
        turns = None if orbits.trivial else [d.to(self.dtype).mT for d in rotation_matrices(orbits.turn)[1:]]
        sources = graph.source.flatten()

        def at_sources(features: Tensor) -> Tensor:
            """Of sites [T, 2 l + 1, c] → of the sources [T, P, 2 l + 1, c]."""
            l = features.shape[1] // 2
            if turns is not None:
                features = features.index_select(0, orbits.site_of)
                features = torch.bmm(turns[l - 1], features) if l else features
            return features.index_select(0, sources).view(n_sites, width, *features.shape[1:])

        species = self.index[crystals.numbers]
        at_site = species[orbits.sites]
        x: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            if k == 0:  # features are one-hot: products are rows
                inputs = [layer.before[0][species[sources]].view(n_sites, width, 1, -1)]
                skip = [layer.skip[0][at_site][:, None]]
            else:
                inputs = [at_sources(a @ w) for a, w in zip(x, layer.before, strict=True)]
                skip = [a @ w for a, w in zip(x, layer.skip, strict=False)]
            x = layer(inputs, skip, pairs[k])
        energy = (x[0][:, 0] @ self.readout)[:, 0]
        return energy.double() * self.scale + self.reference[at_site]


def _padded(values: Tensor, slot: Tensor, shape: tuple[int, int]) -> Tensor:
    """[E, n] → [*shape, n], zero where there is no pair."""
    block = values.new_zeros((shape[0] * shape[1], values.shape[1]))
    return block.index_copy(0, slot, values).view(*shape, -1)
