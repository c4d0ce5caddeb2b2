"""The search as a Prefect flow: one task a stage, a table of the ranking as an artifact.

Tasks get settings and a path, never crystals: the store in the out folder is what passes results on
and what a retried or restarted run resumes from. `predict.fn(...)` is a plain function and needs no
server.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from csp.engine import build
from csp.prediction import Prediction
from csp.record import RunRecord
from csp.report import write_report
from csp.search import STAGES, Search
from csp.settings import SearchSettings

__all__ = ["predict"]

ARTIFACT_ROWS = 20


@lru_cache(maxsize=1)
def _search(settings: SearchSettings, out: Path, device: str) -> tuple[Search, RunRecord]:
    """Models are loaded once a process; a run that exists is gone on with."""
    return build(settings, out, device=device, resume=True)


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def run_stage(settings: SearchSettings, out: Path, device: str, stage: str) -> None:
    """One stage of the search, or what is left of it."""
    getattr(_search(settings, out, device)[0], stage)()


@task(task_run_name="rank", cache_policy=NO_CACHE, persist_result=False)
def rank(settings: SearchSettings, out: Path, device: str) -> Prediction:
    """The ranking, its files written into the out folder."""
    search, record = _search(settings, out, device)
    prediction = search.conclude()
    write_report(prediction, out, record, symprec=settings.symprec)
    return prediction


@flow(name="predict", flow_run_name="predict {settings.formula}", persist_result=False)
def predict(settings: SearchSettings, out: Path, device: str = "auto") -> dict[str, Any]:
    """Predict the crystals of a formula; returns the funnel and the best crystals, files in `out`."""
    out = out.absolute()
    if FlowRunContext.get() is None:
        for stage in STAGES:
            run_stage.fn(settings, out, device, stage)
        return _summary(rank.fn(settings, out, device))
    log = get_run_logger()
    for stage in STAGES:
        log.info("%s: %s", settings.formula, stage)
        run_stage(settings, out, device, stage)
    summary = _summary(rank(settings, out, device))
    log.info("%s: %s", summary["formula"], summary["funnel"])
    create_table_artifact(
        table=summary["results"],
        key="ranking-" + summary["formula"].lower(),
        description=f"Ranking of {summary['formula']}; files in {out}",
    )
    return summary


def _summary(prediction: Prediction) -> dict[str, Any]:
    return {
        "formula": prediction.target.formula,
        "funnel": prediction.funnel,
        "results": [result.as_dict() for result in prediction.results[:ARTIFACT_ROWS]],
    }
