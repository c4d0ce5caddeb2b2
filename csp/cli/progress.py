"""How far the work is, on stderr: a bar a stage on a terminal, elsewhere a line a stage and now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from csp.cli.console import console
from csp.search.history import Round
from csp.search.stages import STAGES

__all__ = ["hear", "progress", "status"]

DOING = {stage.name: stage.doing for stage in STAGES}
EVERY = 30.0  # seconds between the lines of a log

Report = Callable[[str, int, int], None]
"""Called with the name of a stage, how many are done, and of how many."""


@contextmanager
def progress() -> Iterator[Report]:
    """A function that shows the progress until the block is left."""
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield _Bars(bars)


def hear(now: Round, before: Round | None) -> None:
    """A line on a round of a deep search."""
    console.print(now.line(before))


def status(name: str) -> Report:
    """Shows one of many pieces of work: on a terminal in a line that is written over."""
    if not console.is_terminal:
        return _Lines(f"{name}: ", stages=False)

    def show(stage: str, done: int, total: int) -> None:
        console.print(f"{name}: {stage} {done}/{total}" + " " * 20, end="\r")

    return show


class _Bars:
    """One bar a stage: what is done, how many, the time left."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(DOING.get(stage, stage), total=total)
        self.bars.update(self.tasks[stage], completed=done, total=total)


class _Lines:
    """Lines for a log: at the first call, at the end of each stage, and between them not too often.

    Args:
        before: What each line begins with.
        stages: False: of what takes long only, neither the first nor the ends.
    """

    def __init__(self, before: str = "", *, stages: bool = True) -> None:
        self.before = before
        self.since = time.monotonic()
        self.said = float("-inf") if stages else self.since
        self.stages = stages
        self.ended: set[str] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        ends = self.stages and done >= total > 0 and stage not in self.ended
        if ends:
            self.ended.add(stage)
        if ends or now - self.said >= EVERY:
            self.said = now
            doing = DOING.get(stage, stage)
            console.print(f"{self.before}{doing}: {done:,} of {total:,} after {now - self.since:.0f} s")
