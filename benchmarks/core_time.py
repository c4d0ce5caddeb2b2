"""The seconds that cores worked for a process and all that it started: time that other work on the machine
does not lengthen."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from csp.errors import MissingError

__all__ = ["core_seconds"]

PARENT, OWN_AND_REAPED = (
    1,
    slice(11, 15),
)  # ppid; utime, stime, cutime, cstime, after the name in /proc/PID/stat


def core_seconds(process: int | None = None) -> float:
    """Seconds that cores worked for a process since it began, with those of its descendants, to a hundredth.

    Args:
        process: Its number; None: this one. One that is gone has worked for 0.

    Raises:
        MissingError: There is no /proc, as there is on Linux.
    """
    if not Path("/proc/self/stat").is_file():
        raise MissingError("The time of processes is read from /proc, which this system does not have.")
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            ticks[int(name)] = sum(map(int, fields[OWN_AND_REAPED]))  # of its children, those that are gone
            children[int(fields[PARENT])].append(int(name))
    found, todo = 0, [os.getpid() if process is None else process]
    while todo:
        one = todo.pop()
        found += ticks.get(one, 0)
        todo += children[one]
    return found / os.sysconf("SC_CLK_TCK")
