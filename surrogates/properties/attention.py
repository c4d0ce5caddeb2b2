"""Which neighbours count: what each atom's attention goes to, by shells of neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import chemical_symbols
from torch import Tensor

from csp.property_value import Shell
from surrogates.transformer.environments import Environments
from surrogates.transformer.network import CrystalTransformer

__all__ = ["shells"]

APART = 0.2  # Å between two shells of one element
LEAST = 0.01  # of the attention; shells with less are not told


@torch.no_grad()
def shells(
    network: CrystalTransformer, atoms: Environments, depths: Sequence[Tensor]
) -> list[tuple[Shell, ...]]:
    """Of each of A atoms its shells of neighbours, the nearest first; distances in Å.

    The attention is the mean over all layers and heads; what the null key takes, which looks at no neighbour,
    is missing to 1.

    Args:
        depths: float [A, W] each, of these atoms, as `CrystalTransformer.depths` gives them.
    """
    attention = network.attention(atoms, depths)
    distance = atoms.vector.norm(dim=-1)
    number = atoms.numbers[atoms.neighbour]
    of_atoms = zip(distance.tolist(), number.tolist(), attention.tolist(), strict=True)
    return [_of_atom(*one) for one in of_atoms]


def _of_atom(distance: list[float], number: list[int], attention: list[float]) -> tuple[Shell, ...]:
    gathered: list[list[int]] = []
    for k in sorted(range(len(distance)), key=lambda k: (number[k], distance[k])):
        if attention[k] <= 0:  # at the cutoff, or no neighbour at all
            continue
        last = gathered[-1][-1] if gathered else k
        if gathered and number[last] == number[k] and distance[k] - distance[last] < APART:
            gathered[-1].append(k)
        else:
            gathered.append([k])
    found = [
        Shell(
            chemical_symbols[number[own[0]]],
            len(own),
            sum(distance[k] for k in own) / len(own),
            sum(attention[k] for k in own),
        )
        for own in gathered
    ]
    told = [shell for shell in found if shell.attention >= LEAST]
    return tuple(sorted(told, key=lambda shell: shell.distance))
