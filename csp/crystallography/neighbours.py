"""Distances in periodic crystals: neighbour lists, collisions, plausibility.

Torch alone, so that it runs wherever a model is trained; one code for CPU and GPU.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources

import torch
from torch import Tensor

from csp.crystals import Crystals, ranges, run_starts

__all__ = [
    "CLOSEST",
    "COVALENT_RADII",
    "Neighbours",
    "crowding",
    "distance_ratio",
    "heights",
    "neighbour_list",
    "plausible",
]

PAIR_IMAGES_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}  # CPU: about the last-level cache


def _covalent_radii() -> Tensor:
    """`ase.data.covalent_radii` in a file: trainings run where there is no ASE. A test compares the two."""
    text = (resources.files("csp") / "data" / "covalent_radii.json").read_text()
    known = json.loads(text)["covalent_radii"]
    radii = torch.full((119,), math.nan, dtype=torch.float64)
    radii[1 : len(known)] = torch.tensor(known[1:], dtype=torch.float64)
    return radii


COVALENT_RADII = _covalent_radii()
"""float64 [119], Å, by atomic number: Cordero et al., Dalton Trans. 2008, 2832; NaN beyond curium."""


# Shares of the sum of covalent radii that no two atoms of a crystal come closer than: of the Materials
# Project's entries within 50 meV/atom of the hull 5 in 10,000 do, most of them damaged. Under pressure, where
# short multiple bonds are gone, known crystals keep more: B2 NaCl has 0.78 at 300 GPa, MgO 0.80 at 600; what
# potentials collapse to has up to 0.64. Elements whose outer s electrons pressure squeezes out have large
# radii and come closer, the heavy ones to all, and where there is nothing else all to each other: K 0.53, Na
# and La 0.60 at 300 GPa. In a salt these electrons are gone already: a collapsed NaCl has Na-Na 0.54 there.
CLOSEST, CLOSEST_PRESSED, CLOSEST_ELECTROPOSITIVE = 0.6, 0.66, 0.5
OVERLAPPING = 0.5  # atoms of a file that are closer are not those of a crystal: 15 of 100,000 entries
PRESSED = 100.0  # GPa
SQUEEZED = (19, 37, 55, 87, 38, 56, 88)  # K, Rb, Cs, Fr, Sr, Ba, Ra
ELECTROPOSITIVE = (3, 11, 20, 21, 39, *SQUEEZED, *range(57, 72), *range(89, 104))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """E directed pairs; sorted by crystal, then i, then j.

    Attributes:
        i: int64 [E], an atom of the batch.
        j: int64 [E], its neighbour.
        shift: int64 [E, 3], lattice translation of j.
        vector: float [E, 3], r_j + shift @ cell − r_i, Å.
        distance: float [E], Å.
    """

    i: Tensor
    j: Tensor
    shift: Tensor
    vector: Tensor
    distance: Tensor


def heights(cell: Tensor) -> Tensor:
    """Distances between opposite faces of the cells: cell [B, 3, 3] Å → [B, 3] Å."""
    return 1.0 / torch.linalg.inv(cell).norm(dim=-2)


def neighbour_list(crystals: Crystals, cutoff: float, centres: Tensor | None = None) -> Neighbours:
    """All directed pairs of atoms and periodic images closer than `cutoff` (Å), any cell shape.

    Args:
        centres: int64 [R], ascending: the atoms i whose neighbours are wanted; None: all.

    An atom is not its own neighbour, its images are. Distances are computed in the precision of
    `crystals`; differentiate through positions and cells by rebuilding the vectors from i, j, shift.
    """
    if centres is None:
        centres = torch.arange(len(crystals.numbers), device=crystals.device)
    owner = crystals.batch[centres]
    parts = [
        _pairs(crystals, chunk, cutoff, centres[(owner >= chunk.start) & (owner < chunk.stop)])
        for chunk in _chunks(crystals, cutoff, torch.bincount(owner, minlength=len(crystals)))
    ]
    if not parts:
        index = crystals.offsets.new_zeros(0)
        vector = crystals.cell.new_zeros((0, 3))
        return Neighbours(index, index, index.reshape(0, 1).expand(0, 3), vector, vector[:, 0])
    i, j, shift, vector, distance = (
        column[0] if len(column) == 1 else torch.cat(column) for column in zip(*parts, strict=True)
    )
    return Neighbours(i, j, shift, vector, distance)


def _reach(crystals: Crystals, cutoff: float) -> Tensor:
    """int64 [B, 3]: images to look at on each side, for differences wrapped into [−1/2, 1/2]."""
    return torch.floor(cutoff / heights(crystals.cell) + 0.5).long()


def _chunks(crystals: Crystals, cutoff: float, n_centres: Tensor) -> Iterator[range]:
    """Runs of crystals, each with so many centres, whose pairs × images fit into one pass."""
    if len(crystals) == 0:
        return
    limit = PAIR_IMAGES_AT_ONCE.get(crystals.device.type, PAIR_IMAGES_AT_ONCE["cpu"])
    images = (2 * _reach(crystals, cutoff) + 1).prod(1)
    work = (images * crystals.n_atoms * n_centres).tolist()
    start, total = 0, 0
    for b, amount in enumerate(work):
        if b > start and total + amount > limit:
            yield range(start, b)
            start, total = b, 0
        total += amount
    yield range(start, len(work))


def _pairs(
    crystals: Crystals, chunk: range, cutoff: float, centres: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Columns of `Neighbours` for consecutive crystals of a batch and the centres among their atoms."""
    part = crystals[chunk.start : chunk.stop]
    first_atom = crystals.offsets[chunk.start]
    device = part.device

    # every centre with every atom of its cell
    centres = centres - first_atom
    owner = part.batch[centres]
    partners = part.n_atoms[owner]
    crystal = torch.repeat_interleave(owner, partners)
    i = torch.repeat_interleave(centres, partners)
    j = ranges(part.offsets[owner], partners)
    difference = part.frac[j] - part.frac[i]
    nearest = -difference.round()
    pair_vector = torch.einsum("pi,pij->pj", difference + nearest, part.cell[crystal])

    # every lattice translation in reach of a cell
    width = 2 * _reach(part, cutoff) + 1
    images = width.prod(1)
    owner = torch.repeat_interleave(torch.arange(len(part), device=device), images)
    index = ranges(torch.zeros_like(images), images)
    w = width[owner]
    translation = torch.stack(
        [
            torch.div(index, w[:, 1] * w[:, 2], rounding_mode="floor"),
            torch.div(index, w[:, 2], rounding_mode="floor") % w[:, 1],
            index % w[:, 2],
        ],
        dim=1,
    ) - torch.div(w, 2, rounding_mode="floor")
    image_vector = torch.einsum("mi,mij->mj", translation.to(part.cell), part.cell[owner])
    first_image = run_starts(images)

    # their product, kept where close; column by column, which is several times faster than by rows
    counts = images[crystal]
    pair = torch.repeat_interleave(torch.arange(len(crystal), device=device), counts)
    image = ranges(first_image[crystal], counts)
    squared = part.cell.new_zeros(len(pair))
    for of_pair, of_image in zip(pair_vector.T.contiguous(), image_vector.T.contiguous(), strict=True):
        component = of_pair.index_select(0, pair) + of_image.index_select(0, image)
        squared.addcmul_(component, component)
    same = (i == j).nonzero().flatten()
    itself = run_starts(counts)[same] + torch.div(counts[same], 2, rounding_mode="floor")
    squared[itself] = torch.inf  # no translation is in the middle
    close = (squared < cutoff * cutoff).nonzero().flatten()
    pair, image = pair[close], image[close]
    return (
        i[pair] + first_atom,
        j[pair] + first_atom,
        translation[image] + nearest[pair].long(),
        pair_vector[pair] + image_vector[image],
        squared[close].sqrt(),
    )


