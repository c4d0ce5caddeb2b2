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
from flows.home import AUTH, FILES_URL, runs

__all__ = ["files_url", "image_url", "publish", "summary", "table"]

ROWS = 50
IN_SUMMARY = 5


def publish(prediction: Prediction, record: RunRecord, folder: Path, *, symprec: float) -> None:
    """All artifacts of a finished run, under keys that collect the history of a formula."""
    formula = prediction.target.formula
    key = formula.lower()
    where = files_url(folder)
    create_markdown_artifact(
        summary(prediction, record, where), key=f"summary-{key}", description=f"Prediction of {formula}"
    )
    create_link_artifact(
        f"{where}/report.html",
        link_text=f"{formula}: report and files",
        key=f"files-{key}",
        description="The ranking as a page with all structures to look at; CIFs and tables lie beside it",
    )
    if not prediction.results:
        return
    create_table_artifact(
        table(prediction), key=f"ranking-{key}", description=f"Ranking of {formula}; files in {folder}"
    )
    picture = folder / "ranking.png"
    with replacing(picture) as partial:
        partial.write_bytes(ranking_png(prediction, symprec=symprec))
    create_image_artifact(
        image_url(picture),
        key=f"picture-{key}",
        description=f"{formula}: the best crystals, and energy against volume of all",
    )


def table(prediction: Prediction) -> list[dict[str, Any]]:
    """The ranking in rows that a browser can show."""
    symbol = "H" if prediction.target.pressure else "E"
    return [
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


def _probability(result: Result) -> dict[str, float]:
    return {} if result.probability is None else {"probability, %": round(100 * result.probability, 1)}


def _to_hull(result: Result) -> dict[str, str]:
    """A column where there is a hull."""
    return {"to the hull": result.stability} if result.stability else {}


def summary(prediction: Prediction, record: RunRecord, where: str) -> str:
    """Funnel, best energies and space groups, warnings and citations as Markdown."""
    formula = prediction.target.formula
    lines = [f"# {formula}", ""]
    if prediction.results:
        best = prediction.results[0]
        lines += [
            f"**{best.spacegroup}** (no. {best.spacegroup_number}) is first, "
            f"{best.enthalpy_ev_per_atom:.4f} eV/atom ({prediction.label}). "
            f"[Report, structures and tables]({where}/report.html)",
            "",
            "| rank | meV/atom above | space group | atoms | from |",
            "|---:|---:|---|---:|---|",
        ]
        lines += [
            f"| {r.rank} | {r.above_lowest:.1f} | {r.spacegroup} | {r.n_atoms} "
            f"| {r.template_id or r.generator} |"
            for r in prediction.results[:IN_SUMMARY]
        ]
    else:
        lines += ["Nothing could be ranked."]
    lines += ["", "## From candidates to the ranking", "", "| crystals | |", "|---:|---|"]
    lines += [f"| {count:,} | {FUNNEL.get(name, name)} |" for name, count in prediction.funnel.items()]
    if prediction.warnings:
        lines += ["", "## Notes", "", *(f"- {warning}" for warning in prediction.warnings)]
    if record.citations:
        lines += ["", "## Please cite", "", *(f"- {citation}" for citation in record.citations)]
    return "\n".join(lines) + "\n"


def image_url(file: Path) -> str:
    """Address of a picture in a run's folder; the picture itself where a page could not fetch it."""
    where = files_url(file.parent)
    if where.startswith("http") and not os.environ.get(AUTH):
        return f"{where}/{file.name}"
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def files_url(folder: Path) -> str:
    """Address of a run's folder: served by `csp up` where it is one of ours, else as a file."""
    served = os.environ.get(FILES_URL)
    if served and folder.parent == runs():
        return f"{served}/{folder.name}"
    return folder.as_uri()
