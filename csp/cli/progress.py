"""One progress bar for each stage, on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from csp.search.stages import STAGES

__all__ = ["console", "progress_bars"]

console = Console(stderr=True)
DOING = {stage.name: stage.doing for stage in STAGES}


class _Stages:
    """One progress bar a stage: what is done, how many, the time left."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(DOING.get(stage, stage), total=total)
        self.bars.update(self.tasks[stage], completed=done, total=total)


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[_Stages]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet) as bars:
        yield _Stages(bars)
