"""The command line as processes in a home of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 900.0  # seconds; a busy machine with one core to spare is slow, and nothing here measures it


@dataclass(frozen=True)
class Csp:
    """The command line in a home of its own."""

    home: Path
    port: int
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.cli", *words]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, said
        return said

    def up(self, *options: str) -> subprocess.Popen[str]:
        """`csp up`, when it says that it is."""
        process = self.start("up", "--port", str(self.port), *options)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "csp is up" in line:
                return process
        raise AssertionError(said)

    def ranked(self, folder: Path) -> list[dict]:
        return json.loads((folder / "ranked.json").read_text())["results"]


def new_csp(home: Path) -> Csp:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "CSP_"))}
    return Csp(home, port, {**kept, "CSP_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"})


def stop(process: subprocess.Popen[str], how: int = signal.SIGINT) -> str:
    """End a `csp up` and say what it said."""
    process.send_signal(how)
    said, _ = process.communicate(timeout=PATIENCE)
    return said


def until(holds: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen in {patience:.0f} s"
        time.sleep(1)
