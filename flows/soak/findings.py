"""Nothing lost, nothing twice, the same rankings: what is left after all faults against what should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from csp.store import tables

__all__ = ["findings", "stored"]

Rows = Mapping[str, Mapping[str, int]]
"""For each run of a store, by its name, how many rows each table has of it."""


def findings(
    asked: Sequence[str],
    wrong: Sequence[str],
    runs: Sequence[Mapping[str, Any]],
    folders: Path,
    undisturbed: Path,
    rows: Rows,
) -> tuple[dict[str, int], list[str]]:
    """Counts, all but `n` and `crashed` of what should not be, and a line for each case.

    `lost`: formulas without a completed run; `wrong_lost`: wrong ones whose run did not fail with a
    sentence; `twice`: formulas with more than one run or folder; `other_ranking`: files that differ from the
    undisturbed search's; `other_store`: runs of which the store has other rows than that; `left_over`:
    half-written files. `crashed` runs were begun more than once.

    Args:
        asked: Formulas that are right.
        wrong: Formulas that no run can do.
        runs: Of the server, as its API gives them; those of one formula count.
        folders: Has a folder for each run.
        undisturbed: Has a folder for each formula.
        rows: Of the store, for the names of folders.
    """
    by_formula: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if "formula" in run["parameters"]:
            by_formula.setdefault(run["parameters"]["formula"], []).append(run)
    counts, lines = Counter(crashed=sum(run["run_count"] > 1 for run in runs)), list[str]()

    def note(what: str, words: str) -> None:
        counts[what] += 1
        lines.append(f"{what}: {words}")

    for formula in wrong:
        for run in by_formula.get(formula, []):
            message = run["state"]["message"] or ""
            if run["state"]["type"] != "FAILED" or "Traceback" in message or not message.endswith("."):
                note("wrong_lost", f"{formula} is {run['state']['name']}: {message}")
        if formula not in by_formula:
            note("wrong_lost", f"{formula} has no run")
    for formula in asked:
        mine = by_formula.get(formula, [])
        done = [run for run in mine if run["state"]["type"] == "COMPLETED"]
        if not done:
            states = ", ".join(f"{run['state']['name']}: {run['state']['message']}" for run in mine)
            note("lost", f"{formula}: {states or 'no run'}")
            continue
        if len(mine) > 1:
            note("twice", f"{formula} has {len(mine)} runs")
        _compare(formula, folders / f"{formula}-{done[0]['id'][:8]}", undisturbed / formula, rows, note)
    known = {
        f"{run['parameters']['formula']}-{run['id'][:8]}" for runs in by_formula.values() for run in runs
    }
    for folder in sorted(folders.iterdir()):
        if folder.name not in known:
            note("twice", f"the folder {folder.name} is of no run")
        for file in folder.rglob(".new-*"):
            note("left_over", f"{folder.name}/{file.name}")
    names = ("lost", "wrong_lost", "twice", "other_ranking", "other_store", "left_over", "crashed")
    return {"n": len(asked), "n.wrong": len(wrong), **{name: counts[name] for name in names}}, lines


def _compare(formula: str, run: Path, right: Path, rows: Rows, note: Any) -> None:
    for name in ("ranked.json", "ranked.csv"):
        there = run / name
        if not there.is_file() or there.read_bytes() != (right / name).read_bytes():
            note("other_ranking", f"{formula}: {name} {'differs' if there.is_file() else 'is not there'}")
            break
    else:
        files = [{str(p.relative_to(folder)) for p in folder.rglob("*.cif")} for folder in (run, right)]
        if files[0] != files[1]:
            note("other_ranking", f"{formula}: {len(files[0])} CIFs in place of {len(files[1])}")
    (expected,) = stored(right).values()
    found = rows.get(run.name, {})
    if found != expected:
        note("other_store", f"{formula}: {dict(found)} in place of {dict(expected)}")


def stored(location: Path | str) -> dict[str, dict[str, int]]:
    """How many rows each table of a store has of each run, by the name of its folder."""
    found: dict[str, dict[str, int]] = {}
    of_runs = [table for table in tables.metadata.sorted_tables if table is not tables.runs]
    with tables.connect(location).connect() as connection:
        for run in connection.execute(sql.select(tables.runs.c.id)).scalars():
            found[Path(run).name] = {table.name: 0 for table in of_runs}
        for table in of_runs:
            counted = sql.select(table.c.run_id, sql.func.count()).group_by(table.c.run_id)
            for run, n in connection.execute(counted):
                found[Path(run).name][table.name] = n
    return found
