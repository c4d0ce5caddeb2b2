"""Files for people: structures, tables and one page, each written whole or not at all."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from csp.crystallography.symmetry import symmetrized
from csp.crystals import Crystals
from csp.files import replacing_folder, write_text
from csp.report.page import render_page
from csp.report.record import RunRecord
from csp.search.prediction import Prediction, Result

__all__ = ["SCHEMA", "write_report"]

SCHEMA = 3
DECIMALS = 6  # of the numbers in the tables: below the resolution of the ranking, above rounding noise
COMPUTED = ("=", "+", "-", "@", "\t", "\r")  # what begins so in a table (OWASP, "CSV injection")
CIF_SYMPREC = 1e-3  # Å; to read the operations off a cell that is exactly symmetric


def write_report(prediction: Prediction, folder: Path, record: RunRecord, *, symprec: float) -> None:
    """Write `structures/`, `structures.extxyz`, `ranked.csv`, `report.html`, `run.json`, `ranked.json`.

    Equal predictions give equal files, but for the timings in `run.json`. `ranked.json` comes last: where it
    is, all are.

    Args:
        prediction: What to write.
        folder: Where; it is made if it is not there.
        record: What the run ran with.
        symprec: Å, for the symmetrised standard conventional cells of the CIFs. A crystal whose symmetry
            analysis fails is written in P1 as it was relaxed, its `symmetrise_rms_ang` empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        displacements = _write_cifs(prediction, folder, symprec)
        rows = [
            _rounded({**result.as_dict(), "symmetrise_rms_ang": displacement})
            for result, displacement in zip(prediction.results, displacements, strict=True)
        ]
        write_text(folder / "structures.extxyz", _extxyz(prediction))
        write_text(folder / "ranked.csv", _csv(rows))
        write_text(folder / "report.html", render_page(prediction, record))
        write_text(folder / "run.json", _dumps(_run(prediction, record)))
        write_text(folder / "ranked.json", _dumps(_ranked(prediction, rows)))


# -- contents ---------------------------------------------------------------------------------------


def _ranked(prediction: Prediction, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "formula": prediction.target.formula,
        "label": None if prediction.label is None else str(prediction.label),
        "models": list(prediction.models),
        "relaxer_why": prediction.relaxer_why,
        "order": prediction.order,
        "pressure_gpa": prediction.target.pressure,
        "results": rows,
        "funnel": prediction.funnel,
        "unranked": dict(sorted(Counter(u.status for u in prediction.unranked).items())),
        "failed": prediction.failed,
        "warnings": prediction.warnings,
    }


def _run(prediction: Prediction, record: RunRecord) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "formula": prediction.target.formula,
        "label": None if prediction.label is None else str(prediction.label),
        "seed": record.settings.get("seed"),
        "settings": dict(record.settings),
        "versions": dict(record.versions),
        "checkpoints": dict(record.checkpoints),
        "library": dict(record.library),
        "device": record.device,
        "citations": list(record.citations),
        "timings": dict(record.timings),
    }


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in row.items()
    }


def _dumps(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(rows: list[dict[str, Any]]) -> str:
    names = [*Result.__slots__, "symmetrise_rms_ang"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    """Text that a spreadsheet would compute, as the name of a library's entry may be, becomes text to it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(COMPUTED) else value


def _extxyz(prediction: Prediction) -> str:
    """The crystals as relaxed, in rank order; `energy` is eV per cell, as the format has it."""
    from ase.io import write

    frames = prediction.crystals.atoms()
    for atoms, result in zip(frames, prediction.results, strict=True):
        energy = round(result.energy_ev_per_atom * result.n_atoms, DECIMALS)
        atoms.info = {"rank": result.rank, "id": result.id, "energy": energy}
    text = io.StringIO()
    if frames:
        write(text, frames, format="extxyz")
    return text.getvalue()


def _cif(crystal: Crystals, symprec: float) -> tuple[str, float | None]:
    """A CIF and the RMS displacement, Å, of symmetrising what it holds."""
    from pymatgen.io.cif import CifWriter

    symmetric = symmetrized(crystal, symprec)
    if symmetric is None:
        return str(CifWriter(crystal.structures()[0])), None
    (structure,) = symmetric.conventional.structures()
    with warnings.catch_warnings():  # pymatgen uses what spglib deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        text = str(CifWriter(structure, symprec=CIF_SYMPREC, refine_struct=False))
    return text, symmetric.rms_displacement


# -- files --------------------------------------------------------------------------------------------


def _write_cifs(prediction: Prediction, folder: Path, symprec: float) -> list[float | None]:
    """All CIFs into a fresh `structures/`; returns the RMS displacements of symmetrising, Å."""
    displacements = []
    with replacing_folder(folder / "structures") as fresh:
        for k, result in enumerate(prediction.results):
            text, displacement = _cif(prediction.crystals[k], symprec)
            (fresh / Path(result.file).name).write_text(text, encoding="utf-8")
            displacements.append(displacement)
    return displacements


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two workers that took the same run write their files one after the other."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
