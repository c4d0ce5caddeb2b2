"""matgl's TensorNet over its published weights, batched, with tensors kept in irreducible parts.

Simeon and de Fabritiis, NeurIPS 2023 (arXiv:2306.06482); the numbers are those of `matgl.models.TensorNet`.
A 3 × 3 tensor I + A + S (scalar, antisymmetric, symmetric traceless) travels as its 1 + 3 + 5 independent
components along the bonds; what depends on a bond's length alone is computed once for both directions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from surrogates.potentials.bonds import Bonds, expected_pairs, undirected_bonds

__all__ = ["TensorNet"]

PARTS = (1, 3, 5)  # components of I, A, S
NORM_EPSILON = 1e-5  # torch.nn.LayerNorm

# What the published potentials share and this forward pass relies on.
ARCHITECTURE = {
    "rbf_type": "SphericalBessel",
    "use_smooth": True,
    "activation_type": "swish",
    "equivariance_invariance_group": "O(3)",
    "include_state": False,
    "is_intensive": False,
    "ntargets": 1,
}


class TensorNet:
    """Atomic energies of a matgl TensorNet potential.

    Args:
        weights: The state dict of `matgl.apps.pes.Potential`.
        options: The arguments of `matgl.models.TensorNet`.

    Raises:
        ValueError: The options are not as in ARCHITECTURE.
        KeyError: A weight is missing.
    """

    load_at_once: ClassVar[Mapping[str, int]] = {"cpu": 1_500, "cuda": 200_000}
    uses_orbits: ClassVar[bool] = False

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        options: Mapping[str, Any],
        numbers: list[int],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        different = {k: options.get(k) for k, v in ARCHITECTURE.items() if options.get(k) != v}
        if different:
            raise ValueError(f"a TensorNet with {different} is not supported")
        self.cutoff, self.dtype, self.units = float(options["cutoff"]), dtype, int(options["units"])
        self._n_blocks, self._n_radial = int(options["nblocks"]), int(options["max_n"])

        self._w = {name.removeprefix("model."): w.to(device, dtype) for name, w in weights.items()}
        self._scale, self._mean = weights["data_std"].to(device).double(), weights["data_mean"].double()
        if float(self._mean) != 0.0:
            raise ValueError("a TensorNet with an energy offset per crystal is not supported")
        self._reference = weights["element_refs.property_offset"].to(device).double()
        self._index = torch.full((120,), -1, device=device)
        self._index[torch.tensor(numbers, device=device)] = torch.arange(len(numbers), device=device)
        self._frequencies = torch.arange(1, self._n_radial + 2, device=device, dtype=dtype)
        self._mixing = _bessel_mixing(self._n_radial, self.cutoff).to(device, dtype)
        # [u, part] → [part, u], so that each part of a bond's factors is contiguous
        by_part = torch.arange(3 * self.units, device=device).view(self.units, 3).T.flatten()
        for name in (
            "tensor_embedding.linears_scalar.1",
            *(f"layers.{k}.linears_scalar.2" for k in range(self._n_blocks)),
        ):
            for kind in ("weight", "bias"):
                self._w[f"{name}.{kind}"] = self._w[f"{name}.{kind}"][by_part]

    def load(self, crystals: Crystals, n_sites: Tensor) -> Tensor:
        """float [B]: directed bonds."""
        return expected_pairs(crystals, n_sites, self.cutoff)

    def graph(self, crystals: Crystals, surroundings: Surroundings) -> Bonds:
        bonds = undirected_bonds(crystals, surroundings, self.cutoff)
        return replace(bonds, vector=bonds.vector.to(self.dtype))

    def energies(self, graph: Bonds, crystals: Crystals) -> Tensor:
        """float64 [A], eV: every atom's share of the energy; differentiable by `graph.vector`."""
        elements = self._index[crystals.numbers]
        distance = graph.vector.norm(dim=1)
        envelope = 0.5 * (torch.cos(math.pi / self.cutoff * distance) + 1.0)[:, None]
        # smooth spherical Bessel functions are sums of sin(kπr/c)/(kπr/c), k = 1 … n + 1
        radial = torch.sinc(distance[:, None] / self.cutoff * self._frequencies) @ self._mixing
        center, neighbour = graph.ends.flatten(), graph.ends.flip(0).flatten()

        x = self._embed(elements, graph.vector / distance[:, None], radial, envelope, center, neighbour)
        for k in range(self._n_blocks):
            x = self._interact(f"layers.{k}", x, radial, envelope, center, neighbour)

        w = self._w
        scalars = functional.layer_norm(
            _norms(x).flatten(1), (3 * self.units,), w["out_norm.weight"], w["out_norm.bias"], NORM_EPSILON
        )
        scalars = self._linear("linear", scalars)
        out, gate = scalars, scalars
        for k in (0, 2, 4, 6):
            out = self._linear(f"final_layer.gated.layers.{k}", functional.silu(out) if k else out)
            gate = self._linear(f"final_layer.gated.gates.{k}", functional.silu(gate) if k else gate)
        atomic = (out * torch.sigmoid(gate)).flatten().double()
        return self._scale * atomic + self._reference[elements]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self._w[f"{name}.weight"], self._w.get(f"{name}.bias"))

    def _tensor_linear(self, name: str, first: int, x: Tensor) -> Tensor:
        """A linear map of the features for each part of x [A, 9, units]."""
        parts = x.split(PARTS, 1)
        return torch.cat(
            [self._linear(f"{name}.linears_tensor.{first + k}", p) for k, p in enumerate(parts)], 1
        )

    def _embed(
        self,
        elements: Tensor,
        unit: Tensor,
        radial: Tensor,
        envelope: Tensor,
        center: Tensor,
        neighbour: Tensor,
    ) -> Tensor:
        """[A, 9, units]: sums over neighbours of (pair of elements) × (length) × (1, v̂, v̂ ⊗ v̂)."""
        name, w, n_atoms, n_bonds = "tensor_embedding", self._w, len(elements), len(unit)
        of_center, of_neighbour = w[f"{name}.emb2.weight"].chunk(2, dim=1)
        embedded = w[f"{name}.emb.weight"][elements]
        pair = functional.linear(embedded, of_center, w[f"{name}.emb2.bias"]).index_select(0, center)
        pair = pair + (embedded @ of_neighbour.T).index_select(0, neighbour)
        pair = pair.view(2, n_bonds, 1, self.units)

        factors = [(self._linear(f"{name}.distance_proj{k}", radial) * envelope)[:, None] for k in (1, 2, 3)]
        x, y, z = unit.unbind(1)
        symmetric = torch.stack([x * x - 1 / 3, y * y - 1 / 3, x * y, x * z, y * z], 1)
        along = torch.cat(
            [factors[0], factors[1] * unit[:, :, None], factors[2] * symmetric[:, :, None]], 1
        )  # [N, 9, units]
        against = torch.cat([along[:, :1], -along[:, 1:4], along[:, 4:]], 1)
        messages = (pair * torch.stack([along, against])).view(2 * n_bonds, -1)
        tensor = messages.new_zeros(n_atoms, messages.shape[1]).index_add(0, center, messages)
        tensor = tensor.view(n_atoms, 9, self.units)

        norm = functional.layer_norm(
            _norms(tensor).sum(1),
            (self.units,),
            w[f"{name}.init_norm.weight"],
            w[f"{name}.init_norm.bias"],
            NORM_EPSILON,
        )
        for k in (0, 1):
            norm = functional.silu(self._linear(f"{name}.linears_scalar.{k}", norm))
        return self._tensor_linear(name, 0, tensor) * _spread(norm.view(n_atoms, 3, self.units))

    def _interact(
        self,
        name: str,
        x: Tensor,
        radial: Tensor,
        envelope: Tensor,
        center: Tensor,
        neighbour: Tensor,
    ) -> Tensor:
        """[A, 9, units]: messages weighted by bond lengths, multiplied with the atom's own tensor."""
        factors = radial
        for k in (0, 1, 2):
            factors = functional.silu(self._linear(f"{name}.linears_scalar.{k}", factors))
        factors = (factors * envelope).view(-1, 3, self.units)

        x = x / (_norms(x).sum(1) + 1.0)[:, None]
        own = self._tensor_linear(name, 0, x)
        received: Tensor = _Exchange.apply(own, factors, center, neighbour)
        y, m = _matrix(own), _matrix(received)
        product = _irreducible(_product(y, m) + _product(m, y))
        product = product / (_norms(product).sum(1) + 1.0)[:, None]
        change = self._tensor_linear(name, 3, product)
        matrix = _matrix(change)
        return x + change + _irreducible(_product(matrix, matrix))


