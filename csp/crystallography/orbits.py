"""Orbits of symmetry-equivalent atoms: what is the same but for an operation needs to be computed once.

A model that is given orbits computes one site of each. The features of the other atoms are those of their
site, turned by the operation between them. The energy is the sum over sites of multiplicity × site energy.
Its gradient is not yet that of all atoms, for the environments of the others are left out; but it has the
same projection on the invariant vectors, and the gradient of the whole energy is invariant: averaging over
the group gives forces and stress exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csp.crystallography.operations import SymmetryOperations
from csp.crystals import Crystals, ranges, run_starts

__all__ = ["Orbits"]


@dataclass(frozen=True, slots=True, eq=False)
class Orbits:
    """The orbits of a batch of B crystals with A atoms, R of them sites: the first atom of each orbit.

    Attributes:
        operations: Which the crystals keep exactly; None: no atom is taken for another's equivalent.
        sites: int64 [R], ascending, the first atom of each orbit.
        site_of: int64 [A], place in `sites` of each atom's site.
        multiplicity: int64 [R], atoms of the orbit.
        to_site: int64 [A], place among the operations of one that takes the atom to its site.
        n_sites: int64 [B], sites of each crystal.
    """

    operations: SymmetryOperations | None
    sites: Tensor
    site_of: Tensor
    multiplicity: Tensor
    to_site: Tensor
    n_sites: Tensor

    @classmethod
    def of(cls, crystals: Crystals, operations: SymmetryOperations | None = None) -> Orbits:
        """The orbits under operations that `crystals` keep exactly, see `SymmetryOperations.symmetrize`."""
        atoms = torch.arange(len(crystals.numbers), device=crystals.device)
        if operations is None:
            return cls(None, atoms, atoms, torch.ones_like(atoms), torch.zeros_like(atoms), crystals.n_atoms)
        first = atoms.scatter_reduce(0, operations.source, operations.target, "amin")
        sites, site_of, multiplicity = torch.unique(first, return_inverse=True, return_counts=True)
        arrives = (operations.target == first[operations.source]).nonzero().flatten()
        to_site = torch.full_like(atoms, len(operations.rotation)).scatter_reduce(
            0, operations.source[arrives], operations.image_of[arrives], "amin"
        )
        n_sites = torch.bincount(crystals.batch[sites], minlength=len(crystals))
        return cls(operations, sites, site_of, multiplicity, to_site, n_sites)

    @property
    def trivial(self) -> bool:
        """Is every atom its own site?"""
        return len(self.sites) == len(self.site_of)

    @property
    def turn(self) -> Tensor:
        """float [A, 3, 3]: Q that takes Cartesian row vectors v around the site to v Q around the atom."""
        assert self.operations is not None
        return self.operations.cartesian[self.to_site].mT

    def image(self, to_site_of: Tensor, atom: Tensor) -> Tensor:
        """int64 [N]: where the operation that takes the atoms `to_site_of` [N] to their sites takes the atoms
        `atom` [N], each of the same crystal as its partner."""
        found = self.operations
        if found is None:
            return atom
        operation = self.to_site[to_site_of]
        crystal = found.crystal_of[operation]
        counts = found.n_atoms
        images = torch.repeat_interleave(counts, found.n_operations)
        first_image = run_starts(images)
        first_atom = run_starts(counts)
        return found.target[first_image[operation] + atom - first_atom[crystal]]

    def project(self, forces: Tensor, stress: Tensor) -> tuple[Tensor, Tensor]:
        """Forces [A, 3] and stress [B, 3, 3] projected on what the operations allow: those of the whole, also
        from those by the environments of the sites alone.

        As `SymmetryOperations.symmetrize_forces` does, but the mean is taken at the sites only and turned
        from there.
        """
        if self.operations is None:
            return forces, stress
        operations = self.operations.to(forces.device, forces.dtype)
        at = self.site_of[operations.target]
        arrives = (self.sites[at] == operations.target).nonzero().flatten()
        turned = _turned(
            forces[operations.source[arrives]], operations.cartesian[operations.image_of[arrives]]
        )
        total = forces.new_zeros((len(self.sites), 3)).index_add_(0, at[arrives], turned)
        mean = total / torch.bincount(at[arrives], minlength=len(self.sites))[:, None]
        return _turned(mean[self.site_of], self.turn.to(forces)), operations.symmetrize_stress(stress)

    def __getitem__(self, index: Tensor) -> Orbits:
        """Those of the chosen crystals: int64 or bool [B'], as `Crystals` is indexed."""
        chosen = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        n_atoms = torch.zeros_like(self.n_sites).index_add_(
            0,
            torch.repeat_interleave(torch.arange(len(self.n_sites), device=index.device), self.n_sites),
            self.multiplicity,
        )
        atoms, sites = _rows(n_atoms, chosen), _rows(self.n_sites, chosen)
        operations, to_site = None, self.to_site[atoms]
        if self.operations is not None:
            operations = self.operations[chosen]
            moved = run_starts(operations.n_operations) - run_starts(self.operations.n_operations)[chosen]
            to_site = to_site + torch.repeat_interleave(moved, n_atoms[chosen])
        site_shift = run_starts(self.n_sites[chosen]) - run_starts(self.n_sites)[chosen]
        atom_shift = run_starts(n_atoms[chosen]) - run_starts(n_atoms)[chosen]
        return Orbits(
            operations,
            self.sites[sites] + torch.repeat_interleave(atom_shift, self.n_sites[chosen]),
            self.site_of[atoms] + torch.repeat_interleave(site_shift, n_atoms[chosen]),
            self.multiplicity[sites],
            to_site,
            self.n_sites[chosen],
        )

    def to(self, device: torch.device | str) -> Orbits:
        rest = (self.sites, self.site_of, self.multiplicity, self.to_site, self.n_sites)
        operations = None if self.operations is None else self.operations.to(device)
        return Orbits(operations, *(tensor.to(device) for tensor in rest))


def _rows(counts: Tensor, chosen: Tensor) -> Tensor:
    """Rows of the chosen groups, whose lengths are `counts`."""
    return ranges(run_starts(counts)[chosen], counts[chosen])


def _turned(vectors: Tensor, turns: Tensor) -> Tensor:
    """Row vectors [N, 3] times matrices [N, 3, 3]."""
    return (vectors[:, :, None] * turns).sum(1)
