"""A transformer over the atoms of a crystal that gives a smooth energy.

Atoms are tokens. Each attends to all periodic images within a cutoff: the attention between atoms
i and j over all images j' is the truncated form of Crystalformer's infinitely connected attention
(Taniai et al., ICLR 2024), with distance-decaying weights, an envelope that takes every weight to
zero with two derivatives at the cutoff, and a null key, so that adding far neighbours of weight zero
changes nothing. Keys and values are shared by all heads (Shazeer, arXiv:1911.02150): gathering them
over the neighbours is what costs on a CPU.

Geometry enters twice: in the weights, and as the attention-weighted sums over the neighbours of
radial functions times real spherical harmonics up to l = 2, whose power spectrum (Bartók et al.,
PRB 87, 184115, 2013) gives smooth three-body invariants. The sums over neighbours are made before
any projection: per neighbour they cost heads × basis multiplications, not heads × width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from csp.crystallography.neighbours import COVALENT_RADII
from surrogates.transformer.environments import Environments

__all__ = ["MAX_Z", "SIZES", "CrystalTransformer", "SurrogateArchitecture", "repulsion"]

MAX_Z = 118
NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)
REPULSION_SWITCH = (0.5, 0.65)  # of the sum of covalent radii; short real bonds: uranyl 0.68, P=O 0.67


@dataclass(frozen=True, slots=True)
class SurrogateArchitecture:
    """Sizes of the network; `kinds` names its energy heads, one per kind of label."""

    kinds: tuple[str, ...]
    width: int = 96
    layers: int = 3
    heads: int = 8
    cutoff: float = 5.0  # Å
    hidden: int = 192  # of the gated feed-forward
    key: int = 8  # channels of a query and a key
    value: int = 32
    radial: int = 16  # radial functions for l = 0
    angular: int = 6  # radial functions for each of l = 1, 2; 0 leaves three-body terms out
    edge: int = 32  # channels of the pair network behind the attention bias
    attention: bool = True  # False: the mean over neighbours, for ablation


SIZES: dict[str, dict[str, int | float]] = {
    "xs": {},
    "m": {"width": 192, "layers": 6, "cutoff": 6.0, "hidden": 384, "key": 16, "value": 48, "angular": 8},
}


@dataclass(frozen=True, slots=True)
class _Geometry:
    """What all layers share: flat index [A·K], basis [A, K, C], bias [L][A, K, H], envelope [A, K, 1]."""

    index: Tensor
    basis: Tensor
    bias: tuple[Tensor, ...]
    envelope: Tensor


class CrystalTransformer(nn.Module):
    """Energies of crystals, one column per kind of label.

    Attributes:
        reference: float64 [kinds, MAX_Z + 1], energy per element, eV, set by ridge regression before training
            and constant after it.
    """

    reference: Tensor
    radii: Tensor

    def __init__(self, architecture: SurrogateArchitecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.elements = ElementEmbedding(a.width)
        self.pairs = PairGeometry(a)
        self.blocks = nn.ModuleList(Block(a) for _ in range(a.layers))
        self.readout = nn.Sequential(nn.RMSNorm(a.width), nn.Linear(a.width, a.width), nn.SiLU())
        self.energy = nn.Linear(a.width, len(a.kinds))
        nn.init.zeros_(self.energy.weight)
        nn.init.zeros_(self.energy.bias)
        reference = torch.zeros(len(a.kinds), MAX_Z + 1, dtype=torch.float64)
        self.register_buffer("reference", reference)
        radii = COVALENT_RADII.nan_to_num(1.6)
        self.register_buffer("radii", radii.float(), persistent=False)

    def features(self, atoms: Environments) -> Tensor:
        """float [A, width]: what the energy is a linear function of, per atom."""
        return self.depths(atoms)[-1]

    def depths(self, atoms: Environments) -> list[Tensor]:
        """float [A, width] each: the atoms as elements, after each block, and as the energy sees them."""
        x = [self.elements(atoms.numbers)]
        geometry = self.pairs(atoms, self.elements.table())
        for block, bias in zip(self.blocks, geometry.bias, strict=True):
            x.append(block(x[-1], geometry, bias))
        return [*x, self.readout(x[-1])]

    def attention(self, atoms: Environments, depths: Sequence[Tensor]) -> Tensor:
        """float [A, K]: the share of each atom's attention that goes to each neighbour, the mean over layers
        and heads.

        Args:
            depths: Of these atoms, as `depths` gives them.
        """
        geometry, shares = self.pairs(atoms, self.elements.table()), []
        for block, x, bias in zip(self.blocks, depths[: len(self.blocks)], geometry.bias, strict=True):
            assert isinstance(block, Block)
            shares.append(block.attention.shares(block.norm(x), geometry, bias).mean(1))
        return torch.stack(shares).mean(0)

    def forward(self, atoms: Environments) -> Tensor:
        """float64 [B, kinds]: energies, eV per cell."""
        return self.energies(atoms, self.features(atoms))

    def with_heads(self, columns: Sequence[int], kinds: tuple[str, ...]) -> CrystalTransformer:
        """A copy whose heads are copies of these columns, named `kinds`."""
        rows = torch.tensor(columns, device=self.reference.device)
        other = copy.deepcopy(self)
        other.architecture = replace(self.architecture, kinds=kinds)
        other.reference = self.reference[rows]
        other.energy.weight = nn.Parameter(self.energy.weight.detach()[rows])
        other.energy.bias = nn.Parameter(self.energy.bias.detach()[rows])
        other.energy.out_features = len(kinds)
        return other

    def energies(self, atoms: Environments, features: Tensor) -> Tensor:
        """float64 [B, kinds]: energies, eV per cell, from the atoms' features [A, width].

        Sums over atoms run in double precision, so that cells of hundreds of atoms keep meV.
        """
        per_atom = self.atom_energies(atoms, features)
        if atoms.multiplicity is not None:
            per_atom = per_atom * atoms.multiplicity[:, None]
        total = per_atom.new_zeros(atoms.n_crystals, len(self.architecture.kinds))
        return total.index_add(0, atoms.crystal, per_atom)

    def atom_energies(self, atoms: Environments, features: Tensor) -> Tensor:
        """float64 [A, kinds], eV: each atom's part of the energies."""
        per_atom = self.energy(features).double()
        per_atom = per_atom + self.reference[:, atoms.numbers].T
        return per_atom + repulsion(atoms, self.radii).double()[:, None]


