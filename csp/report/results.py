"""Ranked runs: finding one again, and taking its crystals elsewhere."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from csp.errors import InputError, MissingError
from csp.files import replacing
from csp.report.files import SCHEMA
from csp.search.prediction import Result
from csp.search.ranking_table import RankingTable, ranking_table

__all__ = ["RankedRun", "export", "latest"]

FORMATS = (".extxyz", ".db", ".csv")


@dataclass(frozen=True, slots=True)
class RankedRun:
    """The folder of a run that has been ranked, and its `ranked.json`."""

    folder: Path
    ranked: dict[str, Any]

    def table(self, top: int) -> RankingTable:
        """The first `top` of the ranking, as `csp predict` shows it."""
        known = {field.name for field in fields(Result)}
        return ranking_table(
            [Result(**{key: row[key] for key in row if key in known}) for row in self.ranked["results"]],
            top,
            title=f"{self.ranked['formula']} · {self.ranked['label'] or 'nothing could be ranked'}",
            pressed=self.ranked.get("pressure_gpa", 0.0) != 0,
            order=self.ranked.get("order", "energy"),
        )

    @staticmethod
    def read(folder: Path) -> RankedRun:
        """The run in a folder.

        Raises:
            InputError: Where no ranking is, or one of another version of the engine.
        """
        try:
            ranked = json.loads((folder / "ranked.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} holds no finished run.") from error
        if ranked["schema"] == 2:
            ranked = _renamed(ranked)
        if ranked["schema"] != SCHEMA:
            raise InputError(
                f"{folder} was ranked by another version of the engine; `resume` its search to rank it anew."
            )
        return RankedRun(folder, ranked)


def _renamed(ranked: dict[str, Any]) -> dict[str, Any]:
    """A ranking of version 0.1 under the names of this one."""
    names = {"improved": "pre_relaxed", "finished": "refined"}
    funnel = {names.get(name, name): count for name, count in ranked["funnel"].items()}
    return {**ranked, "schema": SCHEMA, "funnel": funnel}


def latest(formula: str, *places: Path) -> RankedRun:
    """The run of a formula (as `Target.formula` writes it) that was ranked last, of the folders in `places`.

    Raises:
        MissingError: If there is none.
    """
    found = [path for place in places for path in place.glob("*/ranked.json")]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(InputError):  # of another version, or damaged
            run = RankedRun.read(path.parent)
            if run.ranked["formula"] == formula:
                return run
    raise MissingError(f"No run of {formula} has finished yet in {' or '.join(map(str, places))}.")


def export(run: RankedRun, file: Path) -> None:
    """Copy the ranking: crystals as relaxed (.extxyz), an ASE database (.db), or the table (.csv).

    The rows of the database have the keys of `ranked.json` and the energy, eV per cell. Written whole
    or not at all; a file that is there is replaced.

    Raises:
        InputError: For another file name extension.
    """
    if file.suffix not in FORMATS:
        raise InputError(f"{file.name}: results can be written as {', '.join(FORMATS)}.")
    with replacing(file) as partial:
        if file.suffix == ".db":
            _database(run, partial)
        else:
            source = {".extxyz": "structures.extxyz", ".csv": "ranked.csv"}[file.suffix]
            shutil.copyfile(run.folder / source, partial)


def _database(run: RankedRun, file: Path) -> None:
    from ase.db import connect
    from ase.io import read

    rows = run.ranked["results"]
    crystals = read(run.folder / "structures.extxyz", index=":", format="extxyz") if rows else []
    label = run.ranked["label"] or ""
    with connect(str(file), type="db") as database:
        for atoms, row in zip(crystals, rows, strict=True):
            # ASE keeps `id` for itself and allows no None
            known = {name: value for name, value in row.items() if name != "id" and value is not None}
            database.write(atoms, key_value_pairs={**known, "crystal_id": f"c{row['id']}", "label": label})
