"""What a run tells while it works: a progress artifact and log lines, both with the time left."""

from __future__ import annotations

import time
from typing import cast
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from csp.search.pace import Pace

__all__ = ["Reporter"]

SHOWN_EVERY = 3.0  # seconds
LOGGED_EVERY = 30.0


class Reporter:
    """Called with (stage, done, total) inside of a run; says it to people, not too often.

    A server that cannot be reached is said in the log and stops nothing.
    """

    def __init__(self, key: str, pace: Pace) -> None:
        self.key = key
        self.pace = pace
        self.artifact: UUID | None = None
        self.shown = self.logged = float("-inf")

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        news = done == total or stage != self.pace.stage
        percent, text = self.pace.at(stage, done, total, now)
        if not total:
            return
        if news or now - self.shown >= SHOWN_EVERY:
            self.shown = now
            self._show(percent, text)
        if news or now - self.logged >= LOGGED_EVERY:
            self.logged = now
            get_run_logger().info("%s", text)

    def started(self, text: str) -> None:
        """The first word, before there is anything to count."""
        self._show(0.0, text)

    def finished(self, text: str) -> None:
        """The last word, at 100 %."""
        self._show(100.0, text)

    def _show(self, percent: float, text: str) -> None:
        try:
            if self.artifact is None:
                created = create_progress_artifact(percent, key=self.key, description=text)
                self.artifact = cast(UUID, created)
            else:
                update_progress_artifact(self.artifact, percent, description=text)
        except httpx.HTTPError as error:
            get_run_logger().warning("The progress cannot be shown: %s", error)
