"""`csp properties`: what crystals are good for. Thin: reads options, calls, prints."""

from __future__ import annotations

import csv
import io
import json as json_format
from pathlib import Path
from typing import Annotated, Any

import typer

from csp.cli.console import note, output
from csp.errors import InputError
from csp.files import write_text
from csp.property_value import PropertyValue
from csp.report.terminal import plain_table

__all__ = ["properties"]

Row = list[PropertyValue | None]


def properties(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Files or folders of crystals (CIF, POSCAR, extxyz …), the out folder of a prediction, or "
            "formulas, of which models of compositions are asked",
            metavar="CRYSTALS...",
        ),
    ],
    names: Annotated[
        str | None,
        typer.Option("--properties", help="Of these alone: bulk_modulus,band_gap; default: all there are"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a table as well: NAME.csv or NAME.json")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout")] = False,
) -> None:
    """What crystals, or formulas, are good for, by models that learned from calculated properties."""
    if out is not None and out.suffix not in (".csv", ".json"):
        raise InputError(f"{out.name}: tables can be written as .csv, .json.")
    wanted = [name.strip() for name in (names or "").split(",") if name.strip()]
    places = [Path(one) for one in files if Path(one).exists() or "." in one or "/" in one]
    formulas = [one for one in files if Path(one) not in places]
    labels, rows = list[str](), list[Row]()
    if places:
        there, found = _of_files(places, wanted)
        labels, rows = labels + there, rows + found
    if formulas:
        labels, rows = labels + formulas, rows + _of_formulas(formulas, wanted)
        note("of formulas: the composition alone was read, polymorphs have one value", word="note:")
    told = [
        {"name": label, **{value.name: value.as_dict() for value in row if value is not None}}
        for label, row in zip(labels, rows, strict=True)
    ]
    text = json_format.dumps(told, indent=1, ensure_ascii=False) + "\n"
    if out is not None:
        write_text(out, text if out.suffix == ".json" else _csv(labels, rows))
    if json:
        typer.echo(text.encode(), nl=False)
    else:
        _show(labels, rows)


def _of_files(places: list[Path], wanted: list[str]) -> tuple[list[str], list[Row]]:
    from csp.library.given import read_crystals
    from csp.report.results import RankedRun
    from surrogates.properties.predicting import chosen, of_crystals

    models = chosen(wanted)
    labels, rows = list[str](), list[Row]()
    for place in places:
        if (place / "ranked.json").is_file():
            run = RankedRun.read(place)
            crystals = run.crystals()
            there = [f"{row['rank']} {row['spacegroup']}" for row in run.results]
        else:
            given = read_crystals([place])
            for name, why in given.left_out.items():
                note(f"{name}: {why}", word="left out:")
            crystals, there = given.crystals, given.names
        labels += there
        rows += of_crystals(models, crystals)
    return labels, rows


def _of_formulas(formulas: list[str], wanted: list[str]) -> list[Row]:
    from csp.formula import read_formula
    from surrogates.properties.predicting import chosen, of_compositions
    from surrogates.properties.rows import composition_of

    read = [read_formula(text) for text in formulas]
    return of_compositions(chosen(wanted, composition=True), composition_of(read))


def _show(labels: list[str], rows: list[Row]) -> None:
    """One crystal: a line for each property. Several: a line for each crystal."""
    known = [value for row in rows for value in row if value is not None]
    if len(rows) == 1:
        table = plain_table("property", "value", "95 %", "leverage", title=labels[0], title_justify="left")
        for value in known:
            unit = "" if value.unit == "1" else f" {value.unit}"
            interval = f"{value.low:.4g} to {value.high:.4g}"
            far = f"{value.leverage:.1f}{' outside the data' if value.outside else ''}"
            table.add_row(value.title, f"{value.short}{unit}", interval, far)
    else:
        titles = dict.fromkeys((value.name, value.unit) for value in known)
        table = plain_table("", *(f"{n.replace('_', ' ')}\n{'' if u == '1' else u}" for n, u in titles))
        for label, row in zip(labels, rows, strict=True):
            by_name = {value.name: value for value in row if value is not None}
            cells = (by_name.get(name) for name, _ in titles)
            table.add_row(
                label, *("–" if v is None else f"{v.short}{' ?' if v.outside else ''}" for v in cells)
            )
    output.print(table, soft_wrap=False)
    if len(rows) > 1 and any(value.outside for value in known):
        note("? outside the data that the model learned from", word="note:")
    if missing := [label for label, row in zip(labels, rows, strict=True) if None in row]:
        note(f"{', '.join(missing)}: a model has not learned all elements", word="left out:")


def _csv(labels: list[str], rows: list[Row]) -> str:
    names = list(dict.fromkeys(value.name for row in rows for value in row if value is not None))
    parts = ("value", "sigma", "low", "high", "leverage")
    columns = ["name", *(f"{name}.{part}" for name in names for part in (*parts, "unit"))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for label, row in zip(labels, rows, strict=True):
        by_name = {value.name: value for value in row if value is not None}
        cells: list[Any] = [f"'{label}" if label.startswith(("=", "+", "-", "@")) else label]
        for name in names:
            value = by_name.get(name)
            numbers = [f"{getattr(value, part):.6g}" for part in parts] if value else [""] * len(parts)
            cells += [*numbers, value.unit if value else ""]
        writer.writerow(cells)
    return text.getvalue()
