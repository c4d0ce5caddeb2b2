"""The 200 compositions that the surrogate is judged on: no crystal of them is in any training data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from csp.library.tables import read_table
from csp.target import Target
from surrogates.training.labelled import compositions, read_structures

__all__ = ["FILE", "MAX_ATOMS", "amounts", "benchmark_compositions", "choose", "target_of", "unseen"]

FILE = Path(__file__).parents[1] / "compositions200.txt"
BENCHMARK = Path(__file__).parents[1] / "compositions35.txt"
LARGEST_FORMULA = 12  # atoms
MAX_ATOMS = 20  # in a cell


def unseen() -> list[str]:
    """The compositions, as `surrogates.training.labelled.compositions` writes them, in the order of the
    file."""
    return FILE.read_text(encoding="utf-8").splitlines()


def benchmark_compositions() -> list[str]:
    """Those of the recovery benchmark, which no model may be trained or judged on."""
    return BENCHMARK.read_text(encoding="utf-8").splitlines()


def choose(
    structures: Path, energies: Path, elements: Iterable[int], *, n: int = 200, seed: int = 0
) -> tuple[list[str], int]:
    """How `FILE` was made: n compositions drawn from those of the test split that have entries in no other
    split, are not in the recovery benchmark and have at most 12 atoms in a formula unit.

    Args:
        elements: Atomic numbers that the teacher knows; compositions with others are passed over.

    Returns:
        The compositions and how many were passed over.
    """
    table = read_table(energies, {"material_id": pa.string(), "split": pa.string()}, "table of energies")
    split = dict(zip(table["material_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    crystals, ids = read_structures(structures, split)
    parts: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for name, material in zip(compositions(crystals), ids, strict=True):
        parts[split[material]].add(name)
    alone = sorted(parts["test"] - parts["train"] - parts["val"] - set(benchmark_compositions()))
    small = [name for name in alone if sum(amounts(name).values()) <= LARGEST_FORMULA]
    known = set(elements)
    chosen: list[str] = []
    passed_over = 0
    for k in np.random.default_rng(seed).permutation(len(small)).tolist():
        if len(chosen) == n:
            break
        if known.issuperset(amounts(small[k])):
            chosen.append(small[k])
        else:
            passed_over += 1
    return chosen, passed_over


def amounts(composition: str) -> dict[int, int]:
    """Atomic number → atoms in a formula unit."""
    pairs = (part.split(":") for part in composition.split())
    return {int(z): int(n) for z, n in pairs}


def target_of(composition: str) -> Target:
    """The composition as something to make crystals of, in cells of at most 20 atoms."""
    from ase.data import chemical_symbols

    formula = "".join(f"{chemical_symbols[z]}{n}" for z, n in amounts(composition).items())
    return Target.parse(formula, max_atoms=MAX_ATOMS)
