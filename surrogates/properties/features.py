"""What property models know of a crystal: the surrogate's features of its atoms, pooled in several ways.

All of it is intensive: a crystal and a supercell of it have the same features. Mean and spread are taken
at each depth of the network, from the elements alone to what the energy is read from, the largest and the
smallest at the last; beside them stand a few numbers of the whole crystal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from csp.crystallography.neighbours import COVALENT_RADII
from csp.crystals import Crystals
from surrogates.transformer.environments import Environments, environments
from surrogates.transformer.surrogate import Surrogate

__all__ = ["WHOLE", "n_features", "pooled"]

WHOLE = 3  # features of the whole crystal: ln volume per atom, ln atomic number per volume, ln filling


def n_features(surrogate: Surrogate) -> int:
    """F of `pooled`."""
    a = surrogate.network.architecture
    return a.width * (2 * (a.layers + 2) + 2) + WHOLE + len(a.kinds)


def pooled(surrogate: Surrogate, crystals: Crystals) -> Tensor:
    """float32 [B, F]: mean and standard deviation of the atoms' features at each depth, largest and smallest
    of the last, then the whole crystal's numbers and the surrogate's energies, eV/atom, of each head.

    Raises:
        InputError: For an element that the surrogate was not trained on.
    """
    surrogate.check_elements(crystals)
    there = crystals.to(surrogate.device)
    found = torch.zeros(len(there), n_features(surrogate), device=surrogate.device)
    for rows in surrogate.chunks(there, there.n_atoms):
        part = there[rows]
        atoms = environments(part, surrogate.network.architecture.cutoff, surrogate.network.radii.dtype)
        depths = surrogate.network.depths(atoms)
        energy = surrogate.network.energies(atoms, depths[-1]) / part.n_atoms[:, None]
        pools = [*(pool for depth in depths for pool in _mean_and_spread(depth, atoms))]
        pools += [_extreme(depths[-1], atoms, "amax"), _extreme(depths[-1], atoms, "amin")]
        found[rows] = torch.cat([*pools, _whole(part), energy.float()], 1)
    return found.to(crystals.device)


def _mean_and_spread(x: Tensor, atoms: Environments) -> tuple[Tensor, Tensor]:
    """float [B, W] each; the spread of equal atoms is 0."""
    count = torch.bincount(atoms.crystal, minlength=atoms.n_crystals)[:, None]
    mean = x.new_zeros(atoms.n_crystals, x.shape[1]).index_add(0, atoms.crystal, x) / count
    away = (x - mean[atoms.crystal]) ** 2
    return mean, (torch.zeros_like(mean).index_add(0, atoms.crystal, away) / count).sqrt()


def _extreme(x: Tensor, atoms: Environments, which: str) -> Tensor:
    index = atoms.crystal[:, None].expand(-1, x.shape[1])
    empty = x.new_zeros(atoms.n_crystals, x.shape[1])
    return empty.scatter_reduce(0, index, x, which, include_self=False)


def _whole(crystals: Crystals) -> Tensor:
    """float32 [B, 3]: logarithms of volume per atom (Å³), of atomic number per volume, and of the share of
    the volume that spheres of the covalent radii would fill."""
    volume = crystals.volumes
    radii = COVALENT_RADII.nan_to_num(1.6).to(crystals.device)[crystals.numbers]
    spheres, electrons = torch.zeros_like(volume), torch.zeros_like(volume)
    spheres.index_add_(0, crystals.batch, (4.0 / 3.0 * torch.pi * radii**3).to(volume))
    electrons.index_add_(0, crystals.batch, crystals.numbers.to(volume))
    rows = [torch.log(volume / crystals.n_atoms), torch.log(electrons / volume), torch.log(spheres / volume)]
    return torch.stack(rows, 1).float()
