"""Which candidates are the same crystal: structure fingerprints, compared in batches.

The fingerprint is cheap and separates slight distortions; `csp.matching.matcher` decides where pymatgen's
wider notion of sameness is asked for.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.neighbours import neighbour_list
from csp.crystals import Crystals

__all__ = ["SAME_STRUCTURE", "fingerprints", "unique"]

REACH = 2.5  # of the fingerprint, in units of (V/N)^(1/3): about 5.5 Å in an oxide
SMEARING = 0.05  # standard deviation of a neighbour's Gaussian, same unit: about 0.1 Å
FINE = 4  # histogram bins per smearing length
CRYSTALS_AT_ONCE = 512  # bounds the memory of the neighbour lists
PROJECTED = 8  # principal components the search tree is built on

SAME_STRUCTURE = 0.05
"""Fingerprints closer than this are of one structure. Over 300 Materials Project crystals, random
displacements of 0.01 / 0.03 / 0.05 / 0.1 Å (root mean square) give median distances of 0.009 / 0.03 /
0.06 / 0.16; different stackings of ZnS or CdI2 layers lie 0.01 to 0.2 apart."""


def fingerprints(crystals: Crystals, *, scale: bool = False) -> Tensor:
    """float [B, F]: what distinguishes structures, and nothing else.

    The fingerprint function of Oganov and Valle (J. Chem. Phys. 130, 104504 (2009), eq. 3): for each
    pair of elements the radial distribution

        F_AB(R) = Σ_{i∈A, j∈B} δ(R − R_ij) / (4πR² N_A N_B / V) − 1

    smeared by a Gaussian, with weight N_A N_B, all pairs together scaled to unit length (half the
    squared Euclidean distance of two such vectors is one minus their cosine). Lengths are measured in
    (V/N)^(1/3). Then follow the atomic fractions and, unless `scale`, ln(V/N): with `scale` crystals
    that differ by a homogeneous blow-up are the same. Columns refer to the elements of the batch, so
    only rows of one call can be compared.

    Invariant to translation, rotation, reflection, the choice of the cell and the order of atoms.
    """
    elements, element = torch.unique(crystals.numbers, return_inverse=True)
    parts = [
        _radial(crystals[start : start + CRYSTALS_AT_ONCE], elements)
        for start in range(0, len(crystals), CRYSTALS_AT_ONCE)
    ]
    counts = _element_counts(crystals, element, len(elements))
    columns = [torch.cat(parts) if parts else crystals.cell.new_zeros((0, 0)), counts / counts.sum(1, True)]
    if not scale:
        columns.append((crystals.volumes / crystals.n_atoms).log()[:, None])
    return torch.cat(columns, dim=1)


def _element_counts(crystals: Crystals, element: Tensor, n_elements: int) -> Tensor:
    """float [B, elements]: atoms of each element in each cell."""
    flat = crystals.batch * n_elements + element
    return (
        torch.bincount(flat, minlength=len(crystals) * n_elements)
        .reshape(len(crystals), n_elements)
        .to(crystals.cell)
    )


def _radial(crystals: Crystals, elements: Tensor) -> Tensor:
    """float [B, element pairs × R]: weighted fingerprint functions, unit length."""
    n_crystals, n_elements = len(crystals), len(elements)
    scaled = crystals.scaled_to(crystals.n_atoms.to(crystals.cell))
    element = torch.searchsorted(elements, crystals.numbers)
    neighbours = neighbour_list(scaled, REACH + 4.0 * SMEARING)
    first, second, distance = element[neighbours.i], element[neighbours.j], neighbours.distance

    # Histogram over (crystal, element pair, distance). Each distance is shared linearly between the
    # two nearest bins, so that the smeared result is a smooth function of the positions.
    step = SMEARING / FINE
    n_fine = math.ceil((REACH + 4.0 * SMEARING) / step) + 2
    row = (crystals.batch[neighbours.i] * n_elements + first) * n_elements + second
    position = distance / step
    below = position.floor()
    amount = 1.0 / (4.0 * math.pi * distance**2)
    upper = amount * (position - below)
    index = row * n_fine + below.long()
    histogram = distance.new_zeros(n_crystals * n_elements**2 * n_fine)
    histogram = histogram.index_add(0, index, amount - upper).index_add(0, index + 1, upper)

    r = SMEARING * torch.arange(1, round(REACH / SMEARING) + 1, device=crystals.device).to(distance)
    fine = step * torch.arange(n_fine, device=crystals.device).to(distance)
    gaussian = torch.exp(-0.5 * ((r[None, :] - fine[:, None]) / SMEARING) ** 2)
    gaussian = gaussian / (SMEARING * math.sqrt(2.0 * math.pi))
    density = (histogram.reshape(-1, n_fine) @ gaussian).reshape(n_crystals, n_elements, n_elements, -1)

    # V = N after scaling; sqrt(weight) here makes the scalar product the weighted one.
    counts = _element_counts(crystals, element, n_elements)
    products = counts[:, :, None] * counts[:, None, :]
    volume = crystals.n_atoms.to(distance)[:, None, None]
    present = products > 0
    factor = torch.where(present, volume / products.clamp(min=1.0), torch.zeros_like(products))
    function = (density * factor[..., None] - present[..., None].to(density)) * products.sqrt()[..., None]

    # F_AB = F_BA: keep one, doubled in weight.
    a, b = torch.triu_indices(n_elements, n_elements, device=crystals.device)
    twice = torch.where(a == b, 1.0, math.sqrt(2.0)).to(function)
    vector = (function[:, a, b] * twice[:, None]).flatten(1)
    return vector / vector.norm(dim=1, keepdim=True).clamp(min=1e-12)


def unique(
    crystals: Crystals,
    *,
    energies: Tensor | None = None,
    tolerance: float = SAME_STRUCTURE,
    energy_tolerance: float = math.inf,
    scale: bool = False,
    points: Tensor | None = None,
) -> Tensor:
    """int64 [B]: for each crystal the index of the one that stands for it.

    Crystals are taken in their order, or by ascending `energies` [B] (NaN last, ties in order). One
    whose fingerprint lies within `tolerance` of an earlier representative, and whose energy within
    `energy_tolerance`, joins the first such; any other becomes a representative and is marked with its own
    index: `unique(c) == arange(len(c))` selects the distinct crystals in their order. `points` [B, F] are the
    crystals' fingerprints, where they are known already.
    """
    from scipy.spatial import cKDTree

    n = len(crystals)
    if n == 0:
        return torch.zeros(0, dtype=torch.int64, device=crystals.device)
    points = fingerprints(crystals, scale=scale) if points is None else points
    # A projection on orthonormal axes never lengthens a distance: what is close is found among the
    # few that are close in the leading components, where a search tree still works.
    centred = points - points.mean(0)
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -PROJECTED:]
    projected = (centred @ axes).cpu().numpy()
    full = points.cpu().numpy()
    tree = cKDTree(projected)

    energy = np.zeros(n) if energies is None else energies.detach().cpu().numpy()
    order = np.argsort(energy, kind="stable")
    representative = np.full(n, -1)
    for leader in order.tolist():
        if representative[leader] >= 0:
            continue
        near = np.asarray(tree.query_ball_point(projected[leader], tolerance * (1.0 + 1e-9)))
        near = near[representative[near] < 0]
        near = near[~(np.abs(energy[near] - energy[leader]) > energy_tolerance)]
        same = near[np.linalg.norm(full[near] - full[leader], axis=1) <= tolerance]
        representative[same] = leader
        representative[leader] = leader
    return torch.as_tensor(representative, device=crystals.device)
