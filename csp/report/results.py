"""Ranked runs: finding one again, and taking its crystals elsewhere."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.files import replacing
from csp.report.files import SCHEMA, known_text, properties_text, variants_text
from csp.search.ranking_table import RankingTable, ranking_table
from csp.search.result import Result

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["RankedRun", "export", "latest"]

FORMATS = (".extxyz", ".db", ".csv")


class _Row(BaseModel):
    """What is read of a row of `ranked.json`."""

    rank: int
    file: str
    n_atoms: int
    spacegroup: str
    above_lowest_ev_per_atom: float
    generator: str
    template_id: str


class _Ranked(BaseModel):
    """What is read of `ranked.json`."""

    formula: str
    label: str | None
    results: list[_Row]
    funnel: dict[str, int]


@dataclass(frozen=True, slots=True)
class RankedRun:
    """The folder of a run that has been ranked, and its `ranked.json`."""

    folder: Path
    ranked: dict[str, Any]

    @staticmethod
    def read(folder: Path) -> RankedRun:
        """The run in a folder.

        Raises:
            InputError: Where no ranking is, a damaged one, or one of another version of the engine.
        """
        ranked = _json(folder)
        if not isinstance(ranked, dict) or ranked.get("schema") not in (2, SCHEMA):
            raise InputError(
                f"{folder} was ranked by another version of the engine; `resume` its search to rank it anew."
            )
        try:
            _Ranked.model_validate(ranked, strict=True)
        except ValidationError as error:
            what = ".".join(map(str, error.errors()[0]["loc"]))
            raise InputError(
                f"The prediction in {folder} is damaged: ranked.json has no right {what}."
            ) from error
        if ranked["schema"] != SCHEMA:
            ranked = _renamed(ranked)
        return RankedRun(folder, ranked)

    @property
    def formula(self) -> str:
        """Of what was predicted."""
        return str(self.ranked["formula"])

    @property
    def results(self) -> list[dict[str, Any]]:
        """The rows, best first."""
        rows: list[dict[str, Any]] = self.ranked["results"]
        return rows

    def checked(self) -> list[Result]:
        """The rows as results.

        Raises:
            InputError: One is damaged.
        """
        try:
            return TypeAdapter(list[Result]).validate_python(self.results)
        except ValidationError as error:
            what = ".".join(map(str, error.errors()[0]["loc"]))
            raise InputError(
                f"The prediction in {self.folder} is damaged: ranked.json has no right results.{what}."
            ) from error

    def table(self, top: int) -> RankingTable:
        """The first `top` of the ranking, as `csp predict` shows it.

        Raises:
            InputError: A row is damaged.
        """
        return ranking_table(
            self.checked(),
            top,
            title=f"{self.formula} · {self.ranked['label'] or 'nothing could be ranked'}",
            pressed=self.ranked.get("pressure_gpa", 0.0) != 0,
            order=self.ranked.get("order", "energy"),
        )

    def atoms(self) -> list[Atoms]:
        """The ranked crystals as relaxed, for ASE, in their order.

        Raises:
            InputError: They are not there.
        """
        from ase.io import read

        if not self.results:
            return []
        try:
            frames = read(self.folder / "structures.extxyz", index=":", format="extxyz")
            if [atoms.info.get("rank") for atoms in frames] != [row["rank"] for row in self.results]:
                raise ValueError("ranked.json and structures.extxyz disagree")
        except Exception as error:  # ASE's reader raises whatever it meets in a damaged file
            raise InputError(f"The prediction in {self.folder} is damaged: {error}.") from error
        return list(frames)

    def crystals(self) -> Crystals:
        """The same as a batch."""
        return Crystals.from_atoms(self.atoms())


def _json(folder: Path) -> Any:
    try:
        return json.loads((folder / "ranked.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder} holds no finished prediction: there is no ranked.json in it.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"The prediction in {folder} is damaged: {error}.") from error


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
            if run.formula == formula:
                return run
    searched = " or ".join(map(str, places))
    raise MissingError(
        f"No run of {formula} has finished yet in {searched}; the out folder of another run can be named."
    )


def export(run: RankedRun, file: Path) -> None:
    """Copy the ranking: crystals as relaxed (.extxyz), an ASE database (.db), or the table (.csv).

    The rows of the database have the keys of `ranked.json` and the energy, eV per cell. Written whole
    or not at all; a file that is there is replaced.

    Raises:
        InputError: For another file name extension, and for a ranking that is damaged.
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

    run.checked()
    rows, crystals = run.results, run.atoms()
    label = run.ranked["label"] or ""
    with connect(str(file), type="db") as database:
        for atoms, row in zip(crystals, rows, strict=True):
            try:
                # ASE keeps `id` for itself and allows no None
                told = {**row, "known_as": known_text(row), "variants": variants_text(row)}
                told["properties"] = properties_text(row)
                told["crystal_id"], told["label"] = f"c{told.pop('id')}", label
                known = {name: value for name, value in told.items() if value not in (None, "")}
                database.write(atoms, key_value_pairs=known)
            except ValueError as error:  # a key or a value that ASE does not take
                raise InputError(f"The prediction in {run.folder} is damaged: {error}.") from error
