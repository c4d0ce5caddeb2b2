"""From composition to space group, Wyckoff letters, cell and coordinates: one autoregressive transformer.

A crystal is the stream

    element … element | group and Z | orbit … orbit | cell | site … site

in which elements see each other and everything else sees what is before it. The elements give the space group
and Z; each token from "group and Z" on gives the letter of the next orbit, the last orbit the cell, the cell
and each site the coordinates of the next site. A site is an orbit with freedom. Each token says what was
just placed and whose turn is next, so that no places are counted.

After CrystalFormer (Cao et al., arXiv:2403.15734), here with exact compositions and tied positions:
letters are scored by features that positions of all groups share, as in WyFormer (arXiv:2503.02407).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from csp.crystallography.normalizers import POLAR, position
from csp.crystallography.wyckoff import GRID, crystal_systems, wyckoff_table
from generators.space_group.mixtures import GaussianMixture, VonMisesMixture

__all__ = [
    "FREE_CELL",
    "MAX_Z",
    "Cache",
    "SpaceGroupArchitecture",
    "SpaceGroupModel",
    "coordinates",
    "site_freedom",
]

MAX_NUMBER = 118
MAX_Z = 64  # numbers of formula units that are told apart; more count as this many
MAX_COUNT = 64  # the same for atoms of an element
N_CELL = 6  # ln V/N relative to the expected one, ln b/a, ln c/a, cosines of α, β, γ
N_LETTERS = 27

FREE_CELL = torch.tensor(
    [
        [1.0, 1, 1, 1, 1, 1],  # triclinic
        [1.0, 1, 1, 0, 1, 0],
        [1.0, 1, 1, 0, 0, 0],
        [1.0, 0, 1, 0, 0, 0],
        [1.0, 0, 1, 0, 0, 0],
        [1.0, 0, 1, 0, 0, 0],
        [1.0, 0, 0, 0, 0, 0],  # cubic
    ]
)[torch.from_numpy(crystal_systems(np.arange(231)))]
"""float [231, 6]: 1 where a parameter of the cell is free, by space group."""

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values [B, heads, T, width of a head] of each layer."""


@dataclass(frozen=True, slots=True)
class SpaceGroupArchitecture:
    """width, layers and heads of the trunk; components of a mixture for a coordinate and for the cell."""

    width: int = 160
    layers: int = 6
    heads: int = 5
    components: int = 12
    cells: int = 8


