"""A run whose process died goes on from what is stored, and where that comes to an end.

The worker that sees a process die puts its run on the list again (`go_on`), at once and without the
server's events, of which a busy SQLite may lose one. A run whose worker is gone too is found when `csp up`
starts again (`take_up`), or by its silence (the automations in `flows.up`).
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import flow_run as this_run
from prefect.states import AwaitingRetry, Cancelled

from csp.errors import CspError

__all__ = ["CRASHES", "GOES_ON", "go_on", "stop_crashing", "take_up"]

CRASHES = 6  # after so many a run is not taken up again
GOES_ON = "Goes on from what is stored."


def go_on(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """For a flow's `on_crashed`: schedule the run again, unless it crashed too often."""
    with get_client(sync_client=True) as client:
        if flow_run.deployment_id and _crashes(client, flow_run.id) < CRASHES:
            client.set_flow_run_state(flow_run.id, AwaitingRetry(message=GOES_ON))


def take_up(tag: str) -> None:
    """Schedule again what an earlier `csp up` of this server left at work when it ended.

    It alone works on what has this tag and is not of a work pool; what has a process is still worked on.
    """
    at_work = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]),
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
        ),
    )
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
            raise CspError(f"The process of this run died {CRASHES} times; it is not started again.")


def _crashes(client: SyncPrefectClient, id_: Any) -> int:
    return sum(state.type == StateType.CRASHED for state in client.read_flow_run_states(id_))
