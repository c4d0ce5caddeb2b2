"""Where taking up crashed runs again comes to an end."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run

from csp.errors import CspError

__all__ = ["CRASHES", "stop_crashing"]

CRASHES = 6  # after so many a run is not taken up again


def stop_crashing() -> None:
    """For the first line of a flow: an automation (`flows.up`) schedules a run whose process died again.

    Raises CspError in a run that has crashed too often.
    """
    if flow_run.run_count <= CRASHES:
        return
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(flow_run.id)
    if sum(state.type == StateType.CRASHED for state in states) >= CRASHES:
        raise CspError(f"The process of this run died {CRASHES} times; it is not started again.")
