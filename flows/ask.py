"""Asking a server for a prediction."""

from __future__ import annotations

from typing import Any, cast

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_UI_URL

__all__ = ["DEPLOYMENT", "ask", "page"]

DEPLOYMENT = "predict/predict"


def ask(parameters: dict[str, Any], *, tags: list[str] | None = None, key: str | None = None) -> FlowRun:
    """Make a run of its own of the deployment, and don't wait; with a `key`, only once."""
    run = run_deployment(
        DEPLOYMENT,
        parameters=parameters,
        flow_run_name=f"predict {parameters['formula']}",
        timeout=0,
        as_subflow=False,
        idempotency_key=key,
        tags=tags,
    )
    return cast(FlowRun, run)


def page(run: FlowRun) -> str:
    """Where a person sees the run."""
    return f"{PREFECT_UI_URL.value()}/runs/flow-run/{run.id}"
