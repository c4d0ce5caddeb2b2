"""What is asked of the server: by HTTP, as a browser does; Prefect's client waits for one that is away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

__all__ = ["Queue"]

PAGE = 200  # runs that are given at once


@dataclass(frozen=True, slots=True)
class Queue:
    """The runs of a server.

    Attributes:
        url: Of the server.
        auth: Name and password.
    """

    url: str
    auth: tuple[str, str]

    def submit(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Make a run; its id."""
        found = self._ask("GET", f"deployments/name/{deployment}/{deployment}")["id"]
        made = self._ask("POST", f"deployments/{found}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def runs(self) -> list[dict[str, Any]]:
        """All that there are.

        Raises:
            httpx.HTTPError: The server does not answer, or has no database.
        """
        found: list[dict[str, Any]] = []
        while True:
            body = {"limit": PAGE, "offset": len(found), "sort": "ID_DESC"}
            some = self._ask("POST", "flow_runs/filter", body)
            found += some
            if len(some) < PAGE:
                return found

    def answers(self) -> bool:
        """Can runs be submitted, single ones and those of many?"""
        try:
            for name in ("predict", "predict-many"):
                self._ask("GET", f"deployments/name/{name}/{name}")
            return True
        except httpx.HTTPError:
            return False

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        # not https: verify=False spares reading certificates at each question
        answer = httpx.request(
            method, f"{self.url}/api/{path}", json=body, auth=self.auth, timeout=30, verify=False
        )
        answer.raise_for_status()
        return answer.json()
