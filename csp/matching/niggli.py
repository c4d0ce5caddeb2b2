"""Primitive Niggli cells as pymatgen's StructureMatcher makes them, for a whole batch at once.

StructureMatcher compares reduced cells, and what it finds at the edge of its tolerances depends on
which of the equivalent bases it took. So the same basis is taken here: the parameters by the algorithm
of Grosse-Kunstleve, Sauter and Adams (Acta Cryst. A 60, 1 (2004)) with pymatgen's tolerance, the basis
as the first in the order in which pymatgen meets lattice vectors.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from csp.crystallography.lattice import minkowski_reduced
from csp.crystals import Crystals

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Family", "cell_parameters", "families", "niggli", "reduced"]

NIGGLI_TOLERANCE = 1e-5  # pymatgen's, times V^(1/3)
MAX_STEPS = 100  # of the Niggli reduction; pymatgen's
ANGLE_SLACK = 1.0  # degrees: pymatgen's default in Lattice.find_mapping
PRIMITIVE_TOLERANCE = 0.25  # Å: pymatgen's default in Structure.get_primitive_structure
CRYSTALS_AT_ONCE = 512
PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Family:
    """C crystals of a batch with the same atoms, N each, as dense arrays.

    Attributes:
        index: int64 [C], their places in the batch.
        frac: float [C, N, 3], fractional coordinates, sorted by atomic number, else in their order.
        place: int64 [C, N], places of the sorted atoms in the crystal.
        species: Slices of the N atoms, one for each element.
    """

    index: Tensor
    frac: Tensor
    place: Tensor
    species: tuple[slice, ...]


def families(crystals: Crystals) -> list[Family]:
    """The batch, split by the atoms in the cells."""
    order = (crystals.batch * 256 + crystals.numbers).argsort(stable=True)
    offsets = crystals.offsets.tolist()
    numbers = crystals.numbers[order].to(torch.uint8).cpu().numpy().tobytes()
    members: dict[bytes, list[int]] = {}
    for b in range(len(crystals)):
        members.setdefault(numbers[offsets[b] : offsets[b + 1]], []).append(b)
    result = []
    for atoms, rows in members.items():
        ends = [k for k in range(1, len(atoms)) if atoms[k] != atoms[k - 1]]
        bounds = [0, *ends, len(atoms)]
        index = torch.tensor(rows, device=crystals.device)
        start = crystals.offsets[index]
        atom = order[start[:, None] + torch.arange(len(atoms), device=crystals.device)]
        species = tuple(slice(lo, hi) for lo, hi in itertools.pairwise(bounds))
        result.append(Family(index, crystals.frac[atom], atom - start[:, None], species))
    return result


def cell_parameters(cell: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (a, b, c) [B, 3], Å, and angles (α, β, γ) [B, 3], degrees, of cells [B, 3, 3]."""
    lengths = cell.norm(dim=-1)
    unit = cell / lengths[..., None]
    cosines = torch.stack(
        [(unit[..., i, :] * unit[..., j, :]).sum(-1) for i, j in ((1, 2), (0, 2), (0, 1))], -1
    )
    return lengths, torch.rad2deg(torch.arccos(cosines.clamp(-1.0, 1.0)))


