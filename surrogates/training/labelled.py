"""Labelled crystals on disk and in memory, and what must be kept out of training.

A shard is one compressed npz file of plain arrays: lengths in Å and energies in eV as float32,
integers as small as they go. Reading needs numpy, torch and pyarrow only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csp.crystals import Crystals, ranges
from csp.errors import InputError, MissingError
from csp.files import write_arrays, write_json
from csp.library.energies import read_energies
from csp.library.schema import library_schema
from csp.library.tables import read_table
from csp.training.splits import hashed

__all__ = [
    "Labelled",
    "compositions",
    "hashed",
    "read_formation_energies",
    "read_shard",
    "read_shards",
    "read_structures",
    "read_teacher",
    "write_shard",
    "write_teacher",
]

TEACHER = "labels.json"  # beside the shards


@dataclass(frozen=True, slots=True)
class Labelled:
    """B crystals with energies of one kind.

    Attributes:
        ids: Name of each crystal: the library's id, or how it was made.
        energy: float64 [B], eV per cell.
        forces: float32 [A, 3], eV/Å, or None.
        stress: float32 [B, 3, 3] eV/Å³, positive = tension, or None.
    """

    crystals: Crystals
    ids: list[str]
    energy: Tensor
    forces: Tensor | None = None
    stress: Tensor | None = None

    def __len__(self) -> int:
        return len(self.crystals)

    def __getitem__(self, index: Any) -> Labelled:
        chosen = torch.as_tensor(index)
        chosen = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen.long()
        atoms = ranges(self.crystals.offsets[chosen], self.crystals.n_atoms[chosen])
        return Labelled(
            self.crystals[chosen],
            [self.ids[b] for b in chosen.tolist()],
            self.energy[chosen],
            None if self.forces is None else self.forces[atoms],
            None if self.stress is None else self.stress[chosen],
        )

    def to(self, device: torch.device) -> Labelled:
        return Labelled(
            self.crystals.to(device),
            self.ids,
            self.energy.to(device),
            None if self.forces is None else self.forces.to(device),
            None if self.stress is None else self.stress.to(device),
        )

    @staticmethod
    def cat(parts: Sequence[Labelled]) -> Labelled:
        """All crystals of the parts, in order; either all parts have forces and stress or none does."""
        forces = [p.forces for p in parts if p.forces is not None]
        stress = [p.stress for p in parts if p.stress is not None]
        if {len(forces), len(stress)} - {0, len(parts)}:
            raise InputError("Crystals with and without forces cannot be joined.")
        return Labelled(
            Crystals.cat([p.crystals for p in parts]),
            [name for p in parts for name in p.ids],
            torch.cat([p.energy for p in parts]),
            torch.cat(forces) if forces else None,
            torch.cat(stress) if stress else None,
        )


# -- compositions -----------------------------------------------------------------------------------


def compositions(crystals: Crystals) -> list[str]:
    """The reduced composition of each crystal as "8:3 22:1 38:1" (atomic number : count)."""
    numbers, offsets = crystals.numbers.cpu().numpy(), crystals.offsets.tolist()
    names = []
    for lo, hi in pairwise(offsets):
        z, n = np.unique(numbers[lo:hi], return_counts=True)
        n //= np.gcd.reduce(n)
        names.append(" ".join(f"{a}:{b}" for a, b in zip(z.tolist(), n.tolist(), strict=True)))
    return names


# -- the library's tables ---------------------------------------------------------------------------


def read_structures(path: Path, only: Iterable[str] | None = None) -> tuple[Crystals, list[str]]:
    """Crystals and their ids from a Parquet table (material_id, cell, numbers, frac_coords).

    Args:
        only: These ids, in the table's order; None: all.

    Raises:
        MissingError: There is no such table.
        InputError: It is no table of crystals.
    """
    schema = library_schema()
    columns = {name: schema.field(name).type for name in ("material_id", "cell", "numbers", "frac_coords")}
    table = read_table(path, columns, "table of crystals")
    table = table.combine_chunks()
    ids = table["material_id"].to_pylist()
    numbers = table["numbers"].chunk(0)
    offsets = numbers.offsets.to_numpy().astype(np.int64)
    crystals = Crystals(
        torch.from_numpy(table["cell"].chunk(0).flatten().to_numpy().astype(np.float64).reshape(-1, 3, 3)),
        torch.from_numpy(
            table["frac_coords"].chunk(0).flatten().to_numpy().astype(np.float64).reshape(-1, 3)
        ),
        torch.from_numpy(numbers.flatten().to_numpy().astype(np.int64)),
        torch.from_numpy(offsets - offsets[0]),
    )
    if only is not None:
        wanted = set(only)
        rows = [row for row, name in enumerate(ids) if name in wanted]
        crystals, ids = crystals[rows], [ids[row] for row in rows]
    return crystals, ids


def read_formation_energies(
    structures: Path, energies: Path, split: str, exclude: Iterable[str] = ()
) -> Labelled:
    """The crystals of a split (train, val, test) with their DFT formation energies.

    Args:
        exclude: Compositions, as `compositions` writes them, of which no entry is returned.
    """
    per_atom = read_energies(energies, split)
    crystals, ids = read_structures(structures, per_atom)
    energy = torch.tensor([per_atom[name] for name in ids], dtype=torch.float64) * crystals.n_atoms
    excluded = set(exclude)
    allowed = [name not in excluded for name in compositions(crystals)]
    return Labelled(crystals, ids, energy)[torch.tensor(allowed)]


# -- shards -----------------------------------------------------------------------------------------


def write_teacher(folder: Path, name: str) -> None:
    """Say in a folder of shards who labels them.

    Raises:
        InputError: Another teacher labelled what is there.
    """
    if (folder / TEACHER).is_file() and (before := read_teacher(folder)) != name:
        raise InputError(
            f"{folder} holds shards labelled by {before}; name another folder for those by {name}."
        )
    write_json(folder / TEACHER, {"teacher": name})


def read_teacher(folder: Path) -> str:
    """Who labelled the shards in a folder.

    Raises:
        MissingError: It does not say.
    """
    path = folder / TEACHER
    if not path.is_file():
        raise MissingError(f"{path} is missing: `csp train labels` says in it who labelled the shards.")
    return str(json.loads(path.read_text(encoding="utf-8"))["teacher"])


def write_shard(path: Path, labelled: Labelled) -> None:
    """Write one shard, whole or not at all."""
    crystals = labelled.crystals
    arrays: dict[str, Any] = {
        "cell": crystals.cell.numpy().astype(np.float32),
        "frac": crystals.wrapped().frac.numpy().astype(np.float32),
        "numbers": crystals.numbers.numpy().astype(np.uint8),
        "n_atoms": crystals.n_atoms.numpy().astype(np.uint16),
        "energy": labelled.energy.numpy().astype(np.float64),
        "ids": np.array(labelled.ids, dtype=np.str_),
    }
    if labelled.forces is not None and labelled.stress is not None:
        arrays["forces"] = labelled.forces.numpy().astype(np.float32)
        arrays["stress"] = labelled.stress.numpy().astype(np.float32)
    write_arrays(path, **arrays)


def read_shards(folder: Path, split: str) -> Labelled:
    """All shards of a split in a folder, joined.

    Raises:
        MissingError: There are none.
    """
    found = sorted(folder.glob(f"{split}-*.npz"))
    if not found:
        raise MissingError(f"There are no shards {split}-*.npz in {folder}.")
    return Labelled.cat([read_shard(path) for path in found])


def read_shard(path: Path) -> Labelled:
    """Read one shard."""
    with np.load(path, allow_pickle=False) as arrays:
        n_atoms = arrays["n_atoms"].astype(np.int64)
        crystals = Crystals(
            torch.from_numpy(arrays["cell"].astype(np.float64)),
            torch.from_numpy(arrays["frac"].astype(np.float64)),
            torch.from_numpy(arrays["numbers"].astype(np.int64)),
            torch.from_numpy(np.concatenate([[0], np.cumsum(n_atoms)])),
        )
        with_forces = "forces" in arrays
        return Labelled(
            crystals,
            arrays["ids"].tolist(),
            torch.from_numpy(arrays["energy"]),
            torch.from_numpy(arrays["forces"]) if with_forces else None,
            torch.from_numpy(arrays["stress"]) if with_forces else None,
        )
