"""The searches that are compared, each a program of `benchmarks.baselines`, run until its time is over."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.baselines.cryspy_search import check_cryspy
from benchmarks.core_time import core_seconds
from csp.errors import InputError, MissingError

__all__ = ["ARMS", "Run", "Watch", "check_arms", "run"]

ARMS = {
    "pyxtal": ("pyxtal_search", ()),
    "airss": ("airss_search", ()),
    "cryspy_rs": ("cryspy_search", ("--algorithm", "RS")),
    "cryspy_ea": ("cryspy_search", ("--algorithm", "EA")),
    "ours": ("our_search", ()),
}
"""The module of each and what else it is told."""

LOG = "log.txt"
LOOKS = 0.5  # seconds between looks at its time
STALLED = 300.0  # seconds in which cores have not worked one for it: it will not go on
ROOT = Path(__file__).parents[2]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Run:
    """How a program ended.

    Attributes:
        core_seconds: That cores worked for it.
        wall_seconds: That passed.
        failed: Why it ended before its time, a clause; "" where it was stopped or had nothing left to do.
    """

    core_seconds: float
    wall_seconds: float
    failed: str


@dataclass(slots=True)
class Watch:
    """Notices when a program does not go on any more.

    Attributes:
        since: When cores last had worked for another second, by any clock.
        seen: Seconds that they had worked by then.
    """

    since: float
    seen: float = 0.0

    def stalled(self, worked: float, now: float) -> bool:
        """Have cores worked for less than a second in the last `STALLED` seconds?"""
        if worked >= self.seen + 1:
            self.seen, self.since = worked, now
        return now - self.since > STALLED


def check_arms(names: tuple[str, ...]) -> None:
    """Are these searches, and is what they need installed?

    Raises:
        InputError, MissingError: If not.
    """
    for name in names:
        if name not in ARMS:
            raise InputError(f"there is no search {name!r}; choose from {', '.join(ARMS)}.", setting="arms")
    if "pyxtal" in names and importlib.util.find_spec("pyxtal") is None:
        raise MissingError("PyXtal is not installed: pip install 'csp-engine[benchmarks]'.")
    if any(name.startswith("cryspy") for name in names):
        check_cryspy()
    core_seconds()


def run(
    arm: str, formula: str, folder: Path, *, relaxer: str, minutes: float, max_atoms: int, seed: int
) -> Run:
    """Have one search work on a formula in an empty folder, in one thread, until cores have worked so many
    minutes for it, its start included; what it relaxed is in its record, what it said in `log.txt`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    module, more = ARMS[arm]
    options = {"relaxer": relaxer, "minutes": minutes, "max-atoms": max_atoms, "seed": seed, "out": folder}
    command = [sys.executable, "-m", f"benchmarks.baselines.{module}", formula, *more]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = os.environ | ONE_THREAD
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.monotonic()
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=folder
        )
        worked, failed = _wait(process, 60 * minutes)
    if process.returncode > 0:
        failed = f"it ended with code {process.returncode}: {_last_line(folder / LOG)}"
    return Run(round(worked, 2), round(time.monotonic() - began, 2), failed)


def _wait(process: subprocess.Popen[bytes], most: float) -> tuple[float, str]:
    """Wait until a process ends, or end it and its descendants; the seconds that cores worked for it, and why
    it had to be ended if not for its time."""
    worked, failed, watch = 0.0, "", Watch(time.monotonic())
    try:
        while process.poll() is None and worked < most:
            time.sleep(LOOKS)
            worked = max(worked, core_seconds(process.pid))  # of one that has ended: 0
            if watch.stalled(worked, time.monotonic()):
                failed = f"no core worked for it in {STALLED:.0f} s"
                break
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return worked, failed


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:300]