def _niggli_transform(cell: Tensor) -> Tensor:
    """float [B, 3, 3]: integer matrices T such that T @ cell has Niggli's parameters."""
    basis, transform = minkowski_reduced(cell)
    metric = basis @ basis.transpose(1, 2)
    e = NIGGLI_TOLERANCE * torch.linalg.det(cell).abs() ** (1.0 / 3.0)
    identity = torch.eye(3).to(cell)
    active = torch.ones(len(cell), dtype=torch.bool, device=cell.device)

    def apply(where: Tensor, step: Tensor) -> None:
        nonlocal metric, transform
        m = torch.where(where[:, None, None], step, identity)
        metric = m.transpose(1, 2) @ metric @ m
        transform = m.transpose(1, 2) @ transform

    def entries() -> Iterator[Tensor]:
        yield from (metric[:, 0, 0], metric[:, 1, 1], metric[:, 2, 2])
        yield from (2 * metric[:, 1, 2], 2 * metric[:, 0, 2], 2 * metric[:, 0, 1])

    def sheared(row: int, column: int, amount: Tensor) -> Tensor:
        step = identity.repeat(len(cell), 1, 1)
        step[:, row, column] = amount
        return step

    swap_ab = torch.tensor([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]).to(cell)
    swap_bc = torch.tensor([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]]).to(cell)
    add_ab_to_c = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 1]]).to(cell)
    for _ in range(MAX_STEPS):
        A, B, C, E, N, Y = entries()
        apply(active & ((B + e < A) | (((A - B).abs() < e) & (E.abs() > N.abs() + e))), swap_ab)
        A, B, C, E, N, Y = entries()
        swapped = active & ((C + e < B) | (((B - C).abs() < e) & (N.abs() > Y.abs() + e)))
        apply(swapped, swap_bc)
        going = active & ~swapped

        apply(going, torch.diag_embed(_signs(torch.stack([E, N, Y], 1), e)))
        A, B, C, E, N, Y = entries()
        shears = (
            (
                (E.abs() > B + e)
                | (((E - B).abs() < e) & (Y - e > 2 * N))
                | (((E + B).abs() < e) & (-e > Y)),
                sheared(1, 2, -E.sign()),
            ),
            (
                (N.abs() > A + e)
                | (((A - N).abs() < e) & (Y - e > 2 * E))
                | (((A + N).abs() < e) & (-e > Y)),
                sheared(0, 2, -N.sign()),
            ),
            (
                (Y.abs() > A + e)
                | (((A - Y).abs() < e) & (N - e > 2 * E))
                | (((A + Y).abs() < e) & (-e > N)),
                sheared(0, 1, -Y.sign()),
            ),
            (
                (-e > E + N + Y + A + B) | (((E + N + Y + A + B).abs() < e) & (e < Y + (A + N) * 2)),
                add_ab_to_c,
            ),
        )
        for needed, step in shears:  # the first that is needed
            apply(going & needed, step)
            going = going & ~needed
        active = active & ~going
        if not bool(active.any()):
            break
    return transform


def _signs(off_diagonal: Tensor, e: Tensor) -> Tensor:
    """float [B, 3]: ±1 for the basis vectors that make E, N, Y all positive or none (steps A3, A4)."""
    sign = torch.where(off_diagonal.abs() < e[:, None], torch.zeros_like(off_diagonal), off_diagonal.sign())
    all_positive = sign.prod(1) == 1
    positive = torch.where(sign == -1, -1.0, 1.0).to(sign)
    negative = torch.where(sign == 1, -1.0, 1.0).to(sign)
    odd = negative.prod(1) == -1
    last_zero = torch.where(sign == 0, torch.arange(3, device=sign.device), -1).amax(1)
    flip = odd & (last_zero >= 0)
    negative[flip, last_zero[flip]] = -1.0
    return torch.where(all_positive[:, None], positive, negative)


