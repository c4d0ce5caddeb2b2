"""The one currency of the engine: a batch of periodic crystals as concatenated tensors.

Python objects per candidate (pymatgen `Structure`, ASE `Atoms`) exist only at the borders, and
the conversions to and from them are here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

__all__ = ["Crystals", "ranges", "run_starts"]

ID_RESOLUTION = 1e-6  # Å for cells, fraction of a lattice vector for coordinates


def run_starts(lengths: Tensor) -> Tensor:
    """int64 [N]: where each of N runs of these lengths begins when they stand one after the other."""
    return torch.cumsum(lengths, 0) - lengths


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate the integer ranges [start, start + length).

    The vectorised form of a loop of `arange` calls, from which all ragged indexing in the engine is built.

    Args:
        starts: int [N], first integer of each range.
        lengths: int [N], length of each range.

    Returns:
        int [sum(lengths)].
    """
    ends = torch.cumsum(lengths, 0)
    total = int(ends[-1]) if len(ends) else 0
    shift = torch.repeat_interleave(starts - (ends - lengths), lengths, output_size=total)
    return torch.arange(total, device=starts.device) + shift


@dataclass(frozen=True, slots=True, eq=False)
class Crystals:
    """B periodic crystals with A atoms in all; no padding.

    Attributes:
        cell: float [B, 3, 3], Å; rows are the lattice vectors a, b, c.
        frac: float [A, 3], fractional coordinates (Cartesian position = frac @ cell).
        numbers: int64 [A], atomic numbers.
        offsets: int64 [B + 1], crystal b owns the atoms offsets[b]:offsets[b + 1].

    Structures are stored in float64; models choose their own precision. Instances are immutable
    by convention: no function of the engine writes into the tensors of a `Crystals` it was given.
    """

    cell: Tensor
    frac: Tensor
    numbers: Tensor
    offsets: Tensor

    # -- making ---------------------------------------------------------------------------------

    @classmethod
    def empty(cls, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64) -> Crystals:
        """A batch of no crystals."""
        return cls(
            torch.zeros((0, 3, 3), device=device, dtype=dtype),
            torch.zeros((0, 3), device=device, dtype=dtype),
            torch.zeros(0, device=device, dtype=torch.int64),
            torch.zeros(1, device=device, dtype=torch.int64),
        )

    @classmethod
    def from_arrays(cls, cells: Any, fracs: Sequence[Any], numbers: Sequence[Any]) -> Crystals:
        """One crystal per entry.

        Args:
            cells: B arrays [3, 3], Å; rows are the lattice vectors.
            fracs: B arrays [n, 3], fractional coordinates.
            numbers: B arrays [n], atomic numbers.
        """
        if len(fracs) == 0:
            return cls.empty()
        counts = np.array([len(n) for n in numbers])
        return cls(
            torch.as_tensor(np.asarray(cells, dtype=np.float64).reshape(-1, 3, 3)),
            torch.as_tensor(np.concatenate([np.asarray(f, np.float64).reshape(-1, 3) for f in fracs])),
            torch.as_tensor(np.concatenate([np.asarray(n, np.int64) for n in numbers])),
            torch.as_tensor(np.concatenate([[0], np.cumsum(counts)])),
        )

    @classmethod
    def from_structures(cls, structures: Iterable[Structure]) -> Crystals:
        """From ordered pymatgen structures."""
        listed = list(structures)
        return cls.from_arrays(
            [s.lattice.matrix for s in listed],
            [s.frac_coords for s in listed],
            [s.atomic_numbers for s in listed],
        )

    @classmethod
    def from_atoms(cls, atoms: Iterable[Atoms]) -> Crystals:
        """From ASE atoms that are periodic in all three directions."""
        listed = list(atoms)
        return cls.from_arrays(
            [a.cell.array for a in listed],
            [a.get_scaled_positions(wrap=False) for a in listed],
            [a.numbers for a in listed],
        )

    @classmethod
    def cat(cls, parts: Sequence[Crystals]) -> Crystals:
        """All crystals of the parts, in order."""
        parts = [p for p in parts if len(p)] or list(parts[:1])
        if not parts:
            return cls.empty()
        counts = torch.cat([p.n_atoms for p in parts])
        return cls(
            torch.cat([p.cell for p in parts]),
            torch.cat([p.frac for p in parts]),
            torch.cat([p.numbers for p in parts]),
            torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)]),
        )

    # -- shape ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.cell.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.cell.device

    @property
    def n_atoms(self) -> Tensor:
        """int64 [B]: atoms in each cell."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def batch(self) -> Tensor:
        """int64 [A]: the crystal that each atom belongs to."""
        index = torch.arange(len(self), device=self.device)
        return torch.repeat_interleave(index, self.n_atoms, output_size=self.frac.shape[0])

    @property
    def positions(self) -> Tensor:
        """float [A, 3]: Cartesian positions, Å."""
        return torch.einsum("ai,aij->aj", self.frac, self.cell[self.batch])

    @property
    def volumes(self) -> Tensor:
        """float [B]: Å³ per cell, positive whatever the handedness."""
        return torch.linalg.det(self.cell).abs()

    # -- choosing and changing --------------------------------------------------------------------

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray | Tensor) -> Crystals:
        """The chosen crystals as a batch (an integer gives a batch of one)."""
        if isinstance(index, int):
            index = [range(len(self))[index]]
        if isinstance(index, slice):
            index = range(len(self))[index]
        chosen = torch.as_tensor(
            index if isinstance(index, (Tensor, np.ndarray)) else list(index), device=self.device
        )
        chosen = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen.long()
        counts = self.n_atoms[chosen]
        atoms = ranges(self.offsets[chosen], counts)
        return Crystals(
            self.cell[chosen],
            self.frac[atoms],
            self.numbers[atoms],
            torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)]),
        )

    def with_geometry(self, cell: Tensor, frac: Tensor) -> Crystals:
        """The same atoms in other cells and places."""
        return replace(self, cell=cell, frac=frac)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Crystals:
        """The same crystals on another device or in another precision; None keeps what is."""
        return Crystals(
            self.cell.to(device=device, dtype=dtype),
            self.frac.to(device=device, dtype=dtype),
            self.numbers.to(device=device),
            self.offsets.to(device=device),
        )

    def wrapped(self) -> Crystals:
        """All atoms inside the cell: fractional coordinates in [0, 1)."""
        frac = self.frac - self.frac.floor()
        return replace(self, frac=torch.where(frac >= 1.0, torch.zeros_like(frac), frac))

    def scaled_to(self, volumes: Tensor) -> Crystals:
        """The same crystals blown up or shrunk isotropically to the given volumes [B], Å³."""
        factor = (volumes.to(self.cell) / self.volumes) ** (1.0 / 3.0)
        return replace(self, cell=self.cell * factor[:, None, None])

    # -- identity ---------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """A 128-bit hash of each crystal's contents, 32 hexadecimal digits.

        Numbers, cell and wrapped fractional coordinates are hashed after rounding at 1e-6.
        """
        cell = np.rint(self.cell.double().cpu().numpy() / ID_RESOLUTION).astype("<i8")
        frac = np.rint(self.frac.double().cpu().numpy() / ID_RESOLUTION).astype("<i8")
        frac %= round(1 / ID_RESOLUTION)
        numbers = self.numbers.cpu().numpy().astype("<i8")
        offsets = self.offsets.tolist()
        ids = []
        for b in range(len(self)):
            lo, hi = offsets[b], offsets[b + 1]
            digest = hashlib.blake2b(digest_size=16)
            digest.update(numbers[lo:hi].tobytes())
            digest.update(cell[b].tobytes())
            digest.update(frac[lo:hi].tobytes())
            ids.append(digest.hexdigest())
        return ids

    # -- borders ----------------------------------------------------------------------------------

    def arrays(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(cell [3, 3], frac [n, 3], numbers [n]) of each crystal, NumPy, float64 and int64."""
        cell = self.cell.detach().double().cpu().numpy()
        frac = self.frac.detach().double().cpu().numpy()
        numbers = self.numbers.cpu().numpy()
        offsets = self.offsets.tolist()
        return [
            (cell[b], frac[offsets[b] : offsets[b + 1]], numbers[offsets[b] : offsets[b + 1]])
            for b in range(len(self))
        ]

    def structures(self) -> list[Structure]:
        """As pymatgen structures."""
        from pymatgen.core import Lattice, Structure

        return [Structure(Lattice(c), n.tolist(), f) for c, f, n in self.arrays()]

    def atoms(self) -> list[Atoms]:
        """As ASE atoms, periodic in all directions."""
        from ase import Atoms

        return [Atoms(numbers=n, scaled_positions=f, cell=c, pbc=True) for c, f, n in self.arrays()]