class ElementEmbedding(nn.Module):
    """A vector per element: a learned one plus a linear function of its place in the periodic table.

    The place makes elements that are rare in training resemble their neighbours.
    """

    place: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        place = periodic_table()
        self.register_buffer("place", place, persistent=False)
        self.project = nn.Linear(place.shape[1], width)
        self.own = nn.Embedding(MAX_Z + 1, width)
        nn.init.normal_(self.own.weight, std=0.3)

    def table(self) -> Tensor:
        """float [MAX_Z + 1, width]."""
        return self.own.weight + self.project(self.place)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.table().index_select(0, numbers)


def periodic_table() -> Tensor:
    """float [MAX_Z + 1, F]: period (one-hot), valence electrons by shell (aufbau order), radius.

    Row 0 is zero.
    """
    rows = torch.zeros(MAX_Z + 1, 7 + 4 + 2 + 1)
    for z in range(1, MAX_Z + 1):
        period = next(p for p in range(1, 8) if z <= NOBLE_GASES[p])
        start, end = NOBLE_GASES[period - 1], NOBLE_GASES[period]
        left = z - start
        rows[z, period - 1] = 1.0
        # aufbau order of a period: s, then f, d, p as far as the period has them
        sizes = {"s": 2, "f": 14 if period >= 6 else 0, "d": 10 if period >= 4 else 0, "p": 6}
        if period == 1:
            sizes["p"] = 0
        for column, shell in enumerate("sfdp"):
            filled = min(left, sizes[shell])
            left -= filled
            rows[z, 7 + column] = filled / max(sizes[shell], 1)
        rows[z, 11] = (z - start) / (end - start)
        rows[z, 12] = float(end - z <= 4) * (end - z) / 4.0
    rows[1:, 13] = COVALENT_RADII[1:].nan_to_num(1.6).float() - 1.3
    return rows


