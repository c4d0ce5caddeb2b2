"""A run whose process died goes on from what is stored, and where that comes to an end.

The worker that sees a process die puts its run on the list again (`go_on`), at once and without the
server's events, of which a busy SQLite may lose one. Where it cannot, since server or database is away just
then, `csp up` does (`go_on_all`). A run whose worker is gone too is found when `csp up` starts again
(`take_up`), or by its silence (`mark_silent`). Prefect's automations are not used for this: when the server
is killed they forget which runs they wait for.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.runtime import flow_run as this_run
from prefect.states import AwaitingRetry, Cancelled, Crashed, Failed

from csp.errors import CspError

__all__ = [
    "CRASHES",
    "GOES_ON",
    "GONE",
    "TOO_OFTEN",
    "go_on",
    "go_on_all",
    "mark_silent",
    "stop_crashing",
    "take_up",
]

CRASHES = 6  # after so many a run is not taken up again
GOES_ON = "Goes on from what is stored."
GONE = "The process of this run is gone."
TOO_OFTEN = f"The process of this run died {CRASHES} times; it is not started again."
LEFT = 60.0  # seconds after a crash, in which a worker puts its run on the list again


def go_on(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """For a flow's `on_crashed`: schedule the run again, unless it crashed too often."""
    with get_client(sync_client=True) as client:
        now = client.read_flow_run(flow_run.id).state
        faster = now is None or not now.is_crashed()  # was somebody else
        if flow_run.deployment_id and not faster and _crashes(client, flow_run.id) < CRASHES:
            client.set_flow_run_state(flow_run.id, AwaitingRetry(message=GOES_ON))


def go_on_all(tag: str, seconds: float = LEFT) -> None:
    """Schedule again what has this tag and crashed so long ago that its worker would have done it.

    What crashed too often is marked as failed.
    """
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=_in_state(tag, StateType.CRASHED)):
            since = datetime.now(UTC) - run.state.timestamp if run.state else timedelta(0)
            if run.deployment_id is None or since < timedelta(seconds=seconds):
                continue
            often = _crashes(client, run.id) >= CRASHES
            then: State[Any] = Failed(message=TOO_OFTEN) if often else AwaitingRetry(message=GOES_ON)
            client.set_flow_run_state(run.id, then, force=often)


def mark_silent(tag: str, seconds: float) -> None:
    """Mark as crashed what has this tag, is at work by its state, and was silent for so long.

    Its process and the worker that would have told are gone. A run that only could not be heard is worked on
    twice, which does no harm.
    """
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            flow_run_filter=_in_state(tag, StateType.RUNNING, StateType.PENDING)
        ):
            if run.state is not None and run.state.timestamp < since and not _heard(client, run.id, since):
                client.set_flow_run_state(run.id, Crashed(message=GONE), force=True)


def _heard(client: SyncPrefectClient, id_: UUID, since: datetime) -> bool:
    """Is there a heartbeat of a run?"""
    heartbeat = EventFilter(
        occurred=EventOccurredFilter.model_validate({"since": since}),
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{id_}"]),
    )
    return bool(client.read_events(filter=heartbeat, limit=1).events)


def _in_state(tag: str, *types: StateType) -> FlowRunFilter:
    return FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
    )


def take_up(tag: str) -> None:
    """Schedule again what an earlier `csp up` of this server left at work when it ended.

    It alone works on what has this tag and is not of a work pool; what has a process is still worked on.
    """
    at_work = _in_state(tag, StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=at_work)
        here = _with_a_process() if runs else set()
        for run in runs:
            if run.work_pool_name is None and str(run.id) not in here:
                cancelled = run.state is not None and run.state.is_cancelling()
                client.set_flow_run_state(
                    run.id, Cancelled() if cancelled else AwaitingRetry(message=GOES_ON), force=True
                )


def _with_a_process() -> set[str]:
    """Ids of the runs that a process of this machine works on."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it ended, or is somebody else's
            found.update(re.findall(rb"PREFECT__FLOW_RUN_ID=([0-9a-f-]+)", place.read_bytes()))
    return {id_.decode() for id_ in found}


def stop_crashing() -> None:
    """For the first line of a flow.

    Raises:
        CspError: The run has crashed too often.
    """
    if this_run.run_count <= CRASHES:
        return
    with get_client(sync_client=True) as client:
        if _crashes(client, this_run.id) >= CRASHES:
            raise CspError(TOO_OFTEN)


def _crashes(client: SyncPrefectClient, id_: Any) -> int:
    return sum(state.type == StateType.CRASHED for state in client.read_flow_run_states(id_))
