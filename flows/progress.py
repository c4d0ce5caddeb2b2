"""What a run tells while it works: a progress artifact and log lines, both with the time left."""

from __future__ import annotations

import time
from typing import cast
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

__all__ = ["Pace", "Reporter"]

SHOWN_EVERY = 3.0  # seconds
LOGGED_EVERY = 30.0


class Pace:
    """How far a piece of work is, per cent, and how long it will take, from what its stages report.

    Args:
        shares: Per cent of the whole that each stage takes, in their order.
        doing: What people are told while a stage runs.
    """

    def __init__(self, shares: dict[str, float], doing: dict[str, str]) -> None:
        self.shares, self.doing = shares, doing
        self.stage, self.since, self.first = "", 0.0, 0

    def at(self, stage: str, done: int, total: int, now: float) -> tuple[float, str]:
        """Per cent of the whole, and a sentence; `now` in seconds of any clock that goes on."""
        if stage != self.stage:
            self.stage, self.since, self.first = stage, now, done
        if stage not in self.shares:  # before the first stage
            return 0.0, f"{stage}: {done:,} of {total:,}"
        names = list(self.shares)
        before = sum(self.shares[name] for name in names[: names.index(stage)])
        percent = before + self.shares[stage] * (done / total if total else 1.0)
        text = f"{self.doing[stage]}: {done:,} of {total:,}"
        if self.first < done < total:
            seconds_a_percent = (now - self.since) * total / (self.shares[stage] * (done - self.first))
            text += f", {_duration(seconds_a_percent * (100 - percent))} left"
        return percent, text


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


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1.5:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
