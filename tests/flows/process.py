"""The command line as processes in a home of their own."""

from __future__ import annotations

import os
import random
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

    @property
    def password(self) -> str:
        """name:password that the server asks for."""
        return self.environment.get("CSP_AUTH") or (self.home / "token").read_text().strip()

    @property
    def auth(self) -> tuple[str, str]:
        name, _, word = self.password.partition(":")
        return name, word

    @property
    def client(self) -> dict[str, str]:
        """The environment of a process that speaks to the server by Prefect."""
        return {"PREFECT_API_URL": f"{self.url}/api", "PREFECT_API_AUTH_STRING": self.password}

    @property
    def log(self) -> Path:
        return self.home / "up.log"

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "csp", *words]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, said
        return said

    def up(self, *options: str) -> subprocess.Popen[bytes]:
        """`csp up`, when it says that it is; what it and its runs say goes to a file."""
        command = [sys.executable, "-m", "csp", "up", "--port", str(self.port), *options]
        self.home.mkdir(exist_ok=True)
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

        def ready() -> bool:
            assert process.poll() is None, self.log.read_text()
            return b"csp is up" in self.log.read_bytes()[said:]

        until(ready, "csp up")
        return process


def new_csp(home: Path) -> Csp:
    port = next(port for port in iter(_any_port, None) if _free(port))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "CSP_"))}
    kept["CSP_OFFLINE"] = "1"  # nothing here may ask outside of this machine
    kept["CSP_ROOTS"] = f"{home}:{home.parent}"  # tests have folders of their own beside it
    return Csp(home, port, {**kept, "CSP_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"})


def _any_port() -> int:
    """None that the system gives out by itself."""
    return random.randrange(20_000, 32_000)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a `csp up` as Ctrl-C does."""
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)


def until(holds: Callable[[], bool], what: str, patience: float = PATIENCE, every: float = 1.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen in {patience:.0f} s"
        time.sleep(every)
