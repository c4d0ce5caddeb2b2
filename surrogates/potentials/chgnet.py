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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from surrogates.potentials.bonds import expected_pairs
from surrogates.potentials.chgnet_graph import Graph

__all__ = ["CHGNet"]

WIDTH = 64  # features of an atom, a bond, an angle
NORM_EPSILON = 1e-5  # torch.nn.LayerNorm


@dataclass(frozen=True, slots=True)
class _GatedMLP:
    """Weights of a gated MLP on (end, own, end) features; core and gate are computed together.

    Attributes:
        ends: [WIDTH, 4 WIDTH], [4 WIDTH]: first layer on an end as the source (core | gate, with the bias)
            and as the target (core | gate).
        own: [2, WIDTH, WIDTH]: first layer on the features of the bond or angle.
        vertex: [WIDTH, 2 WIDTH]: first layer on the atom at the vertex of an angle; None for bonds.
        inner: [2, WIDTH, WIDTH] and [2, 1, WIDTH]: second layer; None if there is only one.
        gamma, beta: [2, 1, WIDTH] of the layer norm, whose mean is already taken off the layer before it.
    """

    ends: tuple[Tensor, Tensor]
    own: Tensor
    vertex: Tensor | None
    inner: tuple[Tensor, Tensor] | None
    gamma: Tensor
    beta: Tensor


class _Messages(torch.autograd.Function):
    """A gated MLP along N bonds in both directions, or N angles in both orders of their sides.

    The backward pass is written out: it touches memory half as often as autograd's.

    Args:
        ends: [n, 4 WIDTH], first layer's output for the ends, see `_GatedMLP.ends`.
        own: [2, 1 or 2, N, WIDTH], what is added to it, for both directions or for each.
        weight: [N, WIDTH] or None, factor of the messages.
        source, target: int64 [4 N], rows of `ends` as [4 n, WIDTH]: the cores' in both directions, then the
            gates'.

    Returns:
        Messages [2 N, WIDTH].
    """

    @staticmethod
    def forward(
        ctx: Any,
        ends: Tensor,
        own: Tensor,
        weight: Tensor | None,
        source: Tensor,
        target: Tensor,
        mlp: _GatedMLP,
    ) -> Tensor:
        ends = ends.view(-1, WIDTH)
        x = ends.index_select(0, source).add_(ends.index_select(0, target))
        x.view(2, 2, -1, WIDTH).add_(own)
        x = x.view(2, -1, WIDTH)
        hidden: tuple[Tensor, ...] = ()
        if mlp.inner is not None:
            s = torch.sigmoid(x)
            x *= s
            hidden = (x, s)
            x = torch.bmm(x, mlp.inner[0]).add_(mlp.inner[1])
        inverse = (x * x).mean(-1, keepdim=True).add_(NORM_EPSILON).rsqrt_()
        x *= inverse
        z = torch.addcmul(mlp.beta, x, mlp.gamma)
        gate = torch.sigmoid(z)
        core = z[0].mul_(gate[0])
        ctx.save_for_backward(source, target, weight, x, inverse, gate, core, *hidden)
        ctx.mlp, ctx.n_rows, ctx.directions = mlp, len(ends), own.shape[1]
        messages = core * gate[1]
        return messages if weight is None else messages.view(2, -1, WIDTH).mul_(weight).view(-1, WIDTH)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        source, target, weight, hat, inverse, gate, core, *hidden = ctx.saved_tensors
        mlp: _GatedMLP = ctx.mlp
        grad, grad_weight = grads[0], None
        if weight is not None:
            both = (grad * core).mul_(gate[1]).view(2, -1, WIDTH)
            grad_weight = both[0].add_(both[1])
            grad = (grad.view(2, -1, WIDTH) * weight).view(-1, WIDTH)
        # silu′(z) = s + silu(z) (1 − s) and σ′(z) = s (1 − s) with s = σ(z)
        d = 1.0 - gate
        d[0].mul_(core).add_(gate[0]).mul_(gate[1])
        d[1].mul_(gate[1]).mul_(core)
        d *= grad
        d *= mlp.gamma
        d.addcmul_(hat, (d * hat).mean(-1, keepdim=True), value=-1.0).mul_(inverse)
        if mlp.inner is not None:
            silu, s = hidden
            d = torch.bmm(d, mlp.inner[0].mT)
            d *= torch.addcmul(s, silu, 1.0 - s)
        rows = d.view(-1, WIDTH)
        grad_ends = (
            rows.new_zeros((ctx.n_rows, WIDTH)).index_add_(0, source, rows).index_add_(0, target, rows)
        )
        grad_own = d.view(2, 2, -1, WIDTH)
        if ctx.directions == 1:
            grad_own = torch.add(grad_own[:, :1], grad_own[:, 1:])
        return grad_ends.view(-1, 4 * WIDTH), grad_own, grad_weight, None, None, None


