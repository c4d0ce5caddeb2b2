"""Files for people: structures, tables and one page, each written whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csp.diffraction.sample import Identified
from csp.files import alone_with, replacing_folder, write_text
from csp.property_value import PropertyValue
from csp.ranking.hull import Hull
from csp.ranking.known import KnownAs
from csp.report.card import Card
from csp.report.crystal_files import CIF, POSCAR, crystal_files, extxyz
from csp.report.description import describe
from csp.report.hull_diagram import hull_svg
from csp.report.page import render_page
from csp.report.pattern import pattern_svg, write_patterns
from csp.report.phonons import write_phonons
from csp.report.record import RunRecord
from csp.report.spreadsheet import csv_text
from csp.search.prediction import Prediction, Result, Variant

__all__ = ["SCHEMA", "known_text", "properties_text", "variants_text", "write_report"]

SCHEMA = 3
HULL = "hull.svg"
CARDS = 50  # best crystals that the page draws and describes; of the others it has the row of the table
FITS = 5  # cards with their fit to a measured pattern; figures of all are in the folder pattern
DECIMALS = 6  # of the numbers in the tables: below the resolution of the ranking, above rounding noise


def write_report(prediction: Prediction, folder: Path, record: RunRecord, *, symprec: float) -> None:
    """Write the files of an out folder.

    They are `structures/` (CIF, POSCAR, extxyz), `structures.extxyz`, `ranked.csv`, `report.html`, `hull.svg`
    where there is a hull of two or three elements, `run.json` and `ranked.json`. Equal predictions give equal
    files, but for the timings in `run.json` and those of the rounds of a deep search on the page.
    `ranked.json` comes last: where it is, all are.

    Args:
        prediction: What to write.
        folder: Where; it is made if it is not there.
        record: What the run ran with.
        symprec: Å, for the symmetrised standard conventional cells of the CIFs. A crystal whose symmetry
            analysis fails is written in P1 as it was relaxed, its `symmetrise_rms_ang` empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cards, texts = _cards(prediction, record, symprec)
    with alone_with(folder):
        rows = [
            _rounded({**card.result.as_dict(), "symmetrise_rms_ang": card.crystal.moved}) for card in cards
        ]
        if prediction.pattern is not None:
            _write_pattern(prediction, prediction.pattern, folder / "pattern")
        if prediction.phonons:
            write_phonons(folder / "phonons", _named(prediction), prediction.phonons)
        _write_structures(folder, cards, texts)
        write_text(folder / "structures.extxyz", extxyz(prediction, list(range(len(cards)))))
        write_text(folder / "ranked.csv", _csv(rows))
        write_text(folder / "report.html", render_page(prediction, record, cards[:CARDS]))
        if (svg := hull_svg(prediction)) is not None:
            write_text(folder / HULL, svg)
        else:
            (folder / HULL).unlink(missing_ok=True)  # of an earlier ranking
        write_text(folder / "run.json", _dumps(_run(prediction, record)))
        write_text(folder / "ranked.json", _dumps(_ranked(prediction, rows)))


def _named(prediction: Prediction) -> list[dict[str, Any]]:
    return [
        {"name": f"{r.rank}  {r.spacegroup}", "rank": r.rank, "id": r.id, "file": r.file}
        for r in prediction.results
    ]


def _write_pattern(prediction: Prediction, found: Identified, folder: Path) -> None:
    shown = ("rank", "id", "file", "spacegroup", "above_lowest_ev_per_atom", "probability_pattern", "r_wp")
    rows = [
        {"name": f"{result.rank}  {result.spacegroup}", **{name: getattr(result, name) for name in shown}}
        for result in prediction.results
    ]
    write_patterns(folder, found, prediction.crystals, rows)


def _cards(
    prediction: Prediction, record: RunRecord, symprec: float
) -> tuple[list[Card], list[Mapping[str, str]]]:
    """Of each ranked crystal its card, and its files by the ends of their names."""
    cards, files = [], []
    for k, result in enumerate(prediction.results):
        crystal = describe(prediction.crystals[k], symprec, neighbours=k < CARDS)
        texts = crystal_files(k, crystal, prediction, record)
        name = f"{prediction.target.formula}-{result.rank}"
        cards.append(
            Card(
                prediction.target.formula,
                result,
                crystal,
                prediction.models,
                {f"{name}{end}": texts[end] for end in (CIF, POSCAR)},
                pressed=prediction.target.pressure != 0,
                phonons=prediction.phonons[k] if prediction.phonons else None,
                fit=pattern_svg(prediction.pattern, k) if prediction.pattern and k < FITS else "",
            )
        )
        files.append(texts)
    return cards, files


# -- contents ---------------------------------------------------------------------------------------


def _ranked(prediction: Prediction, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "formula": prediction.target.formula,
        "label": None if prediction.label is None else str(prediction.label),
        "models": list(prediction.models),
        "relaxer_why": prediction.relaxer_why,
        "order": prediction.order,
        "known_before": prediction.known_before,
        "pressure_gpa": prediction.target.pressure,
        "decomposition": _rounded(prediction.decomposition),
        "hull": _hull(prediction.hull),
        "results": rows,
        "funnel": prediction.funnel,
        "unranked": dict(sorted(Counter(u.status for u in prediction.unranked).items())),
        "failed": prediction.failed,
        "warnings": prediction.warnings,
        **({} if prediction.history is None else {"search": prediction.history.as_dict()}),
    }


def _hull(hull: Hull | None) -> dict[str, Any] | None:
    if hull is None:
        return None
    told = hull.as_dict()
    return _rounded({**told, "phases": [_rounded(phase) for phase in told["phases"]]})


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


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in row.items()
    }


def _dumps(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(rows: list[dict[str, Any]]) -> str:
    told = (
        {
            **row,
            "known_as": known_text(row),
            "variants": variants_text(row),
            "properties": properties_text(row),
        }
        for row in rows
    )
    return csv_text([*Result.__slots__, "symmetrise_rms_ang"], told)


def properties_text(row: Mapping[str, Any]) -> str:
    """The properties of a row of `ranked.json`, for tables."""
    values = (PropertyValue(**value) for value in row.get("properties") or ())
    return "; ".join(f"{value.title} {value}" for value in values)


def known_text(row: Mapping[str, Any]) -> str:
    """What a row of `ranked.json` is known as, for tables."""
    return "; ".join(str(KnownAs(**entry)) for entry in row.get("known_as") or ())


def variants_text(row: Mapping[str, Any]) -> str:
    """The variants of a row of `ranked.json`, for tables."""
    return "; ".join(str(Variant(**variant)) for variant in row.get("variants") or ())


# -- files --------------------------------------------------------------------------------------------


def _write_structures(folder: Path, cards: Sequence[Card], texts: Sequence[Mapping[str, str]]) -> None:
    """All files of single crystals into a fresh `structures/`."""
    with replacing_folder(folder / "structures") as fresh:
        for card, files in zip(cards, texts, strict=True):
            name = Path(card.result.file).stem
            for end, text in files.items():
                (fresh / f"{name}{end}").write_text(text, encoding="utf-8")
