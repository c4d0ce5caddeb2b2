"""Server and workers as processes that are started again when they end, and what can be done to them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Kept", "descendants", "resident", "run_at_work"]

PAGE = os.sysconf("SC_PAGE_SIZE")
GRACE = 10.0  # seconds in which a program may end before others are looked after
RUN = b"PREFECT__FLOW_RUN_ID="


@dataclass
class Kept:
    """A program that is started again when it has ended, as containers are (`restart: unless-stopped`).

    Attributes:
        command: Program and words.
        log: Where it says what it does; its own, out of the folder that becomes full.
        again: Seconds until it is started again.
        starts: How often it was.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    again: float = 5.0
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _gone: float = 0.0

    def tend(self) -> None:
        """Start it if it is due. Call this every now and then."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None and not self._gone:
            self._gone = now
        if self._process is None or now - self._gone >= self.again:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command,
                    env=dict(self.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.starts, self._gone = self.starts + 1, 0.0

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        there = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and there else None

    def end(self, how: signal.Signals) -> bool:
        """With all that it has started, as the end of its container does; was there something?

        SIGTERM goes to it alone, which ends the others itself.
        """
        if (pid := self.pid) is None:
            return False
        below = descendants(pid)
        _send(pid, how)
        if how == signal.SIGKILL:
            for one in below:
                _send(one, how)
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        return True


def descendants(pid: int) -> list[int]:
    """All processes that one has started, and these."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            parent = int(place.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(place.parent.name))
    found, open_ = list[int](), [pid]
    while open_:
        below = children.get(open_.pop(), [])
        found += below
        open_ += below
    return found


def run_at_work(pid: int) -> int | None:
    """The process below this one that works on a run."""
    for one in descendants(pid):
        with suppress(OSError):
            if RUN in Path(f"/proc/{one}/environ").read_bytes():
                return one
    return None


def resident(pid: int) -> float:
    """Memory of a process, MB; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20
    except (OSError, IndexError):
        return 0.0


def _send(pid: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, how)