def _rows(ends: Tensor) -> tuple[Tensor, Tensor]:
    """`source` and `target` of `_Messages` for ends [2, N]."""
    source, target = 4 * ends.flatten(), 4 * ends.flip(0).flatten() + 2
    return torch.cat([source, source + 1]), torch.cat([target, target + 1])


class CHGNet:
    """Energies of graphs from the state dict of CHGNet 0.3.0 (no biases after the convolutions).

    Args:
        weights: The state dict; float32 tensors.
        dtype: Precision of the network.
    """

    # Directed bonds that go through at once. On a CPU the features of a chunk should stay in the caches;
    # on a GPU large chunks are what fills it.
    load_at_once: ClassVar[Mapping[str, int]] = {"cpu": 4_000, "cuda": 400_000}
    uses_orbits: ClassVar[bool] = True

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
        self.atom = [_gated_mlp(double, f"atom_conv_layers.{k}.twoBody_atom", "sot", put) for k in layers]
        self.bond = [
            _gated_mlp(double, f"bond_conv_layers.{k}.twoBody_bond", "stov", put) for k in layers[:-1]
        ]
        self.angle = [_gated_mlp(double, f"angle_layers.{k}.twoBody_bond", "stov", put) for k in layers[:-2]]
        self.atom_out = [put(double[f"atom_conv_layers.{k}.mlp_out.layers.1.weight"].T) for k in layers]
        self.bond_out = [put(double[f"bond_conv_layers.{k}.mlp_out.layers.1.weight"].T) for k in layers[:-1]]

        embed = double["bond_embedding.weight"].T
        radial = [embed @ mlp.own.double().cpu() for mlp in self.atom]  # each [2, 31, WIDTH]
        self.radial = put(torch.cat([*radial, double["bond_weights_ag.weight"].T[None]]))  # [9, 31, WIDTH]
        self.bond_embedding = put(embed)
        self.bond_weight = put(double["bond_weights_bg.weight"].T)
        self.angle_embedding = put(double["angle_embedding.weight"].T / math.sqrt(math.pi))
        self.radial_frequency = put(double["bond_basis_expansion.rbf_expansion_ag.frequencies"])
        self.bond_frequency = put(double["bond_basis_expansion.rbf_expansion_bg.frequencies"])
        self.angle_frequency = put(double["angle_basis_expansion.fourier_expansion.frequencies"])
        self.embedding = put(double["atom_embedding.embedding.weight"])
        self.reference = double["composition_model.fc.weight"].flatten().to(device)  # eV per atom, float64
        self.norm = put(double["readout_norm.weight"]), put(double["readout_norm.bias"])
        self.readout = [
            (put(double[f"mlp.layers.{k}.weight"]), put(double[f"mlp.layers.{k}.bias"])) for k in (0, 2, 4, 7)
        ]

    def load(self, crystals: Crystals, n_sites: Tensor) -> Tensor:
        """float [B]: directed bonds."""
        return expected_pairs(crystals, n_sites, self.cutoff)

    def graph(self, crystals: Crystals, surroundings: Surroundings) -> Graph:
        return Graph.build(crystals, surroundings, self.cutoff, self.bond_cutoff, self.dtype)

    def energies(self, graph: Graph, crystals: Crystals) -> Tensor:
        """float64 [R], eV: every site's share of the energy."""
        elements = crystals.numbers[graph.sites] - 1
        return self.site_energies(graph, elements).double() + self.reference[elements]

    def site_energies(self, graph: Graph, elements: Tensor) -> Tensor:
        """float [R], eV: energies without the references; `elements` [R] are atomic numbers − 1."""
        n_bonds, n_angles = graph.bonds.shape[1], len(graph.vertex)
        bond_rows, angle_rows = _rows(graph.bonds), _rows(graph.sides)
        center, side = graph.bonds.flatten(), graph.sides.flatten()
        vertex = torch.cat([2 * graph.vertex, 2 * graph.vertex + 1])
        short = torch.cat([graph.short, graph.short + n_bonds])

        distance = graph.vector.index_select(0, graph.first).norm(dim=1)
        radial = self._bessel(distance, self.radial_frequency, self.cutoff)  # [U, 31]
        *bond_terms, weight = torch.bmm(radial.expand(9, -1, -1), self.radial).split([2, 2, 2, 2, 1])
        bonds = start = radial[graph.short] @ self.bond_embedding  # [S, WIDTH]
        short_distance = distance[graph.short]
        bond_weight = self._bessel(short_distance, self.bond_frequency, self.bond_cutoff) @ self.bond_weight
        angle_weight = bond_weight[graph.sides[0]] * bond_weight[graph.sides[1]]  # [H, WIDTH]
        angles = self._angles(graph)  # [H or 2 H, WIDTH], 2: one for each order of the sides
        atoms = self.embedding[elements]

        for layer, mlp in enumerate(self.atom):
            own = bond_terms[layer].reshape(-1, WIDTH)
            if layer > 0:
                change = torch.bmm((bonds - start).expand(2, -1, -1), mlp.own).view(-1, WIDTH)
                own = own.index_add(0, short, change)
            own = own.view(2, 1, n_bonds, WIDTH)
            messages = _messages(mlp, atoms, own, weight[0], bond_rows)
            atoms = atoms + _arrived(atoms, center, messages, graph.count) @ self.atom_out[layer]

            if n_angles and layer < len(self.bond):
                mlp = self.bond[layer]
                own = self._angle_terms(mlp, angles, atoms, vertex)
                messages = _messages(mlp, bonds, own, angle_weight, angle_rows)
                bonds = bonds + _arrived(bonds, side, messages, graph.share) @ self.bond_out[layer]
            if n_angles and layer < len(self.angle):
                mlp = self.angle[layer]
                own = self._angle_terms(mlp, angles, atoms, vertex)
                messages = _messages(mlp, bonds, own, None, angle_rows)
                angles = (messages.view(2, n_angles, WIDTH) + angles.view(-1, n_angles, WIDTH)).view(
                    -1, WIDTH
                )

        x = functional.layer_norm(atoms, (WIDTH,), *self.norm, NORM_EPSILON)
        for matrix, bias in self.readout[:-1]:
            x = functional.silu(functional.linear(x, matrix, bias))
        return functional.linear(x, *self.readout[-1]).flatten()

    @staticmethod
    def _angle_terms(mlp: _GatedMLP, angles: Tensor, atoms: Tensor, vertex: Tensor) -> Tensor:
        """[2, 1 or 2, H, WIDTH]: the first layer on the angles and on the atoms at their vertices."""
        assert mlp.vertex is not None
        at_vertex = (atoms @ mlp.vertex).view(-1, WIDTH).index_select(0, vertex).view(2, 1, -1, WIDTH)
        own = torch.bmm(angles.expand(2, -1, -1), mlp.own).view(2, -1, at_vertex.shape[2], WIDTH)
        return own + at_vertex

    def _angles(self, graph: Graph) -> Tensor:
        """[H, WIDTH]: embedded Fourier expansion of the angles."""
        one, other = graph.vector[graph.arms]
        cosine = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
        angle = torch.acos(cosine * (1 - 1e-6))[:, None] * self.angle_frequency
        constant = angle.new_full((len(angle), 1), math.sqrt(0.5))
        basis = torch.cat([constant, angle.sin(), angle.cos()], 1)
        return basis @ self.angle_embedding

    def _bessel(self, distance: Tensor, frequency: Tensor, cutoff: float) -> Tensor:
        """[N, 31]: radial Bessel functions under a polynomial envelope (Gasteiger et al., DimeNet, eq. 8)."""
        p = self.cutoff_power
        t = (distance / cutoff).clamp(max=1.0)
        rest = (p + 1) * (p + 2) / 2 - p * (p + 2) * t + p * (p + 1) / 2 * t * t
        envelope = (1.0 - t**p * rest) * (math.sqrt(2.0 / cutoff) / distance)
        return torch.sin((distance / cutoff)[:, None] * frequency) * envelope[:, None]


