"""The search as a Prefect flow: one task a stage, or one a share of it, and artifacts for people.

Tasks get settings and a path, never crystals: the store is what passes results on, and what a retried or
restarted run resumes from. `predict.fn(...)` is a plain function and needs no server. What takes long to
import is imported by the tasks, so that a run that was asked for wrongly says so in its first second.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.runtime import flow_run, task_run

from csp.errors import StoreError
from csp.search.stages import DOING, WRITE, Share, asked_for, stage_of_step, time_limits, time_shares
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
    check_library,
    settings_of,
)
from flows.home import STORE_URL
from flows.roots import folder_of_run
from flows.sentences import says_why
from flows.turns import turn

if TYPE_CHECKING:
    from csp.report.record import RunRecord
    from csp.search.history import Round
    from csp.search.prediction import Prediction
    from csp.search.search import Search
    from csp.target import Target
    from flows.progress import Reporter

__all__ = ["RESUMABLE", "folder_for", "predict", "searched", "searched_plainly"]

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

    return Reporter(f"progress-{formula.lower()}", Pace(time_shares(settings), DOING, time_limits(settings)))


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
        heard=_log if reports else lambda now, before: None,
        store_url=os.environ.get(STORE_URL),
    )


def _log(now: Round, before: Round | None) -> None:
    get_run_logger().info("%s", now.line(before))


def _stage_and_share() -> str:
    """Name of a task run: relax, or relax 3/8."""
    stage, (k, n) = task_run.parameters["stage"], task_run.parameters["share"]
    number = task_run.parameters["number"]
    of_round = f"round {number} " if number else ""
    return of_round + (stage if n == 1 else f"{stage} {k + 1}/{n}")


def _stages(settings: SearchSettings, out: Path, device: str, reports: bool) -> Iterator[tuple[str, int]]:
    """What is to be done, one after the other: stages, and of some the steps of their rounds, by their
    numbers. Whether there is a further round is decided when the one before is done."""
    for stage in asked_for(settings):
        if not stage.steps:
            yield stage.name, 0
            continue
        for number in _search(settings, out, device, reports)[0].further(stage.name):
            yield from ((step, number) for step in stage.steps)


@task(task_run_name=_stage_and_share, **RESUMABLE)
def run_stage(
    settings: SearchSettings,
    out: Path,
    device: str,
    stage: str,
    share: Share = (0, 1),
    reports: bool = False,
    number: int = 0,
) -> None:
    """A share of one stage of the search, or what is left of it; or of a step of a round of this number."""
    search = _search(settings, out, device, reports)[0]
    of = stage_of_step(stage)
    computes = of is not None and of.by_model
    with turn(search.funnel.ranking_model.device) if computes else nullcontext():
        if number:
            search.do(number, stage, share)
        else:
            getattr(search, stage)(share)


@task(task_run_name="rank", **RESUMABLE)
def rank(
    settings: SearchSettings, out: Path, device: str, reports: bool = False
) -> tuple[Prediction, RunRecord]:
    """The ranking, its files written into the out folder."""
    from csp.engine import foretold
    from csp.report.files import write_report

    search, record = _search(settings, out, device, reports)
    prediction = foretold(search.conclude(), settings)
    search.progress(WRITE.name, 0, 1)
    write_report(prediction, out, record, symprec=settings.symprec)
    return prediction, record


@flow(name="predict", flow_run_name="predict {formula}", on_crashed=[go_on], persist_result=False)
@says_why
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
    check_library(settings)
    if FlowRunContext.get() is None:
        out = (folder or Path("out") / target.name).absolute()
        return _summary(searched_plainly(settings, out, device))
    stop_crashing()
    out, place = folder_for(target, folder)
    prediction, record = searched(settings, out, device, runner)
    from flows.artifacts import publish

    publish(prediction, record, out, place, symprec=settings.symprec)
    return _summary(prediction)


def folder_for(target: Target, folder: Path | None) -> tuple[Path, str]:
    """Where the results of this run go, and its name among the folders of the runs; the log says it."""
    place = f"{target.name}-{str(flow_run.id)[:8]}"
    out = folder_of_run(place, folder)
    get_run_logger().info("%s: results go to %s", target.formula, out)
    if target.formula_note:
        get_run_logger().info(target.formula_note)
    return out, place


def searched(settings: SearchSettings, out: Path, device: str, runner: str) -> tuple[Prediction, RunRecord]:
    """All stages of a search as tasks of this run, and the ranking, whose files are in `out`."""
    name = settings.target().formula
    reporter = _reporter(settings, name)
    reporter.started("loading the models")
    if runner == "here":
        for stage, number in _stages(settings, out, device, True):
            run_stage(settings, out, device, stage, reports=True, number=number)
    else:
        from flows.dask import workers

        with workers(runner) as share_out:
            for stage, number in _stages(settings, out, device, True):
                told = partial(reporter, stage) if not number else _untold
                share_out(run_stage, (settings, out, device, stage), number, told)
    prediction, record = rank(settings, out, device, reports=True)
    reporter.finished(f"{len(prediction.results)} crystals ranked")
    counts = ", ".join(f"{count:,} {what}" for what, count in prediction.funnel.items())
    get_run_logger().info("%s: %s", name, counts)
    return prediction, record


def searched_plainly(settings: SearchSettings, out: Path, device: str) -> Prediction:
    """The same where there is no run."""
    for stage, number in _stages(settings, out, device, False):
        run_stage.fn(settings, out, device, stage, number=number)
    return rank.fn(settings, out, device)[0]


def _untold(done: int, total: int) -> None:
    """The rounds tell of the time themselves."""


def _summary(prediction: Prediction) -> dict[str, Any]:
    return {
        "formula": prediction.target.formula,
        "funnel": prediction.funnel,
        "results": [result.as_dict() for result in prediction.results[:RESULTS]],
    }
