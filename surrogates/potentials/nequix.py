"""Nequix: E(3)-equivariant message passing, written for periodic crystals.

Koker et al., arXiv:2508.16067; with phonons in the training, arXiv:2601.07742. The network is the authors'
(their JAX code gave the numbers that the tests hold it to); the order of the operations is not. A message
from j to i is Σ over the images s of j of R(r_s) Y(v_s) ⊗ x_j, and x_j is the same for all images, of which
a small cell has many. So the images are summed first:

- R(r) = Φ(r) V with few functions Φ (see `surrogates.potentials.nequix_radial`);
- H_ij = Σ_s Y(v_s) Φ(r_s), one for all layers, is all that is done for a single image;
- H_ij V are the weighted harmonics of a pair of atoms, one matrix product;
- Σ_j x_j (H_ij V), channel by channel, is coupled to l3 once for each site (`nequix_layer`).

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

from csp.crystallography.orbits import Orbits
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from surrogates.potentials.nequix_couplings import rotation_matrices, spherical_harmonics
from surrogates.potentials.nequix_layer import Layer
from surrogates.potentials.nequix_radial import RadialTable

__all__ = ["Nequix"]

MULTIPLICITIES = (128, 64, 32, 32)  # channels of l = 0 … 3 between the layers

Put = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Graph:
    """The neighbours of T sites in E pairs, grouped by the atom they are images of.

    Attributes:
        ends: int64 [2, E], the atoms i and j of each pair; i is a site.
        vector: float [E, 3], from i to the image of j, Å.
        orbits: Those of the atoms.
        source: int64 [T, P], atoms with images around each site; the rest is filled up with any atom.
        slot: int64 [E], place of each pair in the padded block [T, P, S] of images.
        images: S, the most images of an atom around a site.
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


class Nequix:
    """Energies of sites from the contents of a .nqx file.

    Args:
        config: Its first line.
        arrays: The others, in their order.

    Raises:
        ValueError: An array has a wrong shape.
    """

    # Pairs of a site and an atom that go through together. On a CPU their N should stay in the caches.
    load_at_once: ClassVar[Mapping[str, int]] = {"cpu": 600, "cuda": 40_000}
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

        def take(*shape: int) -> Tensor:
            array = next(rest)
            if array.shape != shape:
                raise ValueError(f"it has an array of {list(array.shape)} in place of {list(shape)}")
            return array.double()

        put: Put = lambda w: w.to(device, dtype).contiguous()  # noqa: E731
        numbers = sorted(int(z) for z in config["atomic_numbers"])
        self.elements = frozenset(numbers)
        n_layers = int(config["n_layers"])
        reference = take(len(numbers))
        self.layers = [
            Layer(
                MULTIPLICITIES if k else (len(numbers),),
                MULTIPLICITIES if k < n_layers - 1 else MULTIPLICITIES[:1],
                take,
                n_basis=int(config["radial_basis_size"]),
                hidden=int(config["radial_mlp_size"]),
                n_neighbours=float(config["avg_n_neighbors"]),
            )
            for k in range(n_layers)
        ]
        self.readout = put(take(MULTIPLICITIES[0], 1) / math.sqrt(MULTIPLICITIES[0]))
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
            ell = features.shape[1] // 2
            if turns is not None:
                features = features.index_select(0, orbits.site_of)
                features = torch.bmm(turns[ell - 1], features) if ell else features
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
