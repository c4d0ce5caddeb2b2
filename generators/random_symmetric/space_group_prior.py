"""How probable a space group and a number of formula units are: by a library's frequencies, and by the model.

The model knows formula units of few atoms better than any table, large ones hardly (it is trained on cells of
at most 64 atoms); the table of what the library's crystals with the same amounts have is the other way round.
Their linear opinion pool (Stone, Ann. Math. Stat. 32, 1339 (1961)) has the weight of the model fall with the
size of the formula unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from csp.library.library import Library
from csp.target import Target

__all__ = ["SMOOTHING", "library_prior", "model_weight"]

# the likeliest for the 1,863 ground truths in the validation fold of the Materials Project, rounded
SMOOTHING = 3.0  # entries' worth of the frequencies over all groups
EVEN = 20.0  # atoms in a formula unit for which model and frequencies count the same
STEEPNESS = 3.0
MANY = 3000.0  # entries of a library that is half believed


def library_prior(
    library: Library, target: Target, z: NDArray[np.int64], possible: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """[231, Z]: how often the library's crystals with the target's amounts have which space group and
    formula units z [Z], smoothed with the groups of all entries; adds up to 1 over what is possible [231, Z],
    all 0 if nothing is."""
    if not possible.any():
        return np.zeros(possible.shape)
    overall = np.bincount(library.space_group[library.all_rows()], minlength=231) + 1.0
    odds = np.outer(overall, 1.0 / z) * possible
    odds *= SMOOTHING / odds.sum()
    group, units, count = library.group_z_counts(target)
    np.add.at(odds, (group, np.searchsorted(z, units)), count)
    odds *= possible
    return odds / odds.sum()


def model_weight(n_atoms: NDArray[np.int64] | int, entries: int) -> NDArray[np.float64]:
    """Weight of the learned model against the frequencies of a library with so many entries, [...] in (0, 1),
    for formula units of n_atoms [...]."""
    believed = entries / (entries + MANY)
    return 1.0 - believed / (1.0 + (EVEN / np.asarray(n_atoms, np.float64)) ** STEEPNESS)
