"""The one canonical description of a crystal, among all that its space group's normaliser makes equivalent.

Of the cosets of the normaliser the one with the smallest sequence of (element, letter) is taken, then that
with the smallest cell parameters, then that with the smallest coordinates; the free origin of a polar group
lies at the first orbit. So two descriptions of one crystal, or of its mirror image, become one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.normalizers import Normalizer, normalizer, position
from csp.crystallography.symmetry import StandardCell, standard_cells
from csp.crystallography.wyckoff import GRID, LETTERS, crystal_systems, wyckoff_table
from csp.crystals import Crystals
from csp.formula import electronegativity_key
from generators.space_group.representation import WyckoffRepresentation, empty, starts

__all__ = ["describe"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

STEPS = 500  # of a coordinate, within which two are one
OFFSET = 0.3137  # keeps 0, 1/4, 1/3 … away from the edges of the steps
LENGTH = 1e-3  # Å, cell parameters within which two are one
EXACT = 1e-3  # Å, by how much atoms may miss their position's form


def describe(crystals: Crystals, symprec: float = 0.05) -> tuple[WyckoffRepresentation, Ints, Counter[str]]:
    """Canonical descriptions, the crystals [B'] that have one, and how many have none by reason.

    Reasons: "not analysed" (no consistent symmetry at this tolerance, Å), "not symmetric" (the analysis
    left atoms off their Wyckoff position).
    """
    order = _electronegativity_places()
    parts, kept, failed = [], [], Counter[str]()
    for b, standard in enumerate(standard_cells(crystals, symprec)):
        if standard is None:
            failed["not analysed"] += 1
            continue
        found = _describe(standard, order)
        if found is None:
            failed["not symmetric"] += 1
            continue
        parts.append(found)
        kept.append(b)
    return (WyckoffRepresentation.cat(parts) if parts else empty()), np.array(kept, dtype=np.int64), failed


def _electronegativity_places() -> Ints:
    """int [119]: the place of each atomic number in the order of formulas."""
    from ase.data import chemical_symbols

    ordered = sorted(range(1, 119), key=lambda z: electronegativity_key(chemical_symbols[z]))
    places = np.zeros(119, dtype=np.int64)
    places[ordered] = np.arange(118)
    return places


def _describe(standard: StandardCell, order: Ints) -> WyckoffRepresentation | None:
    table, group = wyckoff_table(), standard.space_group
    present, amounts = np.unique(standard.numbers, return_counts=True)
    by_place = np.argsort(order[present])
    present, amounts = present[by_place], amounts[by_place]
    z = math.gcd(*amounts.tolist())
    _, atom = np.unique(standard.orbits, return_index=True)
    element = np.array([int(np.flatnonzero(present == n)[0]) for n in standard.numbers[atom]])
    letter = np.array([LETTERS.index(standard.letters[k]) for k in atom])
    back = np.linalg.inv(table.to_primitive[group].numpy())
    conventional = np.linalg.solve(back.T, standard.cell)
    point = _free_coordinates(group, letter, standard.frac[atom] @ back.T, conventional)
    if point is None:
        return None
    rows = int(table.first[group]) + letter
    held = np.bincount(element, table.n_atoms.numpy()[rows], minlength=len(present))
    if (held != amounts).any():
        return None
    element, letter, point, metric = canonical(group, element, letter, point, conventional @ conventional.T)
    return WyckoffRepresentation(
        torch.tensor([group]),
        torch.tensor([z]),
        torch.from_numpy(_parameters(metric)).float()[None],
        starts(torch.tensor([len(present)])),
        torch.from_numpy(present.astype(np.int64)),
        torch.from_numpy((amounts // z).astype(np.int64)),
        starts(torch.tensor([len(letter)])),
        torch.from_numpy(element),
        torch.from_numpy(int(table.first[group]) + letter),
        torch.from_numpy(point).float(),
    )


def _free_coordinates(group: int, letter: Ints, points: Floats, cell: Floats) -> Floats | None:
    """u [K, 3] of positions that hold these points [K, 3] of the conventional cell; None if one misses."""
    table = wyckoff_table()
    own = slice(int(table.first_operation[group]), int(table.first_operation[group + 1]))
    rotations, shifts = table.operation_rotation[own].numpy(), table.operation_translation[own].numpy()
    images = np.einsum("oij,kj->koi", rotations, points) + shifts
    found = np.zeros((len(letter), 3))
    for k, row in enumerate((int(table.first[group]) + letter).tolist()):
        place = position(row)
        local = images[k] - place.shift / GRID
        u = local @ place.pick.T
        miss = local - u @ place.matrix.T
        distance = np.linalg.norm((miss - np.rint(miss)) @ cell, axis=1)
        best = int(distance.argmin())
        if distance[best] > EXACT:
            return None
        found[k] = u[best] % 1.0
    return found


def canonical(
    group: int, element: Ints, letter: Ints, point: Floats, metric: Floats
) -> tuple[Ints, Ints, Floats, Floats]:
    """One of all equivalent descriptions: elements [K], letters [K], points [K, 3], metric [3, 3], Å²."""
    group_of = normalizer(group)
    letters = group_of.letter[:, letter]  # [C, K]
    sites = np.sort(element * len(LETTERS) + letters, axis=1)
    cosets = _smallest_rows(sites)
    metrics = _turned(metric, group_of.rotation[cosets])
    cosets, metrics = _smallest_cells(group, cosets, metrics)
    points = np.einsum("ckij,kj->cki", group_of.linear[cosets][:, letter], point)
    points = (points + group_of.constant[cosets][:, letter] / GRID) % 1.0  # [C', K, 3]
    coset, points, code = _on_asymmetric_units(group_of, element, letters[cosets], points)
    keys = element * len(LETTERS) + letters[cosets][coset]  # [Q, K]
    orders = np.lexsort((code, keys), axis=1)
    code = np.take_along_axis(code, orders, 1)
    best = int(_smallest_rows(code)[0])
    chosen, order = int(coset[best]), orders[best]
    return element[order], letters[cosets][chosen][order], points[best, order], metrics[chosen]


def _on_asymmetric_units(
    group_of: Normalizer, element: Ints, letters: Ints, points: Floats
) -> tuple[Ints, Floats, Ints]:
    """Q ways to write down C crystals of K orbits: which crystal [Q], points [Q, K, 3], their codes [Q, K].

    Each orbit by its smallest point; in polar groups with the origin at each orbit that may be first.
    """
    coset = np.arange(len(points))
    origin = np.full(len(points), -1)
    if group_of.polar.any():
        coset, origin, points = _origins(group_of, element, letters, points)
    result, code = np.empty_like(points), np.empty(points.shape[:2], dtype=np.int64)
    own = letters[coset]
    for which in np.unique(own):
        q, k = np.nonzero(own == which)
        result[q, k], code[q, k] = _smallest_points(group_of.same[which], points[q, k])
    placed = np.flatnonzero(origin >= 0)  # the first orbit stays at the point that the origin was put on
    result[placed, origin[placed]] = points[placed, origin[placed]] % 1.0
    code[placed, origin[placed]] = _code(points[placed, origin[placed]])
    return coset, result, code


def _origins(group_of: Normalizer, element: Ints, letters: Ints, points: Floats) -> tuple[Ints, Ints, Floats]:
    """The crystals with every atom that can be the first as the origin along the polar axes: which
    crystal [Q], which orbit is first [Q], points [Q, K, 3]. Only those whose first point is smallest."""
    keys = element * len(LETTERS) + letters
    coset, orbit = np.nonzero(keys == keys.min())
    which = int(letters[coset[0], orbit[0]])
    linear, constant = group_of.same[which]
    images = np.einsum("mij,qj->qmi", linear, points[coset, orbit]) + constant / GRID
    kept = np.where(group_of.polar, 0.0, images)
    code = _code(kept)
    q, m = np.nonzero(code == code.min())
    shift = np.where(group_of.polar, images[q, m], 0.0)
    moved = points[coset[q]] - shift[:, None]
    moved[np.arange(len(q)), orbit[q]] = kept[q, m]
    return coset[q], orbit[q], moved


def _smallest_points(maps: tuple[Ints, Ints], points: Floats) -> tuple[Floats, Ints]:
    """Of all that mean the same atoms as points [Q, 3] the smallest, and its code [Q]."""
    linear, constant = maps
    images = (np.einsum("mij,qj->qmi", linear, points) + constant / GRID) % 1.0
    code = _code(images)
    best = code.argmin(1)
    rows = np.arange(len(points))
    return images[rows, best], code[rows, best]


def _code(points: Floats) -> Ints:
    """Integers in the lexicographic order of points [..., 3], the same for points nearer than a step."""
    steps = np.floor(points * STEPS + OFFSET).astype(np.int64) % STEPS
    return steps @ np.array([STEPS * STEPS, STEPS, 1])


def _smallest_rows(rows: Ints) -> Ints:
    """Indices of the lexicographically smallest rows [N, K]."""
    kept = np.arange(len(rows))
    for column in rows.T:
        if len(kept) == 1:
            break
        kept = kept[column[kept] == column[kept].min()]
    return kept


def _turned(metric: Floats, rotation: Ints) -> Floats:
    """Metrics [C, 3, 3] after the changes of axes rotation [C, 3, 3]: N⁻ᵀ G N⁻¹."""
    back = np.linalg.inv(rotation)
    return back.transpose(0, 2, 1) @ metric @ back


def _smallest_cells(group: int, cosets: Ints, metrics: Floats) -> tuple[Ints, Floats]:
    """Those with the shortest axes first; of monoclinic cells the shortest and most oblique a and c."""
    system = int(crystal_systems(np.array([group]))[0])
    a, b, c = np.sqrt(np.diagonal(metrics, axis1=1, axis2=2)).T
    keys: Iterable[Floats] = ()
    if system == 1:
        keys = (a + c, metrics[:, 0, 2] / (a * c), a)
    elif system == 2:
        keys = (a, b)
    kept = np.arange(len(cosets))
    for key in keys:
        kept = kept[key[kept] <= key[kept].min() + LENGTH]
    return cosets[kept], metrics[kept]


def _parameters(metric: Floats) -> Floats:
    """a, b, c and cosines of α, β, γ."""
    lengths = np.sqrt(np.diag(metric))
    cosines = metric / np.outer(lengths, lengths)
    return np.array([*lengths, cosines[1, 2], cosines[0, 2], cosines[0, 1]])