def _first_basis(cell: Tensor, transform: Tensor) -> Tensor:
    """float [B, 3, 3]: of the right-handed bases with Niggli's parameters the one pymatgen takes.

    It lists lattice vectors by octant (negative coordinates first), then by descending indices, and
    takes the first triple with the lengths and, within a degree, the angles.
    """
    lengths, angles = cell_parameters(transform @ cell)
    slack = 1.0 + NIGGLI_TOLERANCE * torch.linalg.det(cell).abs() ** (1.0 / 3.0)

    small = torch.arange(-2, 3).to(cell)
    local = torch.cartesian_prod(small, small, small)
    index = local @ transform  # [B, 125, 3], in the basis of `cell`
    vector = index @ cell
    norm = vector.norm(dim=-1)
    ratio = norm[:, :, None] / lengths[:, None, :]
    fits = (ratio < slack[:, None, None]) & (ratio > 1.0 / slack[:, None, None])  # [B, 125, 3]

    octant = ((vector >= -1e-8).long() * torch.tensor([4, 2, 1], device=cell.device)).sum(-1)
    weight = torch.tensor([1 << 36, 1 << 18, 1], device=cell.device)
    key = octant * (1 << 56) - (index.long() * weight).sum(-1)
    key = torch.where(fits.any(-1), key, torch.iinfo(torch.int64).max)
    width = int(fits.any(-1).sum(1).max())
    chosen = key.argsort(dim=1, stable=True)[:, :width]
    vector, fits = (torch.gather(x, 1, chosen[..., None].expand(-1, -1, 3)) for x in (vector, fits))

    unit = vector / vector.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    between = torch.rad2deg(torch.arccos((unit @ unit.transpose(1, 2)).clamp(-1.0, 1.0)))
    alpha, beta, gamma = ((between - angles[:, k, None, None]).abs() <= ANGLE_SLACK for k in range(3))
    valid = (
        (fits[:, :, 0, None, None] & fits[:, None, :, 1, None] & fits[:, None, None, :, 2])
        & (gamma[:, :, :, None] & beta[:, :, None, :])
        & alpha[:, None, :, :]
    )
    handed = torch.einsum(
        "bix,bjkx->bijk", vector, torch.linalg.cross(vector[:, :, None], vector[:, None, :])
    )
    valid &= handed * torch.linalg.det(cell)[:, None, None, None].sign() > 1e-8
    first = valid.flatten(1).to(torch.uint8).argmax(1)
    triple = torch.stack([first // width**2, first // width % width, first % width], 1)
    basis = torch.gather(vector, 1, triple[..., None].expand(-1, -1, 3))
    return basis * torch.linalg.det(basis).sign()[:, None, None]


def niggli(crystals: Crystals) -> Crystals:
    """The crystals in Niggli cells, atoms inside, order kept. pymatgen: `get_reduced_structure`."""
    if len(crystals) == 0:
        return crystals
    cells = [
        _first_basis(cell, _niggli_transform(cell)) for cell in crystals.cell.double().split(CRYSTALS_AT_ONCE)
    ]
    cell = torch.cat(cells).to(crystals.cell)
    change = crystals.cell @ torch.linalg.inv(cell)
    frac = torch.einsum("ai,aij->aj", crystals.frac, change[crystals.batch])
    return crystals.with_geometry(cell, frac).wrapped()


def reduced(crystals: Crystals) -> Crystals:
    """Primitive Niggli cells. pymatgen: `StructureMatcher._get_reduced_structure`.

    Crystals without any translation that maps each atom near a like one (0.5 Å) have no smaller cell.
    The few others go through pymatgen itself, which looks for one at 0.25 Å.
    """
    crystals = niggli(crystals)
    suspects = _may_be_reducible(crystals).nonzero().flatten().tolist()
    if not suspects:
        return crystals
    smaller = Crystals.from_structures(
        structure.get_primitive_structure() for structure in crystals[suspects].structures()
    ).to(crystals.device, crystals.cell.dtype)
    place = torch.arange(len(crystals))
    place[suspects] = len(crystals) + torch.arange(len(suspects))
    return Crystals.cat([crystals, smaller])[place.to(crystals.device)]


def _may_be_reducible(crystals: Crystals) -> Tensor:
    """bool [B]: is there a vector between two atoms of the rarest element that takes each atom near a
    like one? The first screening of `Structure.get_primitive_structure`."""
    result = torch.zeros(len(crystals), dtype=torch.bool, device=crystals.device)
    for family in families(crystals):
        units = math.gcd(*(s.stop - s.start for s in family.species))
        if units == 1:
            continue
        abc = crystals.cell[family.index].norm(dim=-1)
        at_once = max(1, PAIRS_AT_ONCE // family.frac.shape[1] ** 3)
        translation = [
            _has_translation(frac, family.species, 2 * PRIMITIVE_TOLERANCE / lengths)
            for frac, lengths in zip(family.frac.split(at_once), abc.split(at_once), strict=True)
        ]
        thin = abc.amin(1) < PRIMITIVE_TOLERANCE * units  # any fraction of the cell is a near-translation
        result[family.index] = torch.cat(translation) | thin
    return result


def _has_translation(frac: Tensor, species: tuple[slice, ...], tolerance: Tensor) -> Tensor:
    """bool [C] for frac [C, N, 3] and a tolerance [C, 3] on each fractional coordinate."""
    by_size = sorted(species, key=lambda s: s.stop - s.start)
    rarest = frac[:, by_size[0]]
    vectors = (rarest - rarest[:, :1])[:, 1:]
    alive = torch.ones(vectors.shape[:2], dtype=torch.bool, device=frac.device)
    for s in by_size:
        sites = frac[:, s]
        difference = (sites[:, None, :] - sites[:, :, None])[:, None] - vectors[:, :, None, None]
        close = ((difference - difference.round()).abs() < tolerance[:, None, None, None]).all(-1)
        alive &= close.any(3).all(2)
    return alive.any(1)
