"""How long a database takes to come: the whole of it by `csp library pull`, which is killed once on the way,
and what a search that names no library asks for.

The database is a library file that a server on the loopback interface serves, so that the internet has no
part in the times; the server has the same machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.library.server import Served, serving
from benchmarks.machine import machine
from csp.errors import InputError, ProviderError
from csp.files import write_json
from csp.library.library import Library
from csp.library.on_demand import library_for
from csp.library.providers import Provider
from csp.target import Target

__all__ = ["measure"]

LOOK = 0.05  # s between two looks at a process
Say = Callable[[str], None]


def measure(
    library: Path, formula: str, out: Path, *, page: int = 500, kill_at: float = 0.5, say: Say = print
) -> dict[str, Any]:
    """Pull a library from a server of it, ask for a formula twice, and write `summary.json`.

    Args:
        formula: Whose ratio and chemical system are asked for.
        out: Folder that does not hold a pull yet.
        page: Entries asked for at once.
        kill_at: Share of the entries after which the pull is killed, to be gone on with.

    Raises:
        InputError: `out` holds an earlier pull.
        ProviderError: The pull failed, or entries differ from those that are served.
    """
    pulled = out / "pulled.parquet"
    if pulled.exists():
        raise InputError(f"{pulled} is there already; choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    known = Library.open(library)
    served = Served(known)
    n = len(served.index)  # read before the time counts
    found: dict[str, Any] = {
        "library": known.fingerprint,
        "served": n,
        "page": page,
        "formula": Target.parse(formula).formula,
        "load_before": round(os.getloadavg()[0], 2),
    }
    with serving(served) as url:
        asked = _Pull(url, pulled, page)
        killed = asked.run(stop_at=int(kill_at * n))
        say(f"killed after {killed['entries']:,} entries, {killed['seconds']:.0f} s")
        whole = asked.run()
        say(f"pulled after {whole['seconds']:.0f} s more")
        pages = Counter(path for path in served.requests if "/structures" in path)
        found |= {
            "pull.entries": len(Library.open(pulled)),
            "pull.killed_after_entries": killed["entries"],
            "pull.pages": len(pages),
            "pull.pages_asked_twice": sum(count - 1 for count in pages.values()),
            "pull.seconds": round(killed["seconds"] + whole["seconds"], 1),
            "pull.cpu_seconds": round(killed["cpu"] + whole["cpu"], 1),
            "pull.seconds_of_first_20000": killed["of_20000"],
            "pull.peak_mib": max(killed["mib"], whole["mib"]),
        }
        for time_of in ("first", "again"):
            requests = len(served.requests)
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                asked_for = process.submit(_ask, url, formula, out).result()
            found |= {f"on_demand.{time_of}.{name}": value for name, value in asked_for.items()}
            found[f"on_demand.{time_of}.requests"] = len(served.requests) - requests
    found |= {"load_after": round(os.getloadavg()[0], 2), **machine(torch.device("cpu"))}
    write_json(out / "summary.json", found)
    return found


def _ask(url: str, formula: str, out: Path) -> dict[str, Any]:
    """What a search of a formula does that names no library, of a user who has chosen none."""
    os.environ.pop("CSP_OFFLINE", None)
    os.environ["XDG_CONFIG_HOME"] = str(out / "config")
    target = Target.parse(formula)
    started = time.perf_counter()
    got = library_for(target, provider=Provider("here", url, "This machine", "CC0"), cache=out / "cache")
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "entries": len(got.library),
        "of_ratio": len(got.library.rows(target.anonymous)),
        "peak_mib": _peak_mib(os.getpid()),
    }


class _Pull:
    """`csp library pull` of everything, in a process of its own."""

    def __init__(self, url: str, out: Path, page: int) -> None:
        self.out = out
        self.command = [
            *(sys.executable, "-m", "csp", "library", "pull", str(out)),
            *("--provider", url, "--page", str(page)),
        ]

    def run(self, stop_at: int | None = None) -> dict[str, Any]:
        """Until it ends, or is killed once `stop_at` entries are kept.

        Raises:
            ProviderError: It failed.
        """
        environment = {name: value for name, value in os.environ.items() if name != "CSP_OFFLINE"}
        started, of_20000, mib = time.perf_counter(), None, 0
        before = os.times()
        log = self.out.with_suffix(".log")
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(self.command, env=environment, stdout=file, stderr=file)
            try:
                while process.poll() is None:
                    time.sleep(LOOK)
                    mib = _peak_mib(process.pid) or mib
                    kept = self.kept()
                    if of_20000 is None and kept >= 20_000:
                        of_20000 = round(time.perf_counter() - started, 1)
                    if stop_at is not None and kept >= stop_at:
                        process.kill()
                        process.wait()
            finally:
                process.kill()
                process.wait()
        if process.returncode != 0 and stop_at is None:
            raise ProviderError(f"The pull failed: {log.read_text(encoding='utf-8').strip()[-500:]}")
        seconds, after = time.perf_counter() - started, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return {"seconds": seconds, "cpu": cpu, "of_20000": of_20000, "mib": mib, "entries": self.kept()}

    def kept(self) -> int:
        """Entries that it says to have."""
        for file in self.out.parent.glob(f".pull-*.{self.out.name}/state.json"):
            try:
                return int(json.loads(file.read_text(encoding="utf-8"))["sent"])
            except (OSError, ValueError, KeyError):
                continue
        return 0


def _peak_mib(pid: int) -> int:
    """The most memory that a process has had; 0 where the system does not tell (it is Linux that does)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:")), 0)
