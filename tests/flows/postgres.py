"""A real PostgreSQL for the tests that need one."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "pa55word"


@dataclass(frozen=True)
class Postgres:
    """A server of its own in a folder of its own; as root it runs as the user `postgres`."""

    programs: Path
    data: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def call(self, program: str, *words: str) -> None:
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, str(self.programs / program), "-D", str(self.data), *words]
        done = subprocess.run(
            command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        options = f"-p {self.port} -k {self.data} -c listen_addresses=127.0.0.1"
        self.call("pg_ctl", "-w", "-t", "240", "-l", str(self.data / "log"), "-o", options, "start")

    def stop(self) -> None:
        self.call("pg_ctl", "-m", "fast", "-w", "stop")


@contextmanager
def running() -> Iterator[Postgres]:
    """A server that is running; skips where PostgreSQL is not installed."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), Path(shutil.which("initdb") or "none").parent]
    programs = next((place for place in places if (place / "initdb").is_file()), None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path("/tmp") / f"csp-postgres-{os.getpid()}"  # where another user may go
    folder.mkdir(mode=0o755)
    (folder / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        os.chown(folder / "password", pwd.getpwnam("postgres").pw_uid, -1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Postgres(programs, folder / "data", probe.getsockname()[1])
    server.call("initdb", "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)
