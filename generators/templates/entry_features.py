"""How much the structure of a library entry counts, whatever its chemistry.

Many entries are metastable: one of twenty polymorphs, of unusual density, in a huge cell. A library need
not mark which; these features of an entry do, and their weights are learned with the metric.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from csp.library.library import Library
from csp.library.volume import VolumePrior
from generators.templates.prototypes import Prototypes

__all__ = ["UNITS", "features"]

UNITS = 3  # place among the features


def features(
    library: Library, prototypes: Prototypes, anonymous: tuple[int, ...], volume: VolumePrior
) -> Tensor:
    """float [n, 5] of each entry: ln of the entries of its composition; by how much ln V is above and
    below the learned volume; ln of the formula units in the stored cell; 1 in the space group P1."""
    rows, n = prototypes.rows, sum(anonymous)
    if len(rows) == 0:
        return torch.zeros(0, 5)
    _, kind, amount = np.unique(
        library.elements(anonymous)[np.searchsorted(library.rows(anonymous), rows)],
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    counts = torch.tensor(anonymous).expand(len(rows), -1)
    expected = volume.volumes(torch.from_numpy(prototypes.elements), counts)
    units = library.n_atoms[rows] / n
    cells = library.crystals(rows)
    excess = (cells.volumes / torch.from_numpy(units) / expected).log()
    return torch.stack(
        [
            torch.from_numpy(amount[kind.reshape(-1)]).log(),
            excess.clamp(min=0.0),
            (-excess).clamp(min=0.0),
            torch.from_numpy(units).log(),
            torch.from_numpy(library.space_group[rows] == 1),
        ],
        1,
    ).float()
