"""The training table of the space-group model: canonical descriptions of a library's crystals, in shards.

Making it needs pymatgen and moyo and a few milliseconds a crystal; reading it numpy and torch only. A shard
is one compressed npz file of plain arrays, whole or not at all; those that exist are not made again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.crystals import Crystals, ranges
from csp.errors import InputError, MissingError
from csp.files import write_arrays, write_json
from csp.library.library import Library
from csp.training.splits import composition_name
from generators.space_group.representation import WyckoffRepresentation
from generators.space_group.tokens import letters_allowed

__all__ = [
    "MAX_ATOMS",
    "MAX_ORBITS",
    "Table",
    "build_table",
    "described",
    "origin_is",
    "origins",
    "read_table",
    "write_shard",
]

SHARD = 4096  # crystals of the library
MAX_ATOMS = 64  # in the primitive cell
MAX_ORBITS = 32
SMALL = {"group": "u1", "z": "u1", "number": "u1", "count": "u1", "element": "u1", "position": "u2"}


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """B described crystals.

    Attributes:
        allowed: int64 [K], letters that could have come at each orbit, as bits
            (`generators.space_group.letters`).
        ids: str [B], names of the crystals in the library.
    """

    representation: WyckoffRepresentation
    allowed: Tensor
    ids: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, chosen: Tensor) -> Table:
        """The chosen crystals: int64 [B'] or bool [B]."""
        chosen = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen
        own = self.representation
        orbits = ranges(own.first_orbit[chosen], own.n_orbits[chosen])
        return Table(own[chosen], self.allowed[orbits], self.ids[chosen.numpy()])

    def compositions(self) -> list[str]:
        """Names as `csp.training.splits.composition_name` gives them."""
        own = self.representation
        number, count, first = own.number.tolist(), own.count.tolist(), own.first_element.tolist()
        return [composition_name(number[a:b], count[a:b]) for a, b in pairwise(first)]


def build_table(
    structures: Path,
    out: Path,
    *,
    shards: range | None = None,
    symprec: float = 0.05,
    log: Callable[[str], None] = print,
) -> Counter[str]:
    """Describe a library, shard by shard of 4,096 crystals.

    Left out are crystals of more than 64 atoms in the primitive cell ("large") or 32 orbits ("many orbits"),
    and those without a description.

    Args:
        shards: Which of them; None: all.
        symprec: Å, of the symmetry analysis.
        log: Gets a line on each shard.

    Returns:
        What became of the crystals.
    """
    library = Library.open(structures)
    out.mkdir(parents=True, exist_ok=True)
    origin_is(out, {"library": library.fingerprint, "symprec": symprec})
    rows = library.all_rows()
    total: Counter[str] = Counter()
    for shard in shards or range(-(-len(rows) // SHARD)):
        path = out / f"shard-{shard:04d}.npz"
        began = time.process_time()
        if not path.exists():
            own = rows[shard * SHARD : (shard + 1) * SHARD]
            write_shard(path, *described(library.crystals(own), library.material_id[own], symprec))
        with np.load(path, allow_pickle=False) as stored:
            counts = Counter(json.loads(str(stored["counts"])))
        total += counts
        spent = time.process_time() - began
        log(f"{path.name}: {dict(counts)}, {spent:.0f} s")
    return total


def read_table(*folders: Path) -> Table:
    """All shards of the folders.

    Raises:
        MissingError: A folder has none.
    """
    paths = []
    for folder in folders:
        paths += (own := sorted(folder.glob("shard-*.npz")))
        if not own:
            raise MissingError(f"There is no table in {folder}; make one with `csp train space-group-data`.")
    tables = [_read(path) for path in paths]
    return Table(
        WyckoffRepresentation.cat([t.representation for t in tables]),
        torch.cat([t.allowed for t in tables]),
        np.concatenate([t.ids for t in tables]),
    )


def described(crystals: Crystals, ids: NDArray[Any], symprec: float) -> tuple[Table, Counter[str]]:
    """The crystals, named `ids` [B], that have a description of a size that is kept, and what became of all;
    see `build_table`."""
    from generators.space_group.canonical import describe

    found, kept, counts = describe(crystals, symprec)
    large, many = found.n_atoms > MAX_ATOMS, found.n_orbits > MAX_ORBITS
    counts["large"] += int(large.sum())
    counts["many orbits"] += int((many & ~large).sum())
    chosen = (~large & ~many).nonzero().flatten()
    counts["described"] += len(chosen)
    found = found[chosen]
    return Table(found, letters_allowed(found), ids[kept[chosen.numpy()]].astype(np.str_)), counts


def write_shard(path: Path, table: Table, counts: Counter[str]) -> None:
    """Write a shard, whole or not at all.

    Args:
        counts: What became of the crystals that it was made from.
    """
    columns = {f.name: getattr(table.representation, f.name).numpy() for f in fields(WyckoffRepresentation)}
    columns = {name: values.astype(SMALL.get(name, values.dtype)) for name, values in columns.items()}
    columns |= {"allowed": table.allowed.numpy().astype(np.uint32), "ids": table.ids}
    write_arrays(path, counts=np.array(json.dumps(counts)), **columns)


def _read(path: Path) -> Table:
    with np.load(path, allow_pickle=False) as stored:
        raw = {name: stored[name] for name in stored.files}

    def tensor(name: str) -> Tensor:
        values = raw[name]
        return torch.from_numpy(values if values.dtype == np.float32 else values.astype(np.int64))

    representation = WyckoffRepresentation(**{f.name: tensor(f.name) for f in fields(WyckoffRepresentation)})
    return Table(representation, tensor("allowed"), raw["ids"])


def origin_is(out: Path, origin: Mapping[str, object]) -> None:
    """One folder holds one table: note what it follows from.

    Raises:
        InputError: One is there of another origin.
    """
    path = out / "origin.json"
    if not path.exists():
        write_json(path, origin)
    elif json.loads(path.read_text(encoding="utf-8")) != origin:
        raise InputError(
            f"The table in {out} is of another library or other settings; choose another folder."
        )


def origins(folder: Path) -> dict[str, Any]:
    """What a table follows from."""
    found: dict[str, Any] = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
    return found
