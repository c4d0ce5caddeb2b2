"""A prediction for each of many formulas: runs of their own, which the workers take as they are free."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from csp.errors import InputError
from csp.files import read_text
from csp.settings import AUTO_LIBRARY, DEFAULT_GENERATORS
from flows.ask import ask, page
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

__all__ = ["predict_many", "read_formulas"]

MOST = 10_000

Formulas = Annotated[
    list[str],
    shown("Formulas", "Chemical formulas, one an entry", max_length=MOST),
]
Table = Annotated[
    Path | None,
    shown("CSV file", "With a column `formula`, or one formula a line; on the worker. Instead of a list"),
]


@flow(name="predict-many", on_crashed=[go_on], persist_result=False)
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
    wanted = [*formulas, *(read_formulas(table) if table else ())]
    if not wanted:
        raise InputError("No formula is given, neither in the list nor in a CSV file.")
    targets = [settings_of(f, candidates, generators, labeller, library, advanced)[1] for f in wanted]
    distinct = {target.formula: target for target in reversed(targets)}  # the first that was written
    log = get_run_logger()
    for note in filter(None, (target.formula_note for target in targets)):
        log.info(note)
    parameters = {
        "candidates": candidates,
        "generators": list(generators),
        "labeller": labeller,
        "library": plain_library(library),
        "advanced": advanced.model_dump(mode="json"),
        "device": device,
    }
    made: list[dict[str, Any]] = []
    for formula in dict.fromkeys(target.formula for target in targets):
        name = distinct[formula].name
        run = ask({"formula": name, **parameters}, key=f"{flow_run.id}-{formula}", tags=[flow_run.name])
        made.append({"formula": name, "run": f"[{run.name}]({page(run)})", "id": str(run.id)})
    create_table_artifact(made, key="many", description=f"{len(made)} runs of {flow_run.name}")
    log.info("%d runs are scheduled", len(made))
    return [row["id"] for row in made]


def read_formulas(table: Path) -> list[str]:
    """The column `formula` of a CSV file; without such a header, the first column.

    Raises:
        InputError: The file is not there or holds none.
    """
    try:
        rows = [row for row in csv.reader(read_text(table).splitlines()) if any(row)]
    except csv.Error as error:
        raise InputError(f"The CSV file {table} cannot be read: {error}.") from error
    head = [name.strip().lower() for name in rows[0]] if rows else []
    column = head.index("formula") if "formula" in head else 0
    found = [row[column].strip() for row in rows["formula" in head :] if len(row) > column]
    if not any(found):
        raise InputError(f"The CSV file {table} holds no formula.")
    return [formula for formula in found if formula]