class PairGeometry(nn.Module):
    """Envelope, basis and attention bias of all pairs, computed once for all layers."""

    quadratic: Tensor
    harmonic: Tensor

    def __init__(self, a: SurrogateArchitecture) -> None:
        super().__init__()
        self.cutoff, self.heads = a.cutoff, a.heads
        self.n_radial, self.n_angular = a.radial, a.angular
        # the columns of the basis: radial functions with Y = 1, then for each Y_lm all shells
        shells = gaussians(0.8, 0.9 * a.cutoff, a.angular).repeat(1, 8)
        quadratic = torch.cat([gaussians(0.6, a.cutoff, a.radial), shells], 1)
        self.register_buffer("quadratic", quadratic, persistent=False)
        columns = torch.cat([torch.zeros(a.radial), torch.arange(1, 9).repeat_interleave(a.angular)])
        harmonic = functional.one_hot(columns.long(), 9).T.float()
        self.register_buffer("harmonic", harmonic, persistent=False)
        self.radial = nn.Linear(a.radial, a.edge)
        self.centre_element = nn.Linear(a.width, a.edge, bias=False)
        self.other_element = nn.Linear(a.width, a.edge, bias=False)
        self.hidden = nn.Linear(a.edge, a.edge)
        self.bias = nn.Linear(a.edge, a.layers * a.heads)
        # ranges of the heads from 1 to 4 Å at the start
        sigma = torch.logspace(0.0, math.log10(4.0), a.heads).repeat(a.layers)
        self.log_decay = nn.Parameter(torch.log(0.5 / sigma**2))

    def forward(self, atoms: Environments, elements: Tensor) -> _Geometry:
        n, k = atoms.neighbour.shape
        index = atoms.neighbour.reshape(-1)
        squared = _squared(atoms.vector)[..., None]  # [A, K, 1]
        r = (squared + 1e-12).sqrt()
        u = r / self.cutoff
        envelope = (1.0 - u).clamp(min=0.0) ** 3 * (1.0 + 3.0 * u + 6.0 * u * u)

        # Gaussians in r as exponentials of a quadratic, cut where they would be denormal (slow)
        quadratic = torch.cat([squared, r, torch.ones_like(r)], -1) @ self.quadratic
        basis = torch.exp(quadratic.clamp(min=-80.0))
        radial = basis[..., : self.n_radial]
        if self.n_angular:
            basis = basis * (spherical_harmonics(atoms.vector / r) @ self.harmonic)

        centre = self.centre_element(elements).index_select(0, atoms.numbers)[:, None]
        other = self.other_element(elements).index_select(0, atoms.numbers.index_select(0, index))
        edge = functional.silu(self.radial(radial) + centre + other.view(n, k, -1))
        edge = functional.silu(self.hidden(edge))
        bias = torch.addcmul(self.bias(edge), squared, self.log_decay.exp(), value=-1.0)  # [A, K, L·H]
        return _Geometry(index, basis, bias.split(self.heads, -1), envelope)


def _squared(vector: Tensor) -> Tensor:
    """The squared length; summing three columns is faster than reducing a dimension of three."""
    x, y, z = vector.unbind(-1)
    return x * x + y * y + z * z


def gaussians(first: float, last: float, n: int) -> Tensor:
    """float [3, n]: −(r − c)²/2w² = (r², r, 1) @ this, n centres c from first to last, w their spacing."""
    centre = torch.linspace(first, last, n, dtype=torch.float64)
    scale = 0.5 * ((n - 1) / (last - first)) ** 2
    return (scale * torch.stack([-torch.ones_like(centre), 2.0 * centre, -(centre**2)])).float()


def spherical_harmonics(unit: Tensor) -> Tensor:
    """Real spherical harmonics of l = 0 (one), 1 (three) and 2 (five), with Σ_m Y² = 2l + 1.

    unit float [..., 3] → [..., 9]
    """
    x, y, z = unit.unbind(-1)
    s3, s5, s15 = math.sqrt(3.0), math.sqrt(5.0), math.sqrt(15.0)
    return torch.stack(
        [
            torch.ones_like(x),
            s3 * x,
            s3 * y,
            s3 * z,
            s15 * x * y,
            s15 * y * z,
            s15 * z * x,
            0.5 * s15 * (x * x - y * y),
            0.5 * s5 * (3.0 * z * z - 1.0),
        ],
        dim=-1,
    )


