"""A PostgreSQL of its own, in a folder of its own, that can be stopped and started."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from csp.errors import CspError, MissingError

__all__ = ["Postgres", "free_port", "postgres"]


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server on this machine alone; as root it runs as the user `postgres`, which PostgreSQL asks for.

    Attributes:
        programs: Where initdb and pg_ctl are.
        folder: Of its data.
        password: Of its user postgres.
    """

    programs: Path
    folder: Path
    port: int
    password: str

    def url(self, driver: str = "psycopg", database: str = "postgres") -> str:
        """Its address for SQLAlchemy."""
        return f"postgresql+{driver}://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self._call("pg_ctl", "-w", "-t", "240", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        """Args: how: fast, or immediate, as if the machine had lost its power."""
        self._call("pg_ctl", "-m", how, "-w", "stop")

    def _call(self, program: str, *words: str) -> None:
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, str(self.programs / program), "-D", str(self.folder / "data"), *words]
        done = subprocess.run(
            command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
        )
        if done.returncode:
            raise CspError(f"{program} failed: {done.stdout.strip()}")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A new one, until the block is left.

    Raises:
        MissingError: PostgreSQL is not installed.
    """
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), Path(shutil.which("initdb") or "none").parent]
    programs = next((place for place in places if (place / "initdb").is_file()), None)
    if programs is None:
        raise MissingError("PostgreSQL is not installed (Debian: apt-get install postgresql).")
    with tempfile.TemporaryDirectory(prefix="csp-postgres-", dir="/tmp") as name:  # another user may go there
        folder = Path(name)
        folder.chmod(0o755)
        server = Postgres(programs, folder, free_port(), secrets.token_urlsafe(9))
        file = folder / "password"
        file.write_text(server.password)
        if os.geteuid() == 0:
            for place in (folder, file):
                os.chown(place, pwd.getpwnam("postgres").pw_uid, -1)
        server._call("initdb", "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={file}")
        server.start()
        try:
            yield server
        finally:
            with suppress(CspError):  # it may be stopped
                server.stop()


def free_port() -> int:
    """Of this machine, just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
