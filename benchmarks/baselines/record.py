"""What a search of the comparison at equal time is asked, and the record of what it relaxed.

A search is a program of its own: it is told a formula, never the ground truth, searches for a time, and
appends a line to its record for each crystal that it has relaxed. Whoever stops it judges the record.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core_time import core_seconds
from csp.crystals import Crystals
from csp.target import Target

__all__ = ["Asked", "Record", "Relaxed", "asked"]

FILE = "relaxed.jsonl"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search is told.

    Attributes:
        target: The formula, with the largest primitive cell that is to be tried.
        relaxer: Name of the potential that relaxes.
        minutes: Of one core; whoever compares stops the search after them, if it goes on.
        seed: Same seed, same crystals in the same order.
        out: Folder of the search.
        algorithm: Of a program that has several.
    """

    target: Target
    relaxer: str
    minutes: float
    seed: int
    out: Path
    algorithm: str

    @property
    def record(self) -> Record:
        """Where to note what was relaxed."""
        return Record(self.out, os.getpid())


def asked(arguments: list[str] | None = None) -> Asked:
    """What the command line asks.

    Raises:
        InputError: The formula means nothing, or is larger than the cells.
    """
    parser = argparse.ArgumentParser(description="Relaxed crystals go to OUT/" + FILE)
    parser.add_argument("formula")
    parser.add_argument("--relaxer", default="chgnet", help="potential that relaxes")
    parser.add_argument("--max-atoms", type=int, default=16, help="in the primitive cell")
    parser.add_argument("--minutes", type=float, default=10.0, help="of one core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the search")
    parser.add_argument("--algorithm", default="", help="RS or EA, of CrySPY")
    given = parser.parse_args(arguments)
    target = Target.parse(given.formula, max_atoms=given.max_atoms)
    given.out.mkdir(parents=True, exist_ok=True)
    return Asked(target, given.relaxer, given.minutes, given.seed, given.out.absolute(), given.algorithm)


@dataclass(frozen=True, slots=True)
class Relaxed:
    """R relaxed crystals in the order in which they were relaxed.

    Attributes:
        crystals: As relaxed.
        seconds: float64 [R], that cores had worked for the search by then.
        energy: float64 [R], eV/atom.
        converged: bool [R], were the forces small at the end?
    """

    crystals: Crystals
    seconds: NDArray[np.float64]
    energy: NDArray[np.float64]
    converged: NDArray[np.bool_]

    def take(self, wanted: NDArray[np.bool_]) -> Relaxed:
        """Those that are wanted, bool [R]."""
        return Relaxed(
            self.crystals[np.flatnonzero(wanted)],
            self.seconds[wanted],
            self.energy[wanted],
            self.converged[wanted],
        )


@dataclass(frozen=True, slots=True)
class Record:
    """The record in the folder of a search.

    Attributes:
        folder: Of the search.
        process: That began the search; the work of all its descendants counts.
    """

    folder: Path
    process: int

    def add(self, crystals: Crystals, energy: Iterable[float], converged: Iterable[bool]) -> None:
        """Note crystals that have been relaxed just now, energies in eV/atom."""
        seconds = round(core_seconds(self.process), 2)
        lines = []
        for (cell, frac, numbers), e, done in zip(crystals.arrays(), energy, converged, strict=True):
            row = {"seconds": seconds, "energy": float(e), "converged": bool(done)}
            geometry = {"numbers": numbers.tolist(), "cell": cell.tolist(), "frac": frac.tolist()}
            lines.append(json.dumps(row | geometry) + "\n")
        with (self.folder / FILE).open("ab", buffering=0) as file:  # one write: a kill cuts no line in two
            file.write("".join(lines).encode())

    @staticmethod
    def read(folder: Path) -> Relaxed:
        """What a search has noted; nothing where there is no record. A last line that was cut is left out."""
        path = folder / FILE
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        crystals = (
            Crystals.from_arrays(
                *([np.array(row[name]) for row in rows] for name in ("cell", "frac", "numbers"))
            )
            if rows
            else Crystals.empty()
        )
        return Relaxed(
            crystals,
            np.array([row["seconds"] for row in rows], np.float64),
            np.array([row["energy"] for row in rows], np.float64),
            np.array([row["converged"] for row in rows], np.bool_),
        )