def distance_ratio(crystals: Crystals, limit: float = 1.5) -> Tensor:
    """float [B]: the smallest d_ij / (R_i + R_j) over all periodic pairs, R covalent radii.

    Pairs beyond `limit` times their radii are not looked for: `limit` is the largest value returned.
    Elements without a known radius (beyond curium) count with 1.6 Å.
    """
    radii = COVALENT_RADII.nan_to_num(1.6).to(crystals.device, crystals.cell.dtype)
    smallest = crystals.cell.new_full((len(crystals),), limit)
    if len(crystals) == 0:
        return smallest
    radius = radii[crystals.numbers]
    pairs = neighbour_list(crystals, 2.0 * limit * float(radius.max()))
    ratio = pairs.distance / (radius[pairs.i] + radius[pairs.j])
    return smallest.scatter_reduce(0, crystals.batch[pairs.i], ratio, "amin")


def crowding(
    crystals: Crystals,
    pressure: float = 0.0,
    neighbours: Callable[[Crystals, float], Neighbours] | None = None,
) -> Tensor:
    """How near the closest two atoms are to the bound that real crystals keep at a pressure, GPa.

    Args:
        neighbours: Lists the pairs within a cutoff, around one atom of each orbit at least; None: all.

    Returns:
        float [B]: below 1 they are closer than that, and what the model calls a crystal is none. Only ratios
        up to 1 are distinguished: larger ones are 1.
    """
    closest = crystals.cell.new_ones(len(crystals))
    if len(crystals) == 0:
        return closest
    radius = COVALENT_RADII.nan_to_num(1.6).to(crystals.device, crystals.cell.dtype)[crystals.numbers]
    pairs = (neighbours or neighbour_list)(crystals, 2.0 * CLOSEST_PRESSED * float(radius.max()))

    def either(elements: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        member = torch.isin(crystals.numbers, torch.tensor(elements, device=crystals.device))
        return member[pairs.i], member[pairs.j]

    pressed = CLOSEST + (CLOSEST_PRESSED - CLOSEST) * min(max(pressure, 0.0) / PRESSED, 1.0)
    i_squeezed, j_squeezed = either(SQUEEZED)
    i_soft, j_soft = either(ELECTROPOSITIVE)
    share = torch.where(i_squeezed | j_squeezed, CLOSEST, pressed)
    hard = ~torch.isin(crystals.numbers, torch.tensor(ELECTROPOSITIVE, device=crystals.device))
    others = torch.zeros_like(closest).index_add(0, crystals.batch, hard.to(closest))
    alone = (others == 0)[crystals.batch[pairs.i]]
    among = torch.where(alone, CLOSEST_ELECTROPOSITIVE, CLOSEST).to(share)
    share = torch.where(i_soft & j_soft, among, share).to(radius)
    near = pairs.distance / (share * (radius[pairs.i] + radius[pairs.j]))
    return closest.scatter_reduce(0, crystals.batch[pairs.i], near, "amin")


def plausible(
    crystals: Crystals,
    volume_per_atom: float,
    *,
    min_distance: float = CLOSEST,
    volume_window: tuple[float, float] = (0.5, 2.0),
) -> Tensor:
    """bool [B]: could this be a crystal at all?

    No two atoms closer than `min_distance` times the sum of their covalent radii (bonds of known
    crystals lie above 0.6, H2 at 1.2), the volume within `volume_window` times the expected
    `volume_per_atom` (Å³), the cell not flat.
    """
    ratio = crystals.volumes / (crystals.n_atoms * volume_per_atom)
    sound = (ratio > volume_window[0]) & (ratio < volume_window[1]) & (heights(crystals.cell) > 1.0).all(1)
    result = sound.clone()
    result[sound] = distance_ratio(crystals[sound], limit=1.0) >= min_distance
    return result
