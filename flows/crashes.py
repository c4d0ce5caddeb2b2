"""A run whose process died goes on from what is stored, and where that comes to an end.

The worker that sees a process die puts its run on the list again (`go_on`), at once and without the
server's events, of which a busy SQLite may lose one. A run whose worker is gone too is found by its silence
(the automations in `flows.up`).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import flow_run as this_run
from prefect.states import AwaitingRetry

from csp.errors import CspError

__all__ = ["CRASHES", "GOES_ON", "go_on", "put_back", "stop_crashing"]

CRASHES = 6  # after so many a run is not taken up again
GOES_ON = "Goes on from what is stored."


def go_on(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """For a flow's `on_crashed`: schedule the run again, unless it crashed too often."""
    with get_client(sync_client=True) as client:
        if flow_run.deployment_id and _crashes(client, flow_run.id) < CRASHES:
            client.set_flow_run_state(flow_run.id, AwaitingRetry(message=GOES_ON))


def put_back(deployments: list[UUID]) -> None:
    """Schedule the runs of these deployments again whose processes end with the one that made them.

    Otherwise they would be taken for alive until they had been silent for long.
    """
    theirs = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=deployments),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])),
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=theirs):
            client.set_flow_run_state(run.id, AwaitingRetry(message=GOES_ON))


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
