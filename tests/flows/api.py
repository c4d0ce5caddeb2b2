"""What the tests ask of a Prefect server, and of the processes that work for it."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.flows.process import Csp, until


class Api:
    """The few questions that the tests ask of the server."""

    def __init__(self, csp: Csp) -> None:
        self.url = f"{csp.url}/api"  # not https: verify=False spares reading certificates at each question
        self.auth = csp.auth

    def get(self, path: str) -> Any:
        return self._call("GET", path)

    def ask(self, path: str, **body: Any) -> Any:
        return self._call("POST", path, json=body)

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def _call(self, method: str, path: str, **more: Any) -> Any:
        answer = httpx.request(method, f"{self.url}{path}", auth=self.auth, timeout=60, verify=False, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def run(self, id_: str) -> dict[str, Any]:
        return self.get(f"/flow_runs/{id_}")

    def newest(self) -> dict[str, Any]:
        """Of the runs that are not for later: tests plan some for 2100."""
        due = {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}}
        found = self.ask("/flow_runs/filter", flow_runs=due, sort="EXPECTED_START_TIME_DESC", limit=1)
        return found[0] if found else {}

    def state(self, id_: str) -> str:
        return self.run(id_)["state"]["name"]

    def submit(self, deployment: str, **parameters: Any) -> str:
        found = self.get(f"/deployments/name/{deployment}")["id"]
        return self.ask(f"/deployments/{found}/create_flow_run", parameters=parameters)["id"]

    def artifacts(self, id_: str) -> dict[str, dict[str, Any]]:
        """By the first word of their keys (progress, summary, …), the newest of each."""
        found = self.ask("/artifacts/filter", artifacts={"flow_run_id": {"any_": [id_]}}, sort="UPDATED_DESC")
        return {a["key"].split("-")[0]: a for a in reversed(found) if a["key"]}

    def cancel(self, id_: str) -> None:
        self.ask(f"/flow_runs/{id_}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})


def processes_of(id_: str) -> list[int]:
    """The processes that work on a run."""
    wanted, found = id_.encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            variables = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(v.startswith(b"PREFECT__FLOW_RUN_ID=") and v.endswith(wanted) for v in variables):
            found.append(int(place.name))
    return found


def kill(id_: str) -> None:
    """The processes of a run, so that they can clean nothing up."""
    killed = processes_of(id_)
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(killed) & set(processes_of(id_)), "the kill", 30)  # its successor may be there