class _Exchange(torch.autograd.Function):
    """Σ over the bonds (i, j) of an atom i of factors [N, 3, units], by part, times x_j; x [A, 9, units].

    The gathered tensors are the largest of the network: they are made again in the backward pass.

    Args:
        center, neighbour: int64 [2 N], the bonds in one direction, then in the other.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor, center: Tensor, neighbour: Tensor) -> Tensor:
        ctx.save_for_backward(x, factors, center, neighbour)
        return _exchange(x, factors, neighbour, center)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, factors, center, neighbour = ctx.saved_tensors
        n_bonds = len(factors)
        there, back = center[:n_bonds], neighbour[:n_bonds]
        product = grads[0].index_select(0, there).mul_(x.index_select(0, back))
        product.addcmul_(grads[0].index_select(0, back), x.index_select(0, there))
        grad_factors = torch.stack([part.sum(1) for part in product.split(PARTS, 1)], 1)
        return _exchange(grads[0], factors, center, neighbour), grad_factors, None, None


def _exchange(x: Tensor, factors: Tensor, source: Tensor, target: Tensor) -> Tensor:
    messages = x.index_select(0, source)
    both = messages.view(2, -1, *x.shape[1:])
    for part, factor in zip(both.split(PARTS, 2), factors.split(1, 1), strict=True):
        part.mul_(factor)
    flat = messages.view(len(messages), -1)
    return flat.new_zeros(len(x), flat.shape[1]).index_add_(0, target, flat).view_as(x)


def _spread(factors: Tensor) -> Tensor:
    """[…, 3, units], one for each part → […, 9, units]."""
    return torch.cat([f.expand(-1, n, -1) for f, n in zip(factors.split(1, 1), PARTS, strict=True)], 1)


def _norms(x: Tensor) -> Tensor:
    """[A, 3, units]: squared Frobenius norms of the three parts."""
    scalar, vector, s = x.split(PARTS, 1)
    diagonal = s[:, 0] ** 2 + s[:, 1] ** 2 + (s[:, 0] + s[:, 1]) ** 2
    symmetric = diagonal + 2 * (s[:, 2:] ** 2).sum(1)
    return torch.stack([3 * scalar[:, 0] ** 2, 2 * (vector**2).sum(1), symmetric], 1)


def _matrix(x: Tensor) -> Tensor:
    """[A, 9, units] → [A, 3, 3, units]; the antisymmetric part is v ↦ a × v."""
    i, ax, ay, az, xx, yy, xy, xz, yz = x.unbind(1)
    rows = [i + xx, xy - az, xz + ay, xy + az, i + yy, yz - ax, xz - ay, yz + ax, i - xx - yy]
    return torch.stack(rows, 1).view(len(x), 3, 3, -1)


def _irreducible(matrix: Tensor) -> Tensor:
    """[A, 3, 3, units] → [A, 9, units]."""
    m = [[matrix[:, r, c] for c in range(3)] for r in range(3)]
    i = (m[0][0] + m[1][1] + m[2][2]) / 3
    skew = [(m[2][1] - m[1][2]) / 2, (m[0][2] - m[2][0]) / 2, (m[1][0] - m[0][1]) / 2]
    mixed = [(m[r][c] + m[c][r]) / 2 for r, c in ((0, 1), (0, 2), (1, 2))]
    return torch.stack([i, *skew, m[0][0] - i, m[1][1] - i, *mixed], 1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product by feature: [A, 3, 3, units] each."""
    return (a[:, :, :, None] * b[:, None]).sum(2)


def _bessel_mixing(n: int, cutoff: float) -> Tensor:
    """float64 [n + 1, n]: sin(kπr/c)/(kπr/c), k = 1 … n + 1 → orthonormal functions that vanish twice at
    the cutoff (Kocer, Mason and Erturk, J. Chem. Phys. 150, 154102 (2019), eqs. 6 and 7)."""
    mixing = torch.zeros((n, n + 1), dtype=torch.float64)
    d = 1.0
    for i in range(n):
        scale = (-1) ** i * math.sqrt(2.0) * math.pi / cutoff**1.5 * (i + 1) * (i + 2)
        mixing[i, i : i + 2] = scale / math.sqrt((i + 1) ** 2 + (i + 2) ** 2)
        if i > 0:
            e = i**2 * (i + 2) ** 2 / (4 * (i + 1) ** 4 + 1)
            previous, d = d, 1.0 - e / d
            mixing[i] = (mixing[i] + math.sqrt(e / previous) * mixing[i - 1]) / math.sqrt(d)
    return mixing.T
