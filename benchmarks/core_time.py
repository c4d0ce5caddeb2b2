"""The seconds that cores worked for a process and all that it started: time that other work on the machine
does not lengthen."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["core_seconds"]

OWN_AND_REAPED = slice(11, 15)  # utime, stime, cutime and cstime, after the name in /proc/PID/stat


def core_seconds(process: int | None = None) -> float:
    """Seconds that cores worked for a process since it began, with those of its descendants.

    Args:
        process: Its number; None: this one. One that is gone has worked for 0.

    Raises:
        OSError: Where there is no /proc, as there is on Linux.
    """
    if not Path("/proc/self/stat").is_file():
        raise OSError("there is no /proc on this system to read the time of processes from")
    return _ticks(os.getpid() if process is None else process) / os.sysconf("SC_CLK_TCK")


def _ticks(process: int) -> int:
    """Children that are gone are in their parent's own row, those that live have rows of their own."""
    folder = Path("/proc") / str(process)
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        lists = [path.read_text() for path in (folder / "task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = sum(int(ticks) for ticks in fields[OWN_AND_REAPED])
    return own + sum(_ticks(int(child)) for one in lists for child in one.split())