def _arrived(like: Tensor, target: Tensor, messages: Tensor, weight: Tensor | None) -> Tensor:
    """Sum of the messages [2 N, WIDTH] at each target, each counted with its weight [2, N]."""
    if weight is not None:
        messages = messages * weight.view(-1, 1)
    return torch.zeros_like(like).index_add(0, target, messages)


def _messages(
    mlp: _GatedMLP, ends: Tensor, own: Tensor, weight: Tensor | None, rows: tuple[Tensor, Tensor]
) -> Tensor:
    matrix, bias = mlp.ends
    result: Tensor = _Messages.apply(torch.addmm(bias, ends, matrix), own, weight, *rows, mlp)
    return result


def _gated_mlp(
    weights: dict[str, Tensor], name: str, order: str, put: Callable[[Tensor], Tensor]
) -> _GatedMLP:
    """A gated MLP on concatenated features in the given order of s(ource), t(arget), o(wn), v(ertex)."""

    def stack(suffix: str) -> Tensor:
        core, gate = (weights[f"{name}.{suffix.format(branch)}"] for branch in ("core", "gate"))
        return torch.stack([core, gate])

    hidden = f"{name}.mlp_core.layers.0.weight" in weights
    first = "mlp_{}.layers.0" if hidden else "mlp_{}.layers.1"
    weight, bias = stack(f"{first}.weight").mT, stack(f"{first}.bias")  # [2, inputs, WIDTH], [2, WIDTH]
    inner = None
    if hidden:
        inner_weight, inner_bias = _centred(stack("mlp_{}.layers.3.weight").mT, stack("mlp_{}.layers.3.bias"))
        inner = put(inner_weight), put(inner_bias[:, None])
    else:
        weight, bias = _centred(weight, bias)
    parts = dict(zip(order, weight.chunk(len(order), dim=1), strict=True))
    norm = [
        torch.stack([weights[f"{name}.bn{k}.{part}"] for k in (1, 2)])[:, None] for part in ("weight", "bias")
    ]
    return _GatedMLP(
        ends=(
            put(torch.cat([*parts["s"], *parts["t"]], dim=1)),
            put(torch.cat([*bias, torch.zeros_like(bias).flatten()])),
        ),
        own=put(parts["o"]),
        vertex=put(torch.cat([*parts["v"]], dim=1)) if "v" in parts else None,
        inner=inner,
        gamma=put(norm[0]),
        beta=put(norm[1]),
    )


def _centred(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The same linear layer with the mean of its outputs taken off: what a layer norm does next."""
    return weight - weight.mean(-1, keepdim=True), bias - bias.mean(-1, keepdim=True)
