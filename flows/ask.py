"""Asking a server for a prediction, and how its runs are called."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any, cast

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_UI_URL

from flows.home import FILES_URL

__all__ = ["DEPLOYMENT", "ask", "name_of", "name_of_many", "page", "shown_page"]

DEPLOYMENT, UNDER_PRESSURE = "predict/predict", "predict-pressures/predict-pressures"
NAMED = 3  # formulas in the name of a run of many


def ask(parameters: dict[str, Any], *, tags: list[str] | None = None, key: str | None = None) -> FlowRun:
    """Make a run of its own, at several pressures where the parameters name `pressures`, and don't wait; with
    a `key`, only once."""
    run = run_deployment(
        UNDER_PRESSURE if "pressures" in parameters else DEPLOYMENT,
        parameters=parameters,
        flow_run_name=name_of(parameters),
        timeout=0,
        as_subflow=False,
        idempotency_key=key,
        tags=tags,
    )
    return cast(FlowRun, run)


def name_of(parameters: dict[str, Any]) -> str:
    """Of a run that predicts a formula, such as "predict NaCl at 0, 25 GPa"."""
    pressures = ", ".join(f"{gpa:g}" for gpa in parameters.get("pressures", []))
    return f"predict {parameters['formula']}{f' at {pressures} GPa' if pressures else ''}"


def name_of_many(parameters: dict[str, Any]) -> str:
    """Of a run that has many formulas predicted: the first of them, or the file that has them."""
    formulas, table = parameters.get("formulas") or [], parameters.get("table")
    words = [", ".join(map(str, formulas[:NAMED]))] if formulas else []
    if len(formulas) > NAMED:
        words.append(f"{len(formulas) - NAMED} more")
    if table:
        words.append(PurePath(str(table)).name)
    return f"predict-many {' and '.join(words)}".strip()


def page(run: FlowRun) -> str:
    """Where a person sees the run."""
    return f"{PREFECT_UI_URL.value()}{_path(run)}"


def shown_page(run: FlowRun) -> str:
    """The same for a link in another page: on our own server under whatever name that was opened."""
    return _path(run) if os.environ.get(FILES_URL, "").startswith("/") else page(run)


def _path(run: FlowRun) -> str:
    return f"/runs/flow-run/{run.id}"
