"""The page that says what was seen in training holds what the hashed compositions in the weights say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from ase.data import chemical_symbols

from benchmarks.leakage import Leak, leak, learned_by, seen_by

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "what_was_seen.md"
SEEN = [seen_by("xs"), *map(learned_by, ("space_group", "template"))]


def formulas(name: str) -> list[str]:
    """Of a list of compositions that comes with the benchmarks."""
    path = ROOT / "benchmarks" / name
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            return [row["formula"] for row in csv.DictReader(file)]
    pairs = [[pair.split(":") for pair in line.split()] for line in path.read_text("utf-8").splitlines()]
    return ["".join(f"{chemical_symbols[int(z)]}{n}" for z, n in one) for one in pairs]


@pytest.mark.parametrize(
    "name", ["compositions35.txt", "compositions200.txt", "deep41.csv", "deep13.csv", "targets18.csv"]
)
def test_numbers_on_the_page(name: str) -> None:
    (row,) = [line for line in PAGE.read_text("utf-8").splitlines() if f"(`{name}`)" in line]
    told = [int(cell) for cell in row.strip("|").split("|")[1:]]
    known = formulas(name)
    counted = [sum(leak(formula, seen) is Leak.SEEN for formula in known) for seen in SEEN]
    assert told == [len(known), *counted]


def test_both_template_generators_learned_from_the_same() -> None:
    assert learned_by("metric_learning") == learned_by("template")
