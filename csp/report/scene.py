"""What the page draws of a crystal: atoms, bonds and coordination polyhedra of its conventional cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from csp.report.description import Bond, Description, electronegativity

__all__ = ["colour", "legend", "scene"]

DECIMALS = 4
OPEN = 8  # neighbours at most of an atom whose bonds and polyhedron are drawn: more would hide the crystal
POLAR = 0.3  # by how much less electronegative than its neighbours (Pauling) the centre of a polyhedron is
SHARE = 0.42  # of the covalent radius, of a drawn ball


def scene(crystal: Description) -> dict[str, Any]:
    """JSON values for `page.js`.

    cell: rows a, b, c, Å. elements: [symbol, colour, radius Å]. atoms: [element, x, y, z], fractional, in [0,
    1). bonds: [i, j, image…]. polyhedra: [i, [[j, image…], …], [[corner, corner, corner], …]], of each centre
    the corners and the triangles between them.
    """
    ((cell, frac, _),) = crystal.crystal.arrays()
    symbols = [crystal.sites[k].element for k in crystal.orbit]
    elements = list(dict.fromkeys(site.element for site in crystal.sites))
    inside = np.round(frac % 1.0, DECIMALS) % 1.0
    return {
        "cell": np.round(cell, DECIMALS).tolist(),
        "elements": [[symbol, colour(symbol), _radius(symbol)] for symbol in elements],
        "atoms": [
            [elements.index(symbol), *place] for symbol, place in zip(symbols, inside.tolist(), strict=True)
        ],
        "bonds": [[bond.i, bond.j, *_moved(bond.image, frac, bond.i, bond.j)] for bond in _drawn(crystal)],
        "polyhedra": _polyhedra(crystal, cell, frac),
    }


def legend(crystal: Description) -> list[tuple[str, str]]:
    """(symbol, colour) of each element."""
    return [(symbol, colour(symbol)) for symbol in dict.fromkeys(site.element for site in crystal.sites)]


def colour(symbol: str) -> str:
    """The colour of an element in Jmol, "#rrggbb"."""
    from ase.data import atomic_numbers
    from ase.data.colors import jmol_colors

    return "#" + "".join(f"{round(255 * part):02x}" for part in jmol_colors[atomic_numbers[symbol]])


def _radius(symbol: str) -> float:
    from ase.data import atomic_numbers, covalent_radii

    return round(SHARE * float(covalent_radii[atomic_numbers[symbol]]), 3)


def _drawn(crystal: Description) -> list[Bond]:
    """Bonds that leave the crystal visible."""
    open_ = [site.coordination <= OPEN for site in crystal.sites]
    return [bond for bond in crystal.bonds if open_[crystal.orbit[bond.i]] and open_[crystal.orbit[bond.j]]]


def _polyhedra(crystal: Description, cell: np.ndarray, frac: np.ndarray) -> list[list[Any]]:
    """Around cations with four to `OPEN` neighbours that do not lie in a plane."""
    from scipy.spatial import ConvexHull, QhullError

    corners: dict[int, list[tuple[int, tuple[int, int, int]]]] = {}
    for bond in crystal.bonds:
        corners.setdefault(bond.i, []).append((bond.j, bond.image))
        corners.setdefault(bond.j, []).append((bond.i, (-bond.image[0], -bond.image[1], -bond.image[2])))
    found = []
    for centre, around in sorted(corners.items()):
        site = crystal.sites[crystal.orbit[centre]]
        mine = electronegativity(site.element)
        partners = [
            (j, image)
            for j, image in around
            if electronegativity(crystal.sites[crystal.orbit[j]].element) > mine + POLAR
        ]
        if not 4 <= len(partners) <= OPEN or len(partners) < len(around):
            continue
        points = np.array([(frac[j] + image - frac[centre]) @ cell for j, image in partners])
        try:
            triangles = ConvexHull(points).simplices
        except QhullError:  # a square, or two on one place
            continue
        found.append(
            [
                centre,
                [[j, *_moved(image, frac, centre, j)] for j, image in partners],
                sorted(sorted(corner) for corner in triangles.tolist()),
            ]
        )
    return found


def _moved(image: Sequence[int], frac: np.ndarray, i: int, j: int) -> list[int]:
    """The image of atom j, as seen from atom i, once both are moved into [0, 1)."""
    shift = np.floor(np.round(frac[[i, j]], DECIMALS)).astype(int)
    return (np.array(image) + shift[1] - shift[0]).tolist()