class SpaceGroupModel(nn.Module):
    """The network: what goes in (`elements`, `condition`, `orbit`, `cell`, `site` make tokens), the `trunk`,
    and what comes out (`composition` and `groups`, `formula_units`, `letters`, `cells`, `axis`).

    Args:
        dropout: Share of what each half of a layer adds that is left out while it is trained.
    """

    features: Tensor

    def __init__(self, a: SpaceGroupArchitecture, dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture = a
        d = a.width
        self.element = nn.Embedding(MAX_NUMBER + 1, d)
        self.amount = nn.Embedding(MAX_COUNT + 1, d)
        self.size = nn.Linear(3, d)
        self.next_element = nn.Linear(d, d)
        self.share = nn.Linear(2, d)
        self.group = nn.Embedding(231, d)
        self.units = nn.Embedding(MAX_Z + 1, d)
        self.register_buffer("features", position_features(), persistent=False)
        self.position = nn.Linear(self.features.shape[1], d)
        self.own_position = nn.Embedding(len(self.features), d)
        self.orbit_position = nn.Linear(d, d)
        self.cell_values = nn.Linear(2 * N_CELL, d)
        self.site_point = nn.Linear(12, d)
        self.next_site = nn.Linear(2 * d, d)
        self.layers = nn.ModuleList(_Layer(d, a.heads, dropout) for _ in range(a.layers))
        self.norm = nn.LayerNorm(d)
        self.to_group = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, 231))
        self.to_units = nn.Sequential(nn.GELU(), nn.Linear(d, MAX_Z + 1))
        self.units_context = nn.Linear(2 * d, d)
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d)
        self.to_cell = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, a.cells * (1 + 2 * N_CELL)))
        self.to_axis = nn.ModuleList(
            nn.Sequential(nn.Linear(d + 4 * k, d), nn.GELU(), nn.Linear(d, 4 * a.components))
            for k in range(3)
        )
        for table in (self.element, self.amount, self.group, self.units):
            nn.init.normal_(table.weight, std=0.3)
        nn.init.normal_(self.own_position.weight, std=0.02)
        with torch.no_grad():  # wide cells and nearly uniform coordinates to begin with
            cells: Tensor = self.get_parameter("to_cell.2.bias")
            cells.view(a.cells, 1 + 2 * N_CELL)[:, 1 + N_CELL :] = 2.0
            for axis in range(3):
                self.get_parameter(f"to_axis.{axis}.2.bias")[3 * a.components :] = -1.0

    # -- tokens -----------------------------------------------------------------------------------

    def elements(self, number: Tensor, count: Tensor) -> Tensor:
        """[B, E, d] of atomic numbers and counts in a formula unit, int [B, E]; count 0 pads."""
        n = count.float()
        share = n / n.sum(1, keepdim=True).clamp(min=1.0)
        shares = torch.stack([share, share.sqrt()], -1)
        return self.element(number) + self._atoms(count) + self.share(shares)

    def condition(self, group: Tensor, z: Tensor, number: Tensor, left: Tensor) -> Tensor:
        """[B, d] of the space group, Z, and the atoms `left` to place of the first element; int [B]."""
        return self.group(group) + self.units(z.clamp(max=MAX_Z)) + self._turn(number, left)

    def orbit(self, number: Tensor, row: Tensor, next_number: Tensor, left: Tensor) -> Tensor:
        """[..., d]: an orbit of an element on a position (row of the Wyckoff table), and whose turn comes."""
        placed = self.element(number) + self.orbit_position(self.positions(row))
        return placed + self._turn(next_number, left)

    def cell(self, group: Tensor, values: Tensor, next_number: Tensor, next_row: Tensor) -> Tensor:
        """[B, d]: parameters of the cell [B, 6], and the next site; number 0 where there is none."""
        free = FREE_CELL.to(values.device)[group]
        return self.cell_values(torch.cat([values * free, free], -1)) + self._next(next_number, next_row)

    def site(
        self, number: Tensor, row: Tensor, point: Tensor, next_number: Tensor, next_row: Tensor
    ) -> Tensor:
        """[..., d]: a site at u = point [..., 3], and the next site."""
        angle = 2.0 * torch.pi * coordinates(row, point)
        waves = torch.cat([angle.cos(), angle.sin(), (2.0 * angle).cos(), (2.0 * angle).sin()], -1)
        placed = self.element(number) + self.orbit_position(self.positions(row)) + self.site_point(waves)
        return placed + self._next(next_number, next_row)

    def positions(self, row: Tensor) -> Tensor:
        """[..., d] of rows of the Wyckoff table."""
        return self.position(self.features[row]) + self.own_position(row)

    def _atoms(self, n: Tensor) -> Tensor:
        x = n.float()
        sizes = torch.stack([torch.log1p(x), 1.0 / x.clamp(min=1.0), x / 16.0], -1)
        return self.amount(n.clamp(max=MAX_COUNT)) + self.size(sizes)

    def _turn(self, number: Tensor, left: Tensor) -> Tensor:
        return self.next_element(self.element(number)) + self._atoms(left)

    def _next(self, number: Tensor, row: Tensor) -> Tensor:
        there = (number > 0)[..., None]
        return self.next_site(torch.cat([self.element(number), self.positions(row)], -1)) * there

    # -- trunk ------------------------------------------------------------------------------------

    def trunk(self, x: Tensor, mask: Tensor | None = None, past: Cache | None = None) -> tuple[Tensor, Cache]:
        """Tokens [B, L, d] after T past ones: outputs [B, L, d] and the cache of all T + L.

        Args:
            mask: bool [B, L, T + L], which token attends to which; None: each to all.
        """
        cache: Cache = []
        for k, layer in enumerate(self.layers):
            x, kept = layer(x, mask, None if past is None else past[k])
            cache.append(kept)
        return self.norm(x), cache

    # -- what comes out ---------------------------------------------------------------------------

    def composition(self, number: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """`groups` of compositions alone; atomic numbers and counts int [B, E], count 0 pads."""
        real = count > 0
        seen = real[:, None] | torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
        out, _ = self.trunk(self.elements(number, count), seen)
        return self.groups(out, count)

    def groups(self, elements: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """ln p of the 231 space groups [B, 231] (0 is none), and what `formula_units` needs [B, d].

        Args:
            elements: Outputs of the element tokens [B, E, d].
            count: int [B, E].
        """
        there = (count > 0).float()[..., None]
        whole = (elements * there).sum(1) / there.sum(1).clamp(min=1.0)
        logits = self.to_group(whole)
        logits[:, 0] = -torch.inf
        return logits.log_softmax(-1), whole

    def formula_units(self, whole: Tensor, group: Tensor) -> Tensor:
        """ln p of Z [..., MAX_Z + 1] (0 is none) given the group, int [...]; whole [..., d]."""
        logits = self.to_units(self.units_context(torch.cat([whole, self.group(group)], -1)))
        return logits[..., 1:].log_softmax(-1)

    def keys(self) -> Tensor:
        """[P, d] of all positions, for `letters`."""
        return self.key(self.positions(torch.arange(len(self.features), device=self.features.device)))

    def letters(self, h: Tensor, group: Tensor, mask: Tensor, keys: Tensor) -> Tensor:
        """ln p of the letters [..., 27] that the mask (bool) allows, for a group int [...]."""
        first = wyckoff_table().first.to(h.device)
        rows = (first[group][..., None] + torch.arange(N_LETTERS, device=h.device)).clamp(max=len(keys) - 1)
        logits = (keys[rows] @ self.query(h)[..., None])[..., 0] * self.architecture.width**-0.5
        return logits.masked_fill(~mask, -torch.inf).log_softmax(-1)

    def cells(self, h: Tensor) -> GaussianMixture:
        """Of the cell's parameters, from the last orbit's output [..., d]."""
        return GaussianMixture.of(self.to_cell(h), N_CELL)

    def axis(self, axis: int, h: Tensor, point: Tensor, free: Tensor) -> VonMisesMixture:
        """Of coordinate u_axis, from the output before the site and u along the earlier axes.

        Args:
            h: [..., d], the output.
            point: [..., 3], u.
            free: bool [..., 3], which of its coordinates may be chosen.
        """
        angle = 2.0 * torch.pi * point[..., :axis]
        known = free[..., :axis].float()
        waves = [
            angle.cos() * known,
            angle.sin() * known,
            (2 * angle).cos() * known,
            (2 * angle).sin() * known,
        ]
        return VonMisesMixture.of(self.to_axis[axis](torch.cat([h, *waves], -1)))


class _Layer(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        split = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))  # [B, L, 3, h, d/h]
        q, k, v = split.permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        seen = None if mask is None else mask[:, None]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.down(functional.gelu(self.up(self.norm(x))))), (k, v)


