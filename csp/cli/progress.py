"""How far the work is, on stderr: a bar a stage on a terminal, elsewhere a line a stage and now and then."""

from __future__ import annotations

import threading
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
)

from csp.cli.console import console
from csp.search.history import Heard, Round
from csp.search.pace import Pace, duration
from csp.search.stages import DOING, time_limits, time_shares
from csp.settings import SearchSettings

__all__ = ["hear_since", "progress", "status"]

EVERY = 30.0  # seconds between the lines of a log

Report = Callable[[str, int, int], None]
"""Called with the name of a stage, how many are done, and of how many."""


@contextmanager
def progress(settings: SearchSettings | None = None) -> Iterator[Report]:
    """A function that shows the progress until the block is left.

    Args:
        settings: Of the search, from which the time left is told; None: it is not.
    """
    pace = None if settings is None else Pace(time_shares(settings), DOING, time_limits(settings))
    if not console.is_terminal:
        lines = _Lines(pace=pace)
        with _beating(lines):
            yield lines
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console) as bars:
        yield _Bars(bars, pace)


@contextmanager
def _beating(lines: _Lines) -> Iterator[None]:
    """Long pieces of work say nothing themselves: a line is due all the same."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(EVERY):
            lines.again()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # what is said after the work, as that it was interrupted, is the last line


def hear_since(started: float) -> Heard:
    """Prints a line on each round of a deep search.

    Args:
        started: By `time.monotonic()`.
    """

    def hear(now: Round, before: Round | None) -> None:
        minutes = (time.monotonic() - started) / 60
        console.print(f"{now.line(before)}, {minutes:.1f} min")

    return hear


def status(name: str) -> Report:
    """Shows one of many pieces of work: on a terminal in a line that is written over."""
    if not console.is_terminal:
        return _Lines(f"{name}: ", stages=False)

    def show(stage: str, done: int, total: int) -> None:
        console.print(f"{name}: {stage} {done}/{total}" + " " * 20, end="\r")

    return show


class _Bars:
    """One bar a stage: what is done, and how many; above them, how long it all will take."""

    def __init__(self, bars: Progress, pace: Pace | None) -> None:
        self.bars = bars
        self.pace = pace
        self.tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not total:
            if self.pace:
                self.pace.measure(stage, done, total, time.monotonic())
            return
        if stage not in self.tasks:
            if self.pace and not self.tasks:
                self.tasks[""] = self.bars.add_task("in all, per cent", total=100, left="")
            self.tasks[stage] = self.bars.add_task(DOING.get(stage, stage), total=total, left="")
        self.bars.update(self.tasks[stage], completed=done, total=total)
        if self.pace:
            percent, left = self.pace.measure(stage, done, total, time.monotonic())
            text = "" if left is None else f"{duration(left)} left"
            self.bars.update(self.tasks[""], completed=round(percent), left=text)


class _Lines:
    """Lines for a log: at the first call, at the end of each stage, and between them not too often.

    Args:
        before: What each line begins with.
        stages: False: of what takes long only, neither the first nor the ends.
        pace: Tells the time left; None: it is not told.
    """

    def __init__(self, before: str = "", *, stages: bool = True, pace: Pace | None = None) -> None:
        self.before = before
        self.since = time.monotonic()
        self.said = float("-inf") if stages else self.since
        self.stages = stages
        self.pace = pace
        self.ended: set[str] = set()
        self.last: tuple[str, int, int] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        left = self.pace.measure(stage, done, total, now)[1] if self.pace else None
        if not total:
            return
        self.last = stage, done, total
        ends = self.stages and done >= total and stage not in self.ended
        if ends:
            self.ended.add(stage)
        if ends or now - self.said >= EVERY:
            self._say(now, left)

    def again(self) -> None:
        """What was reported last, if nothing was said since long."""
        now = time.monotonic()
        if self.last and now - self.said >= 0.9 * EVERY:
            self._say(now, self.pace.measure(*self.last, now)[1] if self.pace else None)

    def _say(self, now: float, left: float | None) -> None:
        assert self.last is not None
        stage, done, total = self.last
        self.said = now
        rest = "" if left is None or left < 1 else f", {duration(left)} left"
        doing = DOING.get(stage, stage)
        console.print(f"{self.before}{doing}: {done:,} of {total:,} after {now - self.since:.0f} s{rest}")
