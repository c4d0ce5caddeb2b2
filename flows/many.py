"""A prediction for each of many formulas: runs of their own, which the workers take as they are free."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from csp.errors import InputError
from csp.files import read_text
from csp.settings import AUTO_LIBRARY, DEFAULT_GENERATORS
from flows.ask import ask, name_of_many, shown_page
from flows.crashes import go_on, stop_crashing
from flows.form import (
    DEFAULTS,
    Candidates,
    Device,
    Generators,
    Labeller,
    Library,
    More,
    plain_library,
    settings_of,
    shown,
)
from flows.markdown import link
from flows.roots import within
from flows.sentences import says_why

__all__ = ["predict_many", "read_formulas"]

MOST = 10_000  # formulas
SHOWN = 1000  # runs in the list that people see
DELIMITERS = ",;\t"

Formulas = Annotated[
    list[str],
    shown("Formulas", "Chemical formulas, one an entry", max_length=MOST),
]
Table = Annotated[
    Path | None,
    shown("CSV file", "With a column `formula`, or one formula a line; on the worker. Instead of a list"),
]


def _name() -> str:
    return name_of_many(flow_run.parameters)


@flow(name="predict-many", flow_run_name=_name, on_crashed=[go_on], persist_result=False)
@says_why
def predict_many(
    formulas: Formulas = [],  # noqa: B006 the form shows an empty list
    table: Table = None,
    candidates: Candidates = 500,
    generators: Generators = DEFAULT_GENERATORS,
    labeller: Labeller = "none",
    library: Library = AUTO_LIBRARY,
    advanced: More = DEFAULTS,
    device: Device = "auto",
) -> list[str]:
    """Predict the crystals of each of many formulas; returns the ids of the runs that it made.

    All formulas are read before the first run is made. Run again, it makes no run a second time.
    """
    stop_crashing()
    wanted = [*formulas, *(read_formulas(within(table)) if table else ())]
    if not wanted:
        raise InputError("No formula is given, neither in the list nor in a CSV file.")
    if len(wanted) > MOST:
        raise InputError(f"{len(wanted):,} formulas are given; at most {MOST:,} can be.")
    asked = [settings_of(f, candidates, generators, labeller, library, advanced) for f in wanted]
    distinct = {target.formula: target.name for _, target in reversed(asked)}  # as the first wrote it
    log = get_run_logger()
    for note in filter(None, (target.formula_note for _, target in asked)):
        log.info("%s", note)
    settings = asked[0][0]
    parameters = {
        "candidates": candidates,
        "generators": list(generators),
        "labeller": settings.labeller,
        "library": plain_library(settings.library),
        "advanced": advanced.model_dump(mode="json"),
        "device": device,
    }
    made: dict[str, FlowRun] = {}
    for formula in dict.fromkeys(target.formula for _, target in asked):
        key, tag, name = f"{flow_run.id}-{formula}", f"many-{str(flow_run.id)[:8]}", distinct[formula]
        made[name] = ask({"formula": name, **parameters}, key=key, tags=[tag])
    lines = [f"- {link(name, shown_page(run))}" for name, run in list(made.items())[:SHOWN]]
    if len(made) > SHOWN:
        lines.append(f"- and {len(made) - SHOWN:,} more")
    create_markdown_artifact("\n".join(lines) + "\n", key="many", description=f"{len(made):,} runs")
    log.info("%d runs are scheduled", len(made))
    return [str(run.id) for run in made.values()]


def read_formulas(table: Path) -> list[str]:
    """The column `formula` of a CSV file; without such a header, the first column.

    Commas, semicolons or tabs divide the columns: spreadsheets of many countries write semicolons.

    Raises:
        InputError: The file cannot be read, is too large or holds no formula.
    """
    lines = read_text(table).splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"The CSV file {table} cannot be read: {error}.") from error
    head = [name.strip().lower() for name in rows[0]] if rows else []
    column = head.index("formula") if "formula" in head else 0
    found = [row[column].strip() for row in rows["formula" in head :] if len(row) > column]
    if not any(found):
        raise InputError(f"The CSV file {table} holds no formula.")
    return [formula for formula in found if formula]
