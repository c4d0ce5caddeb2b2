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
With orbits (`csp.orbits`) only one site of each is computed, and its features are turned for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import silu

from csp.crystals import Crystals
from csp.orbits import Orbits
from csp.surroundings import Surroundings
from surrogates.nequix_couplings import L_MAX, coupling, rotation_matrices, spherical_harmonics
from surrogates.nequix_radial import RadialTable

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


class _Products(torch.autograd.Function):
    """Σ over neighbours of features of one l1 times weighted harmonics of one l2, channel by channel.

    pairs  float [T P, 2 l2 + 1, q]     Σ over images of Y(v) Φ(r)
    x      float [T, P, 2 l1 + 1, c]    features of the sources
    mix    float [q, n c]               V, for n orders l3 that they couple to
    → float [T, 2 l1 + 1, 2 l2 + 1, n, c]
    """

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, x: Tensor, mix: Tensor) -> Tensor:
        n_sites, n_sources, m1, c = x.shape
        weighted = pairs.reshape(-1, len(mix)) @ mix
        weighted = weighted.view(n_sites, n_sources, 1, pairs.shape[1], -1, c)
        x = x.view(n_sites, n_sources, m1, 1, 1, c)
        ctx.save_for_backward(weighted, x, mix)
        return _summed_products(weighted, x, (1,))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weighted, x, mix = ctx.saved_tensors
        grad = grads[0].unsqueeze(1)
        on_weighted = _summed_products(x, grad, (2,)).view(-1, mix.shape[1])
        on_pairs = (on_weighted @ mix.T).view(-1, weighted.shape[3], len(mix))
        on_x = _summed_products(weighted, grad, (3, 4)) if ctx.needs_input_grad[1] else None
        return on_pairs, on_x, None


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


@dataclass(frozen=True, slots=True)
class _Group:
    """The paths from features of l1 with harmonics of l2 to n orders l3.

    mix        float [q, n c]
    couplings  n × [2 l3 + 1, (2 l1 + 1)(2 l2 + 1)]
    """

    l1: int
    l2: int
    l3: tuple[int, ...]
    mix: Tensor
    couplings: list[Tensor]


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
        self.after = []
        for l in range(len(outputs)):
            channels = sum(inputs[l1] for l1, _, l3 in self.paths if l3 == l)
            self.after.append(take() / math.sqrt(channels * n_neighbours))
        self.skip = [take() / math.sqrt(n) for n in inputs[: len(outputs)]]
        self.norm = [take() for _ in outputs]

    def prepare(self, mix: Tensor, put: Put) -> None:
        """Bring the weights to their device and precision; `mix` [q, columns] stands for the network."""
        columns = dict(
            zip(self.paths, mix.split([self.inputs[l1] for l1, _, _ in self.paths], 1), strict=True)
        )
        self.groups = []
        for l1, l2 in sorted({path[:2] for path in self.paths}):
            l3 = tuple(l for l in range(L_MAX + 1) if (l1, l2, l) in columns)
            couplings = [torch.from_numpy(coupling(l1, l2, l)).flatten(0, 1).T for l in l3]
            mixed = torch.cat([columns[l1, l2, l] for l in l3], 1)
            self.groups.append(_Group(l1, l2, l3, put(mixed), [put(c) for c in couplings]))
        for name in ("before", "after", "skip", "norm"):
            setattr(self, name, [put(w) for w in getattr(self, name)])

    def __call__(self, x: list[Tensor], skip: list[Tensor], pairs: Tensor) -> list[Tensor]:
        """Features of the sites [T, 2 l + 1, channels] by l.

        x [T, P, 2 l1 + 1, channels] by l1: of the sources; pairs [T P, 16, q]: Σ over images of Y Φ
        """
        by_l = pairs.split([2 * l + 1 for l in range(L_MAX + 1)], 1)
        found: dict[tuple[int, int, int], Tensor] = {}
        for g in self.groups:
            products = _Products.apply(by_l[g.l2], x[g.l1], g.mix).flatten(1, 2)
            for k, (l3, c) in enumerate(zip(g.l3, g.couplings, strict=True)):
                found[g.l1, g.l2, l3] = torch.bmm(c.expand(len(products), -1, -1), products[:, :, k])
        y = []
        for l, w in enumerate(self.after):
            out = torch.cat([found[path] for path in self.paths if path[2] == l], 2) @ w
            y.append(out + skip[l] if l < len(skip) else out)
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
        harmonics = _padded(spherical_harmonics(graph.vector / distance[:, None]), graph.slot, shape).mT
        radial = _padded(self.radial(distance), graph.slot, shape).split(self.radial.sizes, -1)
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
            x = layer(inputs, skip, torch.bmm(harmonics, radial[k]))
        energy = (x[0][:, 0] @ self.readout)[:, 0]
        return energy.double() * self.scale + self.reference[at_site]


def _padded(values: Tensor, slot: Tensor, shape: tuple[int, int]) -> Tensor:
    """[E, n] → [*shape, n], zero where there is no pair."""
    block = values.new_zeros((shape[0] * shape[1], values.shape[1]))
    return block.index_copy(0, slot, values).view(*shape, -1)
