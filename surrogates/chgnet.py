"""CHGNet's forward pass over the published weights, batched and without the work a relaxation does not need.

Deng et al., Nat. Mach. Intell. 5, 1031 (2023). The numbers are those of the package `chgnet`; the order
of the operations is not, which makes it several times faster:

- graphs of a whole chunk are built at once from one neighbour list, in tensors;
- linear layers on concatenated features are applied to atoms and undirected bonds before gathering, so
  that no product is repeated for each directed bond or angle that shares them;
- bonds beyond the bond graph's cutoff keep their initial features: their projections for all layers
  are one product with the radial basis;
- both directions of a bond (and both orders of an angle) lie in one tensor and share what is symmetric;
- layer normalisation is split: its mean is folded into the weights before it, the rest is in the gate;
- forces and stress come from one backward pass to the bond vectors; the last angle update and the
  magnetic moments, which no energy depends on, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from csp.crystals import Crystals, ranges
from csp.geometry import neighbour_list

__all__ = ["CHGNet"]

WIDTH = 64  # features of an atom, a bond, an angle
NORM_EPSILON = 1e-5  # torch.nn.LayerNorm


@dataclass(frozen=True, slots=True)
class Graph:
    """The bonds and angles of a chunk of crystals; U bonds, of them S in the bond graph, H angles.

    ends      int64 [2, U]   the two atoms of each undirected bond
    vector    float [U, 3]   from the first end to the second, Å
    short     int64 [S]      bonds within the bond graph's cutoff
    vertex    int64 [H]      the atom at the vertex of each unordered angle
    sides     int64 [2, H]   its two bonds, as positions in `short`
    facing    float [H]      +1 where both bonds point away from the vertex or both to it, else −1
    """

    ends: Tensor
    vector: Tensor
    short: Tensor
    vertex: Tensor
    sides: Tensor
    facing: Tensor

    @classmethod
    def build(cls, crystals: Crystals, cutoff: float, bond_cutoff: float, dtype: torch.dtype) -> Graph:
        """The graph of all crystals; `vector` in the given precision."""
        pairs = neighbour_list(crystals, cutoff)
        # One of the two directions of each bond; shift decides for an atom and its own image.
        sx, sy, sz = pairs.shift.unbind(1)
        forward = (sx > 0) | ((sx == 0) & ((sy > 0) | ((sy == 0) & (sz > 0))))
        half = ((pairs.i < pairs.j) | ((pairs.i == pairs.j) & forward)).nonzero().flatten()
        ends = torch.stack([pairs.i[half], pairs.j[half]])
        short = (pairs.distance[half] <= bond_cutoff).nonzero().flatten()

        # Directed short bonds, d < S along the bond and d >= S against it, grouped by their origin;
        # each forms an angle with every later one of its group.
        n_short = len(short)
        origin = ends[:, short].flatten()
        origin, order = torch.sort(origin, stable=True)
        degree = torch.bincount(origin, minlength=len(crystals.numbers))
        last = torch.cumsum(degree, 0)[origin]
        position = torch.arange(1, 2 * n_short + 1, device=origin.device)
        later = last - position
        first = torch.repeat_interleave(position - 1, later)
        directed = torch.stack([order[first], order[ranges(position, later)]])
        along = directed < n_short
        return cls(
            ends=ends,
            vector=pairs.vector[half].to(dtype),
            short=short,
            vertex=origin[first],
            sides=torch.where(along, directed, directed - n_short),
            facing=torch.where(along[0] == along[1], 1.0, -1.0).to(dtype),
        )


class _Gate(torch.autograd.Function):
    """silu(γ₀ x̂₀ + β₀) σ(γ₁ x̂₁ + β₁) with x̂ = x / rms(x), x [2, N, width] with zero mean over its last
    dimension: the end of CHGNet's gated MLP, in few passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        inverse = (x * x).mean(-1, keepdim=True).add_(NORM_EPSILON).rsqrt_()
        hat = x * inverse
        z = torch.addcmul(beta, hat, gamma)
        s = torch.sigmoid(z)
        core = z[0] * s[0]
        ctx.save_for_backward(hat, inverse, gamma, s, core)
        return core * s[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        hat, inverse, gamma, s, core = ctx.saved_tensors
        d = torch.empty_like(hat)
        gate = grads[0] * s[1]
        # d/dz silu(z) = s + core (1 − s);  d/dz σ(z) = s (1 − s)
        torch.mul(gate, torch.addcmul(s[0], core, 1.0 - s[0]), out=d[0])
        torch.mul(gate * core, 1.0 - s[1], out=d[1])
        d *= gamma
        along = (d * hat).mean(-1, keepdim=True)
        return d.addcmul_(hat, along, value=-1.0).mul_(inverse), None, None


@dataclass(frozen=True, slots=True)
class _GatedMLP:
    """Weights of a gated MLP, core and gate stacked in the first dimension; `inner` is None without a
    hidden layer. `parts` are the slices of the first layer that act on the concatenated inputs."""

    parts: list[Tensor]  # each [2, WIDTH, WIDTH], to be applied as x @ part
    bias: Tensor  # [2, 1, WIDTH]
    inner: tuple[Tensor, Tensor] | None  # [2, WIDTH, WIDTH], [2, 1, WIDTH]
    gamma: Tensor  # [2, 1, WIDTH]
    beta: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x [2, N, WIDTH], the first layer's output → [N, WIDTH]."""
        if self.inner is not None:
            weight, bias = self.inner
            x = torch.baddbmm(bias, functional.silu(x), weight)
        result: Tensor = _Gate.apply(x, self.gamma, self.beta)
        return result


class CHGNet:
    """Energies of graphs from the state dict of CHGNet 0.3.0 (no biases after the convolutions).

    weights   the state dict; float32 tensors
    dtype     precision of the network
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        *,
        cutoff: float,
        bond_cutoff: float,
        cutoff_power: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.cutoff, self.bond_cutoff, self.cutoff_power = cutoff, bond_cutoff, cutoff_power
        self.dtype = dtype
        double = {name: w.double() for name, w in weights.items()}
        put: Callable[[Tensor], Tensor] = lambda w: w.to(device, dtype).contiguous()  # noqa: E731
        layers = range(4)
        atom = [_gated_mlp(double, f"atom_conv_layers.{k}.twoBody_atom", 3, put) for k in layers]
        bond_in = [(a.parts[1]) for a in atom]
        self.atom, self.bond_in = atom, bond_in
        self.bond = [_gated_mlp(double, f"bond_conv_layers.{k}.twoBody_bond", 4, put) for k in layers[:-1]]
        self.angle = [_gated_mlp(double, f"angle_layers.{k}.twoBody_bond", 4, put) for k in layers[:-2]]
        self.atom_out = [put(double[f"atom_conv_layers.{k}.mlp_out.layers.1.weight"].T) for k in layers]
        self.bond_out = [put(double[f"bond_conv_layers.{k}.mlp_out.layers.1.weight"].T) for k in layers[:-1]]

        embed = double["bond_embedding.weight"].T
        radial = [embed @ part.double().cpu() for part in bond_in]  # each [2, 31, WIDTH]
        self.radial = put(torch.cat([*radial, double["bond_weights_ag.weight"].T[None]]))  # [9, 31, WIDTH]
        self.bond_embedding = put(embed)
        self.bond_weight = put(double["bond_weights_bg.weight"].T)
        self.angle_embedding = put(double["angle_embedding.weight"].T)
        self.radial_frequency = put(double["bond_basis_expansion.rbf_expansion_ag.frequencies"])
        self.bond_frequency = put(double["bond_basis_expansion.rbf_expansion_bg.frequencies"])
        self.angle_frequency = put(double["angle_basis_expansion.fourier_expansion.frequencies"])
        self.embedding = put(double["atom_embedding.embedding.weight"])
        self.reference = double["composition_model.fc.weight"].flatten().to(device)  # eV per atom, float64
        self.norm = put(double["readout_norm.weight"]), put(double["readout_norm.bias"])
        self.readout = [
            (put(double[f"mlp.layers.{k}.weight"]), put(double[f"mlp.layers.{k}.bias"])) for k in (0, 2, 4, 7)
        ]

    def graph(self, crystals: Crystals) -> Graph:
        return Graph.build(crystals, self.cutoff, self.bond_cutoff, self.dtype)

    def energies(self, graph: Graph, crystals: Crystals) -> Tensor:
        """float64 [A], eV: every atom's share of the energy."""
        elements = crystals.numbers - 1
        return self.site_energies(graph, elements).double() + self.reference[elements]

    def site_energies(self, graph: Graph, elements: Tensor) -> Tensor:
        """float [A], eV: energies without the references; `elements` [A] are atomic numbers − 1."""
        n_bonds = graph.ends.shape[1]
        there, back = graph.ends
        center, neighbour = torch.cat([there, back]), torch.cat([back, there])
        distance = graph.vector.norm(dim=1)
        basis = self._bessel(distance, self.radial_frequency, self.cutoff)  # [U, 31]
        projected = torch.matmul(basis, self.radial)  # [9, U, WIDTH]
        bond_term, weight = projected[:8].view(4, 2, 1, n_bonds, WIDTH), projected[8]

        atoms = self.embedding[elements]
        bonds = start = basis[graph.short] @ self.bond_embedding  # [S, WIDTH]
        short_distance = distance[graph.short]
        bond_weight = self._bessel(short_distance, self.bond_frequency, self.bond_cutoff) @ self.bond_weight
        left, right = graph.sides
        first, second = torch.cat([left, right]), torch.cat([right, left])
        angle_weight = bond_weight[left] * bond_weight[right]  # [H, WIDTH]
        angles = self._angles(graph, short_distance)[
            None
        ]  # [1 or 2, H, WIDTH]: one for each order of the sides

        for layer, mlp in enumerate(self.atom):
            x = (torch.matmul(atoms, mlp.parts[0]) + mlp.bias).index_select(1, center)
            x += torch.matmul(atoms, mlp.parts[2]).index_select(1, neighbour)
            x.view(2, 2, n_bonds, WIDTH).add_(bond_term[layer])
            if layer > 0 and len(graph.short):
                change = torch.matmul(bonds - start, self.bond_in[layer])
                x.index_add_(1, graph.short, change).index_add_(1, graph.short + n_bonds, change)
            message = mlp(x).view(2, n_bonds, WIDTH) * weight
            total = torch.zeros_like(atoms).index_add_(0, center, message.view(-1, WIDTH))
            atoms = atoms + total @ self.atom_out[layer]
            if layer == len(self.atom) - 1 or not len(left):
                continue

            mlp = self.bond[layer]
            x = self._angle_input(mlp, atoms, bonds, angles, graph.vertex, first, second)
            message = mlp(x).view(2, -1, WIDTH) * angle_weight
            total = torch.zeros_like(bonds).index_add_(0, first, message.view(-1, WIDTH))
            bonds = bonds + total @ self.bond_out[layer]
            if layer == len(self.angle):
                continue

            mlp = self.angle[layer]
            x = self._angle_input(mlp, atoms, bonds, angles, graph.vertex, first, second)
            angles = angles + mlp(x).view(2, -1, WIDTH)

        x = functional.layer_norm(atoms, (WIDTH,), *self.norm, NORM_EPSILON)
        for weight, bias in self.readout[:-1]:
            x = functional.silu(functional.linear(x, weight, bias))
        return functional.linear(x, *self.readout[-1]).flatten()

    def _angle_input(
        self,
        mlp: _GatedMLP,
        atoms: Tensor,
        bonds: Tensor,
        angles: Tensor,
        vertex: Tensor,
        first: Tensor,
        second: Tensor,
    ) -> Tensor:
        """[2, 2 H, WIDTH]: first layer of a gated MLP on (bond i, bond j, angle, atom), both orders."""
        x = torch.matmul(bonds, mlp.parts[0]).index_select(1, first)
        x += torch.matmul(bonds, mlp.parts[1]).index_select(1, second)
        shape = (2, 2, len(vertex), WIDTH)
        at_vertex = (torch.matmul(atoms, mlp.parts[3]) + mlp.bias).index_select(1, vertex)
        own = torch.matmul(angles.reshape(-1, WIDTH), mlp.parts[2]).view(2, len(angles), len(vertex), WIDTH)
        x.view(shape).add_(own).add_(at_vertex[:, None])
        return x

    def _angles(self, graph: Graph, short_distance: Tensor) -> Tensor:
        """[H, WIDTH]: embedded Fourier expansion of the angles."""
        unit = graph.vector[graph.short] / short_distance[:, None]
        cosine = (unit[graph.sides[0]] * unit[graph.sides[1]]).sum(1) * graph.facing
        angle = torch.acos(cosine * (1 - 1e-6))[:, None] * self.angle_frequency
        constant = angle.new_full((len(angle), 1), math.sqrt(0.5))
        basis = torch.cat([constant, angle.sin(), angle.cos()], 1)
        return (basis @ self.angle_embedding) / math.sqrt(math.pi)

    def _bessel(self, distance: Tensor, frequency: Tensor, cutoff: float) -> Tensor:
        """[N, 31]: radial Bessel functions under a polynomial envelope (Gasteiger et al., DimeNet, eq. 8)."""
        p = self.cutoff_power
        t = (distance / cutoff).clamp(max=1.0)
        rest = (p + 1) * (p + 2) / 2 - p * (p + 2) * t + p * (p + 1) / 2 * t * t
        envelope = (1.0 - t**p * rest) * (math.sqrt(2.0 / cutoff) / distance)
        return torch.sin((distance / cutoff)[:, None] * frequency) * envelope[:, None]


def _gated_mlp(
    weights: dict[str, Tensor], name: str, n_parts: int, put: Callable[[Tensor], Tensor]
) -> _GatedMLP:
    def stack(suffix: str) -> Tensor:
        return torch.stack(
            [weights[f"{name}.{suffix.format('core')}"], weights[f"{name}.{suffix.format('gate')}"]]
        )

    hidden = f"{name}.mlp_core.layers.0.weight" in weights
    first = "mlp_{}.layers.0" if hidden else "mlp_{}.layers.1"
    weight, bias = stack(f"{first}.weight").mT, stack(f"{first}.bias")[:, None]  # [2, n_parts WIDTH, WIDTH]
    inner = None
    if hidden:
        inner_weight, inner_bias = _centred(
            stack("mlp_{}.layers.3.weight").mT, stack("mlp_{}.layers.3.bias")[:, None]
        )
        inner = put(inner_weight), put(inner_bias)
    else:
        weight, bias = _centred(weight, bias)
    gamma = torch.stack([weights[f"{name}.bn1.weight"], weights[f"{name}.bn2.weight"]])[:, None]
    beta = torch.stack([weights[f"{name}.bn1.bias"], weights[f"{name}.bn2.bias"]])[:, None]
    return _GatedMLP([put(w) for w in weight.chunk(n_parts, dim=1)], put(bias), inner, put(gamma), put(beta))


def _centred(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The same linear layer with the mean of its outputs taken off: what a layer norm does next."""
    return weight - weight.mean(-1, keepdim=True), bias - bias.mean(-1, keepdim=True)