class Block(nn.Module):
    """Attention over the neighbours, then a gated feed-forward, both pre-normed and residual."""

    def __init__(self, a: SurrogateArchitecture) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(a.width)
        self.attention = NeighbourAttention(a)
        self.feed_norm = nn.RMSNorm(a.width)
        self.gate = nn.Linear(a.width, 2 * a.hidden)
        self.down = nn.Linear(a.hidden, a.width)

    def forward(self, x: Tensor, geometry: _Geometry, bias: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x), geometry, bias)
        gate, up = self.gate(self.feed_norm(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class NeighbourAttention(nn.Module):
    """One layer's attention: values, radial densities and three-body invariants of each atom.

    s_ij = q_i·k_j/√d + bias_ij,   α_ij = f_c exp(s_ij) / (exp(s_null) + Σ_j f_c exp(s_ij)).
    """

    def __init__(self, a: SurrogateArchitecture) -> None:
        super().__init__()
        self.heads, self.key, self.value, self.angular = a.heads, a.key, a.value, a.angular
        self.sections = [a.radial, 3 * a.angular, 5 * a.angular] if a.angular else [a.radial]
        self.attends = a.attention
        self.query = nn.Linear(a.width, a.heads * a.key, bias=False)
        self.key_value = nn.Linear(a.width, a.key + a.value, bias=False)
        self.null = nn.Parameter(torch.linspace(-2.0, 2.0, a.heads))
        channels = a.heads * a.angular
        # invariants are squares of small numbers: start them at the size of the other inputs
        self.mix = nn.ParameterList(
            nn.Parameter(torch.randn(channels, channels) * 8.0 / math.sqrt(channels))
            for _ in self.sections[1:]
        )
        self.out = nn.Linear(a.heads * (a.value + a.radial) + len(self.mix) * channels, a.width)

    def weights(self, x: Tensor, key: Tensor, bias: Tensor, envelope: Tensor) -> Tensor:
        """float [A, K, H]: α; with the null key's share they sum to 1."""
        if self.attends:
            query = self.query(x).view(len(x), self.heads, self.key) / math.sqrt(self.key)
            score = torch.baddbmm(bias, key, query.transpose(1, 2))
        else:
            score = torch.zeros_like(bias)
        # normed atoms and bounded pair features keep the scores far from overflow
        weight = envelope * torch.exp(score)
        return weight / (weight.sum(1, keepdim=True) + torch.exp(self.null))

    def shares(self, x: Tensor, geometry: _Geometry, bias: Tensor) -> Tensor:
        """float [A, H, K]: α, from normed atoms x [A, width]."""
        key, _ = self._gathered(x, geometry)
        return self.weights(x, key, bias, geometry.envelope).transpose(1, 2)

    def _gathered(self, x: Tensor, geometry: _Geometry) -> Sequence[Tensor]:
        """Keys and values of all neighbours."""
        n, k, _ = geometry.envelope.shape
        gathered = self.key_value(x).index_select(0, geometry.index).view(n, k, -1)
        return gathered.split([self.key, self.value], -1)

    def forward(self, x: Tensor, geometry: _Geometry, bias: Tensor) -> Tensor:
        key, value = self._gathered(x, geometry)
        alpha = self.weights(x, key, bias, geometry.envelope).transpose(1, 2)  # [A, H, K]
        density, *parts = torch.bmm(alpha, geometry.basis).split(self.sections, -1)
        invariants = [torch.bmm(alpha, value).flatten(1), density.flatten(1)]
        for part, mix in zip(parts, self.mix, strict=True):
            # [A, H, m·n] → [A, m, H·n]: the spectrum mixes heads, thus kinds of neighbours
            part = part.unflatten(-1, (-1, self.angular)).transpose(1, 2).flatten(2)
            invariants.append((part * (part @ mix)).sum(1))
        return self.out(torch.cat(invariants, -1))


def repulsion(atoms: Environments, radii: Tensor) -> Tensor:
    """float [A]: half the screened nuclear repulsion of each atom with its colliding neighbours, eV.

    The universal potential of Ziegler, Biersack and Littmark (1985), switched off between 0.5 and
    0.65 of the sum of the covalent radii by a polynomial with two continuous derivatives, so that it
    is zero at the bond lengths of known crystals.
    """
    index = atoms.neighbour.reshape(-1)
    n, k = atoms.neighbour.shape
    radius = radii.to(atoms.vector.dtype).index_select(0, atoms.numbers)
    squared = _squared(atoms.vector)
    reach = radius[:, None] + radius.index_select(0, index).view(n, k)
    on, off = REPULSION_SWITCH
    centre, slot = (squared.detach() < (off * reach) ** 2).nonzero(as_tuple=True)
    energy = squared.new_zeros(n)
    if len(centre) == 0:
        return energy
    other = atoms.neighbour[centre, slot]
    r = (squared[centre, slot] + 1e-12).sqrt()
    zi, zj = atoms.numbers[centre].to(r.dtype), atoms.numbers[other].to(r.dtype)
    x = r * (zi**0.23 + zj**0.23) / 0.46850
    screening = (
        0.18175 * torch.exp(-3.19980 * x)
        + 0.50986 * torch.exp(-0.94229 * x)
        + 0.28022 * torch.exp(-0.40290 * x)
        + 0.02817 * torch.exp(-0.20162 * x)
    )
    t = ((r / reach[centre, slot] - on) / (off - on)).clamp(0.0, 1.0)
    switch = 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t * t)
    return energy.index_add(0, centre, 0.5 * 14.399645 * zi * zj / r * screening * switch)
