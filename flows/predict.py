"""The search as a Prefect flow: one task a stage, or one a share of it, and artifacts for people.

Tasks get settings and a path, never crystals: the store is what passes results on, and what a retried or
restarted run resumes from. `predict.fn(...)` is a plain function and needs no server. What takes long to
import is imported by the tasks, so that a run that was asked for wrongly says so in its first second.
"""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.runtime import flow_run, task_run

from csp.errors import InputError, StoreError
from csp.search.stages import BY_NAME, STAGES, Share, asked_for, time_shares
from csp.settings import AUTO_LIBRARY, DEFAULT_GENERATORS, SearchSettings
from flows.crashes import go_on, stop_crashing
from flows.form import (
    DEFAULTS,
    Candidates,
    Device,
    Folder,
    Formula,
    Generators,
    Labeller,
    Library,
    More,
    Runner,
    settings_of,
)
from flows.home import STORE_URL, runs
from flows.turns import turn

if TYPE_CHECKING:
    from csp.report.record import RunRecord
    from csp.search.prediction import Prediction
    from csp.search.search import Search
    from flows.progress import Reporter

__all__ = ["predict"]

RESULTS = 20  # in what the flow returns
BACK_IN = [10.0, 30.0, 60.0]  # seconds to wait for a database or for room on a disk


def _may_pass(_: Any, __: Any, state: Any) -> bool:
    """Only what may pass by itself is worth a retry: a database that is away, a disk that is full."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StoreError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


RESUMABLE: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": len(BACK_IN),
    "retry_delay_seconds": BACK_IN,
    "retry_condition_fn": _may_pass,
}


@lru_cache(maxsize=1)
def _reporter(settings: SearchSettings, formula: str) -> Reporter:
    from csp.search.pace import Pace
    from flows.progress import Reporter

    doing = {stage.name: stage.doing for stage in STAGES}
    return Reporter(f"progress-{formula.lower()}", Pace(time_shares(settings), doing))


@lru_cache(maxsize=1)
def _search(settings: SearchSettings, out: Path, device: str, reports: bool) -> tuple[Search, RunRecord]:
    """Models are loaded once a process; a run that exists is gone on with.

    Args:
        reports: Does this process report the progress? A worker that does shares does not.
    """
    from csp.engine import build

    target = settings.target()
    return build(
        settings,
        target,
        out,
        device=device,
        resume=True,
        progress=_reporter(settings, target.formula) if reports else lambda stage, done, total: None,
        store_url=os.environ.get(STORE_URL),
    )


def _stage_and_share() -> str:
    """Name of a task run: relax, or relax 3/8."""
    stage, (k, n) = task_run.parameters["stage"], task_run.parameters["share"]
    return stage if n == 1 else f"{stage} {k + 1}/{n}"


@task(task_run_name=_stage_and_share, **RESUMABLE)
def run_stage(
    settings: SearchSettings,
    out: Path,
    device: str,
    stage: str,
    share: Share = (0, 1),
    reports: bool = False,
) -> None:
    """A share of one stage of the search, or what is left of it."""
    search = _search(settings, out, device, reports)[0]
    with turn(search.funnel.ranking_model.device) if BY_NAME[stage].by_model else nullcontext():
        getattr(search, stage)(share)


@task(task_run_name="rank", **RESUMABLE)
def rank(
    settings: SearchSettings, out: Path, device: str, reports: bool = False
) -> tuple[Prediction, RunRecord]:
    """The ranking, its files written into the out folder."""
    from csp.report.files import write_report

    search, record = _search(settings, out, device, reports)
    prediction = search.conclude()
    write_report(prediction, out, record, symprec=settings.symprec)
    return prediction, record


@flow(name="predict", flow_run_name="predict {formula}", on_crashed=[go_on], persist_result=False)
def predict(
    formula: Formula,
    candidates: Candidates = 500,
    generators: Generators = DEFAULT_GENERATORS,
    labeller: Labeller = "none",
    library: Library = AUTO_LIBRARY,
    advanced: More = DEFAULTS,
    device: Device = "auto",
    runner: Runner = "here",
    folder: Folder = None,
) -> dict[str, Any]:
    """Predict the crystals of a chemical formula; returns the funnel and the best crystals."""
    settings, target = settings_of(formula, candidates, generators, labeller, library, advanced)
    if settings.library_file is not None and not settings.library_file.is_file():
        raise InputError(f"There is no library {settings.library_file} on this machine.")
    name = target.formula
    if FlowRunContext.get() is None:
        return _plain(settings, folder or Path("out") / target.name, device)
    stop_crashing()
    log, reporter = get_run_logger(), _reporter(settings, name)
    out = folder.absolute() if folder else runs() / f"{target.name}-{str(flow_run.id)[:8]}"
    log.info("%s: results go to %s", name, out)
    if target.formula_note:
        log.info(target.formula_note)
    reporter.started("loading the models")
    from flows.artifacts import publish

    if runner == "here":
        for stage in asked_for(settings):
            run_stage(settings, out, device, stage.name, reports=True)
    else:
        from flows.dask import workers

        with workers(runner) as share_out:
            for stage in asked_for(settings):
                share_out(run_stage, (settings, out, device, stage.name), partial(reporter, stage.name))
    prediction, record = rank(settings, out, device, reports=True)
    publish(prediction, record, out, symprec=settings.symprec)
    reporter.finished(f"{len(prediction.results)} crystals ranked")
    log.info("%s: %s", name, ", ".join(f"{count:,} {what}" for what, count in prediction.funnel.items()))
    return _summary(prediction)


def _plain(settings: SearchSettings, folder: Path, device: str) -> dict[str, Any]:
    out = folder.absolute()
    for stage in asked_for(settings):
        run_stage.fn(settings, out, device, stage.name)
    return _summary(rank.fn(settings, out, device)[0])


def _summary(prediction: Prediction) -> dict[str, Any]:
    return {
        "formula": prediction.target.formula,
        "funnel": prediction.funnel,
        "results": [result.as_dict() for result in prediction.results[:RESULTS]],
    }
