"""The recovery benchmark as a Prefect flow: one task a target, tables of the result as artifacts.

A target that is finished is only read, one that was interrupted goes on from its store: a flow run that
is retried loses nothing. `benchmark.fn(...)` is a plain function and needs no server.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from benchmarks.recovery.benchmark import Recovery, RecoverySettings
from benchmarks.recovery.outcome import Outcome
from flows.crashes import go_on, stop_crashing
from flows.markdown import cell, literal
from flows.roots import folder_of_run, settings_within
from flows.sentences import says_why
from flows.turns import turn

__all__ = ["benchmark"]


@lru_cache(maxsize=1)
def _recovery(settings: RecoverySettings, out: Path, device: str) -> Recovery:
    """Library and model are loaded once a process."""
    return Recovery.begin(settings, out, device=device, resume=True)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def recover(settings: RecoverySettings, out: Path, device: str, name: str) -> Outcome:
    """Search for one truth, or read what is known of it, and write the files of all that are finished."""
    recovery = _recovery(settings, out, device)
    with turn(recovery.models[-1].device):
        outcome = recovery.run(recovery.truths.choose([name])[0])
    recovery.write()
    return outcome


@flow(name="benchmark", flow_run_name="benchmark {settings.budget}", on_crashed=[go_on], persist_result=False)
@says_why
def benchmark(
    settings: RecoverySettings,
    out: Path | None = None,
    device: str = "auto",
    only: list[str] | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """How many known crystals are found from the formula alone?

    Args:
        out: Folder of the results; by default one named after the day the run was scheduled for.

    Returns:
        The summary.
    """
    if FlowRunContext.get() is None:
        folder = (out or Path("out/benchmark") / _day()).absolute()
    else:
        stop_crashing()
        settings, folder = settings_within(settings), folder_of_run(f"benchmark-{_day()}", out)
    recovery = _recovery(settings, folder, device)
    names = [truth.name for truth in recovery.truths.choose(only, limit)]
    if FlowRunContext.get() is None:
        for name in names:
            recover.fn(settings, folder, device, name)
        return recovery.write()
    log = get_run_logger()
    for problem in recovery.truths.problems:
        log.warning("Left out: %s", problem)
    outcomes = []
    for name in names:
        outcomes.append(recover(settings, folder, device, name))
        log.info("%s", outcomes[-1].line())
    summary = recovery.write()
    create_table_artifact(
        table=[_row(outcome) for outcome in outcomes],
        key="recovery",
        description=f"Known crystals found from the formula alone; files in {literal(str(folder))}",
    )
    create_table_artifact(
        table=[{"what": key, "value": value} for key, value in summary.items()], key="recovery-summary"
    )
    return summary


def _day() -> str:
    """A retried run keeps its day."""
    scheduled = flow_run.scheduled_start_time if FlowRunContext.get() else datetime.now(UTC)
    return scheduled.strftime("%Y-%m-%d")


def _row(outcome: Outcome) -> dict[str, Any]:
    above = outcome.best_above_truth
    row = {
        "composition": outcome.name,
        "rank": outcome.rank,
        "found": outcome.found,
        "lost": str(outcome.miss or ""),
        "best above truth, meV/atom": None if above is None else round(1000 * above, 1),
        "seconds": round(sum(outcome.seconds.values())),
    }
    return {name: cell(value) for name, value in row.items()}
