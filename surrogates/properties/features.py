"""What property models know of a crystal: the surrogate's features of its atoms, pooled in several ways.

All of it is intensive: a crystal and a supercell of it have the same features. Mean and spread are taken
at each depth of the network, from the elements alone to what the energy is read from, the largest and the
smallest at the last; beside them stand a few numbers of the whole crystal.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csp.crystallography.neighbours import COVALENT_RADII
from csp.crystals import Crystals
from surrogates.transformer.environments import Environments, environments
from surrogates.transformer.surrogate import Surrogate

__all__ = ["WHOLE", "AtomFeatures", "mean_and_spread", "n_features", "pooled"]

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
        found[rows] = AtomFeatures.of(surrogate, there[rows]).pooled()
    return found.to(crystals.device)


@dataclass(frozen=True, slots=True)
class AtomFeatures:
    """What is pooled: the atoms of B crystals as the surrogate sees them.

    Attributes:
        atoms: A atoms with their neighbours.
        depths: float32 [A, W] each, see `CrystalTransformer.depths`.
        energy: float64 [A, kinds], eV, each atom's part of the surrogate's energies.
    """

    crystals: Crystals
    atoms: Environments
    depths: list[Tensor]
    energy: Tensor

    @classmethod
    def of(cls, surrogate: Surrogate, crystals: Crystals) -> AtomFeatures:
        """Of crystals on the surrogate's device."""
        network = surrogate.network
        atoms = environments(crystals, network.architecture.cutoff, network.radii.dtype)
        depths = network.depths(atoms)
        return cls(crystals, atoms, depths, network.atom_energies(atoms, depths[-1]))

    def pooled(self) -> Tensor:
        """float32 [B, F]."""
        pools = [*(pool for depth in self.depths for pool in mean_and_spread(depth, self.atoms))]
        pools += [
            _extreme(self.depths[-1], self.atoms, "amax"),
            _extreme(self.depths[-1], self.atoms, "amin"),
        ]
        energy, _ = mean_and_spread(self.energy, self.atoms)
        return torch.cat([*pools, _whole(self.crystals), energy.float()], 1)


def mean_and_spread(x: Tensor, atoms: Environments) -> tuple[Tensor, Tensor]:
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
