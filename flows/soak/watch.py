"""Watching a queue until it is done: faults in their time, states of the runs, memory of the processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx

from flows.soak.faults import Faults
from flows.soak.processes import Kept, descendants, resident
from flows.soak.queue import Queue

__all__ = ["Watch"]

TICK, LOOK = 1.0, 10.0  # seconds between turns, and between looks at all runs and their memory
STILL = 1500.0  # seconds without any run changing its state, after which what is not done is given up
STARTED = 60.0  # seconds, after which the memory of a process is compared with what it has later
END = ("COMPLETED", "FAILED", "CANCELLED")


class Watch:
    """What was seen of a queue.

    Attributes:
        runs: As the server's API gave them the last time.
        seconds: From the first look to the end of the last run.
        longest_pause: Seconds without a run's end, at most.
    """

    def __init__(self, queue: Queue, server: Kept, workers: Sequence[Kept], faults: Faults) -> None:
        self.runs: list[dict[str, Any]] = []
        self.seconds = self.longest_pause = 0.0
        self._queue, self._server, self._workers, self._faults = queue, server, workers, faults
        self._sizes: dict[str, dict[int, list[float]]] = {"server": {}, "worker": {}, "run": {}}

    def until_done(self, n: int, note: Callable[[str], None]) -> None:
        """Until n runs have ended, or nothing changes any more."""
        began = looked = changed = last_end = time.monotonic()
        states, ended = "", 0
        while True:
            now = time.monotonic()
            for one in (self._server, *self._workers):
                one.tend()
            for words in self._faults.tend(now - began):
                note(words)
            if now - looked >= LOOK:
                looked = now
                self._look()
                if states != (seen := str(sorted((run["id"], run["state"]["id"]) for run in self.runs))):
                    states, changed = seen, now
                if ended != (over := sum(run["state"]["type"] in END for run in self.runs)):
                    self.longest_pause = max(self.longest_pause, now - last_end)
                    ended, last_end = over, now
                    self.seconds = now - began
                    note(f"{ended} of {n} runs have ended")
                if self._faults.over and (ended >= n or now - changed > STILL):
                    return
            time.sleep(TICK)

    def memory(self) -> dict[str, float]:
        """MB: the most that a process had, and by how much it was more at the end than a minute after its
        start, where it lived for so long."""
        found: dict[str, float] = {}
        for name, processes in self._sizes.items():
            found[f"{name}.most_mb"] = round(
                max((max(sizes) for sizes in processes.values()), default=0.0), 1
            )
            if name != "run":
                early = round(STARTED / LOOK)
                grown = [sizes[-1] - sizes[early] for sizes in processes.values() if len(sizes) > early]
                found[f"{name}.grown_mb"] = round(max(grown, default=0.0), 1)
        return found

    def _look(self) -> None:
        with suppress(httpx.HTTPError):  # it is away
            self.runs = self._queue.runs()
        for one in self._workers:
            if one.pid:
                self._weigh("worker", [one.pid])
                self._weigh("run", descendants(one.pid))
        if self._server.pid:
            self._weigh("server", descendants(self._server.pid))

    def _weigh(self, name: str, pids: Sequence[int]) -> None:
        for pid in pids:
            if size := resident(pid):
                self._sizes[name].setdefault(pid, []).append(size)