def coordinates(row: Tensor, point: Tensor) -> Tensor:
    """Fractional coordinates [..., 3] in the conventional cell of positions int [...] at u [..., 3]."""
    matrix, shift = (t.to(point.device) for t in _representatives())
    return (matrix[row] @ point[..., None])[..., 0] + shift[row]


def site_freedom(group: Tensor, row: Tensor, first: Tensor) -> Tensor:
    """bool [..., 3]: which of u may be chosen; the first orbit of a polar group is the origin along its axes.

    group, row int [...]; first bool [...].
    """
    free = wyckoff_table().free.to(row.device)[row]
    polar = torch.from_numpy(POLAR).to(row.device)[group]
    return free & ~(polar & first[..., None])


@cache
def _representatives() -> tuple[Tensor, Tensor]:
    """Matrices [P, 3, 3] and shifts [P, 3] from u to the conventional cell, float32."""
    places = [position(row) for row in range(len(wyckoff_table().letter))]
    matrix = torch.from_numpy(np.stack([p.matrix for p in places])).float()
    return matrix, torch.from_numpy(np.stack([p.shift for p in places])).float() / GRID


def position_features() -> Tensor:
    """float [P, F]: what positions of different groups have in common.

    Site symmetry and crystal system (one-hot), sizes, what is free, and the form of the coordinates.
    """
    table = wyckoff_table()
    symbols, symbol = np.unique(table.site_symmetry, return_inverse=True)
    group = torch.repeat_interleave(torch.arange(231), table.first.diff())
    system = torch.from_numpy(crystal_systems(group.numpy()))
    matrix, shift = _representatives()
    angle = 2.0 * torch.pi * shift
    return torch.cat(
        [
            functional.one_hot(torch.from_numpy(symbol), len(symbols)).float(),
            functional.one_hot(system, 7).float(),
            torch.stack([table.n_atoms.log(), table.multiplicity.log(), 1.0 / table.n_atoms], 1).float(),
            table.free.float(),
            matrix.flatten(1),
            angle.cos(),
            angle.sin(),
        ],
        dim=1,
    )
