"""`csp properties`: what crystals are good for. Thin: reads options, calls, prints."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp.cli.console import note, output
from csp.errors import InputError
from csp.files import write_text
from csp.property_value import PropertyValue
from csp.report.spreadsheet import csv_text
from csp.report.terminal import plain_table

if TYPE_CHECKING:
    from csp.crystals import Crystals
    from csp.relaxation.elasticity import Elasticity

__all__ = ["properties"]

Row = list[PropertyValue | None]
FORCE, STEPS = 0.005, 300  # eV/Å: elastic constants are of relaxed crystals


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
    elastic: Annotated[
        str | None,
        typer.Option(
            help="Potential by which crystals are relaxed and their elastic constants computed as well: auto "
            "for the best that is here"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a table as well: NAME.csv or NAME.json")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout")] = False,
) -> None:
    """What crystals, or formulas, are good for, by models of properties."""
    if out is not None and out.suffix not in (".csv", ".json"):
        raise InputError(f"{out.name}: tables can be written as .csv, .json.")
    wanted = [name.strip() for name in (names or "").split(",") if name.strip()]
    places = [Path(one) for one in files if Path(one).exists() or "." in one or "/" in one]
    formulas = [one for one in files if Path(one) not in places]
    labels, rows = list[str](), list[Row]()
    stiffness: dict[int, Elasticity] = {}
    if places:
        labels, crystals = _of_files(places)
        rows = _foretold(crystals, wanted)
        stiffness = {} if elastic is None else _stiffness(crystals, elastic)
    if formulas:
        labels, rows = labels + formulas, rows + _of_formulas(formulas, wanted)
        note("of formulas: the composition alone was read, polymorphs have one value", word="note:")
    told = [
        {
            "name": label,
            **{value.name: value.as_dict() for value in row if value is not None},
            **({"elastic": _elastic(stiffness[k])} if k in stiffness else {}),
        }
        for k, (label, row) in enumerate(zip(labels, rows, strict=True))
    ]
    text = json_format.dumps(told, indent=1, ensure_ascii=False) + "\n"
    if out is not None:
        write_text(out, text if out.suffix == ".json" else _csv(labels, rows))
    if json:
        typer.echo(text.encode(), nl=False)
    else:
        _show(labels, rows)
        for k, one in stiffness.items():
            stable = "" if one.stable else "; not stable against some strain"
            moduli = f"bulk modulus {one.bulk:.0f} GPa, shear modulus {one.shear:.0f} GPa"
            output.print(f"{labels[k]} by {elastic}: {moduli}{stable}")


def _of_files(places: list[Path]) -> tuple[list[str], Crystals]:
    """The crystals in files and of predictions, and their names."""
    from csp.crystals import Crystals
    from csp.library.given import read_crystals
    from csp.report.results import RankedRun

    labels, parts = list[str](), list[Crystals]()
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
        parts.append(crystals)
    return labels, Crystals.cat(parts)


def _foretold(crystals: Crystals, wanted: list[str]) -> list[Row]:
    from surrogates.properties.predicting import chosen, of_crystals

    return of_crystals(chosen(wanted), crystals)


def _stiffness(crystals: Crystals, potential: str) -> dict[int, Elasticity]:
    """Of each crystal that the potential could relax, by its place."""
    from csp.crystallography.operations import operations
    from csp.relaxation.elasticity import elasticity
    from csp.relaxation.relax import Status, relax
    from surrogates.zoo import load_model

    model = load_model(potential)
    ends = relax(crystals, model, max_force=FORCE, max_steps=STEPS, symmetry=operations(crystals))
    found = {}
    for k, status in enumerate(ends.status):
        if status is Status.CONVERGED:
            found[k] = elasticity(ends.crystals[[k]], model)
        else:
            note(
                f"crystal {k + 1}: {status.replace('_', ' ')} when relaxed by {model.name}", word="left out:"
            )
    return found


def _elastic(one: Elasticity) -> dict[str, Any]:
    stiffness = [[round(value, 3) for value in row] for row in one.stiffness.tolist()]
    return {
        "stiffness_gpa": stiffness,
        "bulk_modulus": one.bulk,
        "shear_modulus": one.shear,
        "stable": one.stable,
    }


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
    table = []
    for label, row in zip(labels, rows, strict=True):
        by_name = {value.name: value for value in row if value is not None}
        cells: list[Any] = [label]
        for name in names:
            value = by_name.get(name)
            numbers = [f"{getattr(value, part):.6g}" for part in parts] if value else [""] * len(parts)
            cells += [*numbers, value.unit if value else ""]
        table.append(dict(zip(columns, cells, strict=True)))
    return csv_text(columns, table)
