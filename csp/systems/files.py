"""The files of an exploration, each written whole or not at all."""

from __future__ import annotations

import json
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from csp.files import alone_with, replacing, replacing_folder, write_text
from csp.report.description import Description, describe
from csp.report.spreadsheet import csv_text
from csp.systems.answer import Answer, Told
from csp.systems.page import CARDS, card_of, render_exploration
from csp.systems.phases import SystemPhase
from csp.systems.picture import diagram_png, diagram_svg

__all__ = ["FILES", "write_answer"]

FILES = {
    "report.html": "The page",
    "explore.json": "all of it as JSON",
    "phases.csv": "the phases as a table",
    "entries.json": "entries for pymatgen",
    "diagram.svg": "the diagram",
}
SYMPREC = 0.1  # Å


def write_answer(answer: Answer) -> None:
    """Write `explore.json`, `phases.csv`, `entries.json`, `structures/`, `diagram.svg`, `diagram.png` and
    `report.html` into the exploration's folder. `explore.json` comes last: where it is, all are."""
    out = answer.exploration.out
    described = [_described(told.phase, k < CARDS) for k, told in enumerate(answer.phases)]
    texts = [text for _, text in described]
    cards = [
        card_of(told, answer, crystal, {Path(told.file).name: text})
        for told, (crystal, text) in list(zip(answer.phases, described, strict=True))[:CARDS]
    ]
    with alone_with(out):
        with replacing_folder(out / "structures") as fresh:
            for told, text in zip(answer.phases, texts, strict=True):
                (fresh / Path(told.file).name).write_text(text, encoding="utf-8")
        write_text(out / "phases.csv", _csv(answer.phases))
        if answer.diagram is not None:
            write_text(out / "entries.json", _entries(answer))
            links = {
                id(one): f"report.html#crystal-{told.number}"
                for told in answer.phases[:CARDS]
                for one in told.same
            }
            write_text(out / "diagram.svg", diagram_svg(answer.exploration.system, answer.diagram, links))
            with replacing(out / "diagram.png") as partial:
                diagram_png(answer.exploration.system, answer.diagram, partial)
        write_text(out / "report.html", render_exploration(answer, cards))
        text = json.dumps(answer.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(out / "explore.json", text + "\n")


def _csv(phases: list[Told]) -> str:
    rows = [_flat(told.as_dict()) for told in phases]
    return csv_text(list(rows[0]) if rows else ["number", "formula"], rows)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    ranges = row["chemical_potentials_ev"]
    told = "; ".join(f"{e} {'-inf' if low is None else low} to {high}" for e, (low, high) in ranges.items())
    return {**row, "chemical_potentials_ev": told}


def _entries(answer: Answer) -> str:
    """A list of pymatgen's ComputedStructureEntry, as `monty.serialization.loadfn` reads it."""
    assert answer.diagram is not None
    return json.dumps([entry.as_dict() for entry in answer.diagram.entries()], default=float) + "\n"


@lru_cache(maxsize=512)
def _described(phase: SystemPhase, neighbours: bool) -> tuple[Description, str]:
    """And its CIF. An answer is written after each search, and most of its phases are those of the last."""
    crystal = describe(phase.crystal, SYMPREC, neighbours=neighbours)
    return crystal, _cif(crystal)


def _cif(crystal: Description) -> str:
    """Of the symmetrised conventional cell."""
    from pymatgen.io.cif import CifWriter

    with warnings.catch_warnings():  # pymatgen uses what spglib deprecates
        warnings.simplefilter("ignore")
        return str(CifWriter(crystal.structure, symprec=1e-3))
