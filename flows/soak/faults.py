"""What is done to a queue, and when."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flows.soak.postgres import Postgres
from flows.soak.processes import Kept, run_at_work
from flows.soak.small_disk import SmallDisk

__all__ = ["Fault", "Faults", "planned"]

BETWEEN = 45.0  # seconds between kills, in the mean
KILLS = ("run", "run", "worker", "worker_stopped", "server")  # by how often
LONG = 60.0  # seconds that the database is away and the disk full
AWAY, FULL = (0.2, 0.4), (0.55, 0.75)  # when, of the whole time


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        at: Seconds from the beginning.
        what: run, worker, server: killed; worker_stopped: by SIGTERM; database: away; disk: full.
    """

    at: float
    what: str


def planned(seconds: float, seed: int, *, disk: bool) -> list[Fault]:
    """Faults over so many seconds, by a seed.

    Args:
        disk: Is there one that can be filled?
    """
    draw = random.Random(seed)
    found = [Fault(draw.uniform(*AWAY) * seconds, "database")]
    found += [Fault(draw.uniform(*FULL) * seconds, "disk")] * disk
    at, kills = draw.expovariate(1 / BETWEEN), list[str]()
    while at < seconds:
        kills = kills or draw.sample(KILLS, len(KILLS))  # by turns, so that in a short time all come, too
        found.append(Fault(at, kills.pop()))
        at += draw.expovariate(1 / BETWEEN)
    return sorted(found)


class Faults:
    """Faults that are done as their time comes.

    Attributes:
        done: How often each was; what found nothing to kill does not count.
    """

    def __init__(
        self,
        plan: Sequence[Fault],
        server: Kept,
        workers: Sequence[Kept],
        database: Postgres,
        disk: SmallDisk | None,
        seed: int,
    ) -> None:
        self.done: Counter[str] = Counter()
        self._open, self._ends = list(plan), dict[str, float]()
        self._server, self._workers, self._database, self._disk = server, workers, database, disk
        self._draw = random.Random(seed)

    @property
    def over(self) -> bool:
        """Has all happened, and is all there again?"""
        return not self._open and not self._ends

    def tend(self, now: float) -> list[str]:
        """Do what is due after so many seconds; what was done, in words."""
        said = [self._end(what) for what, end in list(self._ends.items()) if now >= end]
        while self._open and self._open[0].at <= now:
            said.append(self._do(self._open.pop(0).what, now))
        return [words for words in said if words]

    def give_back(self) -> None:
        """Database and disk as they were."""
        for what in list(self._ends):
            self._end(what)

    def _do(self, what: str, now: float) -> str:
        if what == "database":
            self._database.stop("immediate")
            self._ends[what] = now + LONG
        elif what == "disk":
            assert self._disk is not None
            self._disk.fill()
            self._ends[what] = now + LONG
        elif not self._kill(what):
            return ""
        self.done[what] += 1
        return {
            "run": "the process of a run is killed",
            "worker": "a worker is killed with its run",
            "worker_stopped": "a worker is stopped",
            "server": "the server is killed",
            "database": "the database is away",
            "disk": "the disk is full",
        }[what]

    def _kill(self, what: str) -> bool:
        if what == "server":
            return self._server.end(signal.SIGKILL)
        worker = self._draw.choice(self._workers)
        if what == "worker":
            return worker.end(signal.SIGKILL)
        if what == "worker_stopped":
            return worker.end(signal.SIGTERM)
        at_work = [run for one in self._workers if one.pid and (run := run_at_work(one.pid))]
        if not at_work:
            return False
        os.kill(self._draw.choice(at_work), signal.SIGKILL)
        return True

    def _end(self, what: str) -> str:
        del self._ends[what]
        if what == "database":
            self._database.start()
            return "the database is back"
        assert self._disk is not None
        self._disk.free()
        return "the disk has room again"
