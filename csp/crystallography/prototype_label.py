"""The AFLOW label of a crystal's structure type, such as AB3C_cP5_221_a_c_b, by its own definition.

A label has the ratio, species in alphabetical order being A, B, C …; the Pearson symbol, of the primitive
cell for rhombohedral crystals; the number of the space group; and of each species the Wyckoff letters that
its atoms occupy. Of the ways to choose the origin and the axes that with the lowest sum of letters counts
(a = 0, b = 1 …), of those with equal sums the first by species: so are the encyclopedia's labels, nearly all
(M. J. Mehl et al., Comput. Mater. Sci. 136, S1 (2017); D. Hicks et al., npj Comput. Mater. 7, 30 (2021)).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import gcd

import numpy as np

from csp.crystallography.normalizers import normalizer
from csp.crystallography.symmetry import primitive_sites, space_group_symbol, space_groups
from csp.crystallography.wyckoff import LETTERS, crystal_systems
from csp.crystals import Crystals

__all__ = ["prototype_label"]

FAMILIES = "amothhc"  # of the crystal systems, in their order
CENTRINGS = {"P": ("P", 1), "R": ("R", 1), "I": ("I", 2), "C": ("C", 2), "A": ("C", 2), "F": ("F", 4)}


def prototype_label(crystal: Crystals, symprec: float) -> str:
    """The label of one crystal, "" where its symmetry cannot be analysed.

    Args:
        symprec: Å.
    """
    from ase.data import chemical_symbols

    primitive, [sites] = primitive_sites(crystal, symprec)
    (group,) = space_groups(crystal, symprec)
    if not sites or not group:
        return ""
    amounts = Counter(primitive.numbers.tolist())
    divisor = gcd(*amounts.values())
    species = sorted(amounts, key=lambda z: chemical_symbols[z])
    ratio = "".join(
        f"{chr(65 + k)}{n if (n := amounts[z] // divisor) > 1 else ''}" for k, z in enumerate(species)
    )
    lettered = [[LETTERS.index(letter) for z, letter in sites if z == own] for own in species]
    ways = [
        [sorted(renamed[letters].tolist()) for letters in lettered] for renamed in normalizer(group).letter
    ]
    occupied = "_".join(map(_counted, min(ways, key=lambda way: (sum(map(sum, way)), way))))
    return f"{ratio}_{_pearson(group, int(primitive.n_atoms))}_{group}_{occupied}"


def _pearson(group: int, n_primitive: int) -> str:
    family = FAMILIES[int(crystal_systems(np.array([group]))[0])]
    letter, points = CENTRINGS[space_group_symbol(group)[0]]
    return f"{family}{letter}{n_primitive * points}"


def _counted(letters: Sequence[int]) -> str:
    """0, 2, 2 to "a2c"."""
    counts = sorted(Counter(letters).items())
    return "".join(f"{n if n > 1 else ''}{LETTERS[k]}" for k, n in counts)
