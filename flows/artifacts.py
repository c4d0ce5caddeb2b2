"""What a person finds in Prefect after a run: the ranking, a summary, a picture, the way to the files."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from csp.files import replacing
from csp.report.page import FUNNEL
from csp.report.picture import ranking_png
from csp.report.record import RunRecord
from csp.search.prediction import Prediction, Result
from flows.home import FILES_URL
from flows.markdown import cell, link, literal

__all__ = ["files_url", "image_url", "publish", "summary", "table"]

ROWS = 50
IN_SUMMARY = 5
FILES = (
    ("Report", "report.html"),
    ("crystals as extended XYZ", "structures.extxyz"),
    ("table as CSV", "ranked.csv"),
    ("all numbers as JSON", "ranked.json"),
)


def publish(prediction: Prediction, record: RunRecord, folder: Path, name: str, *, symprec: float) -> None:
    """All artifacts of a finished run, under keys that collect the history of a formula.

    Args:
        name: Of the run's folder among the others (`flows.home.runs`).
    """
    formula = prediction.target.formula
    key = formula.lower()
    where = files_url(name)
    create_markdown_artifact(
        summary(prediction, record, where), key=f"summary-{key}", description=f"Prediction of {formula}"
    )
    if where:
        create_link_artifact(
            f"{where}/report.html",
            link_text=f"{formula}: report and files",
            key=f"files-{key}",
            description="The ranking as a page with all structures to look at; CIFs and tables lie beside it",
        )
    if not prediction.results:
        return
    create_table_artifact(
        table(prediction),
        key=f"ranking-{key}",
        description=f"Ranking of {formula}; files in {literal(str(folder))}",
    )
    picture = folder / "ranking.png"
    with replacing(picture) as partial:
        partial.write_bytes(ranking_png(prediction, symprec=symprec))
    create_image_artifact(
        image_url(picture, where),
        key=f"picture-{key}",
        description=f"{formula}: the best crystals, and energy against volume of all",
    )


def table(prediction: Prediction) -> list[dict[str, Any]]:
    """The ranking in rows that a browser can show."""
    symbol = "H" if prediction.target.pressure else "E"
    rows = [
        {
            "rank": r.rank,
            **_probability(r),
            f"Δ{symbol}, meV/atom": round(r.above_lowest, 1),
            f"{symbol}, eV/atom": round(r.enthalpy_ev_per_atom, 4),
            **_to_hull(r),
            "space group": f"{r.spacegroup} ({r.spacegroup_number})",
            "atoms": r.n_atoms,
            "Å³/atom": round(r.volume_per_atom, 2),
            "relaxed": r.status,
            "from": r.template_id or r.generator,
            "file": r.file,
        }
        for r in prediction.results[:ROWS]
    ]
    return [{name: cell(value) for name, value in row.items()} for row in rows]


def _probability(result: Result) -> dict[str, float]:
    return {} if result.probability is None else {"probability, %": round(100 * result.probability, 1)}


def _to_hull(result: Result) -> dict[str, str]:
    """A column where there is a hull."""
    return {"to the hull": result.stability} if result.stability else {}


def summary(prediction: Prediction, record: RunRecord, where: str) -> str:
    """Funnel, best energies and space groups, warnings and citations as Markdown.

    Args:
        where: Address of the run's files, "" where nobody serves them.
    """
    formula = prediction.target.formula
    lines = [f"# {formula}", ""]
    if prediction.results:
        best = prediction.results[0]
        lines += [
            f"**{literal(best.spacegroup)}** (no. {best.spacegroup_number}) is first, "
            f"{best.enthalpy_ev_per_atom:.4f} eV/atom ({literal(str(prediction.label))}).",
            "",
            *([" · ".join(link(words, f"{where}/{file}") for words, file in FILES), ""] if where else []),
            "| rank | meV/atom above | space group | atoms | from |",
            "|---:|---:|---|---:|---|",
        ]
        lines += [
            f"| {r.rank} | {r.above_lowest:.1f} | {literal(r.spacegroup)} | {r.n_atoms} "
            f"| {literal(r.template_id or r.generator)} |"
            for r in prediction.results[:IN_SUMMARY]
        ]
    else:
        lines += ["Nothing could be ranked."]
    lines += ["", "## From candidates to the ranking", "", "| crystals | |", "|---:|---|"]
    lines += [f"| {count:,} | {FUNNEL.get(name, name)} |" for name, count in prediction.funnel.items()]
    if prediction.warnings:
        lines += ["", "## Notes", "", *(f"- {literal(warning)}" for warning in prediction.warnings)]
    if record.citations:
        lines += ["", "## Please cite", "", *(f"- {literal(citation)}" for citation in record.citations)]
    return "\n".join(lines) + "\n"


def image_url(file: Path, where: str) -> str:
    """Address of a picture in a run's folder, which is served at `where`; else the picture itself."""
    if where:
        return f"{where}/{file.name}"
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def files_url(name: str) -> str:
    """Address of the folder of this name among the runs, "" where nobody serves them."""
    served = os.environ.get(FILES_URL)
    return f"{served}/{name}" if served else ""
