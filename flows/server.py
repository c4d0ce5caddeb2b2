"""The server, Prefect's pages and API and the files of the runs, as a process that ends with its parent.

`python -m flows.server` reads its standard input, a pipe from the parent, and stops when that closes:
on purpose, or because the parent was killed. The terminal's Ctrl-C does not reach it, so what is served
can say good-bye first.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csp.errors import InputError, MissingError
from flows.addresses import family, local_url, own_names, public_url

__all__ = ["FILES", "Server", "running"]

FILES = "/files"  # the path of the folders of the runs

FIRST_START = 600.0  # seconds; the first start makes the database, on a busy machine slowly
LAST_WORDS = 20.0  # seconds to stop in


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started.

    Attributes:
        url: For this machine.
        log: Where its process says what is wrong.
    """

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def wait(self) -> None:
        """Until it answers.

        Raises:
            MissingError: It does not come up.
        """
        deadline = time.monotonic() + FIRST_START
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(f"{self.url}/api/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise MissingError(f"The server did not come up in {FIRST_START:.0f} s; {self.log} says why.")

    def check(self) -> None:
        """Raises MissingError where it has ended."""
        if self.process.poll() is not None:
            raise MissingError(f"The server has stopped; {self.log} says why.")


@contextmanager
def running(host: str, port: int, log: Path) -> Iterator[Server]:
    """A server until the block is left. Its environment is this process's.

    Raises:
        InputError: The port is taken.
    """
    with socket.socket(family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"{host}:{port} cannot be used ({error.strerror}); choose another `port`."
            ) from error
    command = [sys.executable, "-m", "flows.server", host, str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield Server(local_url(host, port), log, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _stop_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(host: str, port: int) -> None:
    """Serve until SIGTERM. Password, database and folders are those of the environment."""
    import uvicorn
    from fastapi.routing import Mount
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, PREFECT_SERVER_LOGGING_LEVEL

    from flows.files import RunFiles
    from flows.guard import Guard
    from flows.sqlite import writers_wait

    password = PREFECT_SERVER_API_AUTH_STRING.value()
    if not password:
        raise InputError("A server without a password is not started.")
    writers_wait()
    app = create_app(final=True)
    app.router.routes.insert(0, Mount(FILES, RunFiles()))  # Prefect's pages take every path
    guarded = Guard(_pages_ask_no_more(app), password, own_names(host), public_url())
    level = str(PREFECT_SERVER_LOGGING_LEVEL.value()).lower()
    uvicorn.run(guarded, host=host, port=port, log_level=level, server_header=False)


def _pages_ask_no_more(app: Any) -> Any:
    """Prefect's pages would ask for the password themselves; who sees them has given it."""
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING
    from prefect.settings.context import temporary_settings

    async def asked_once(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/ui-settings":
            with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: None}):
                await app(scope, receive, send)
        else:
            await app(scope, receive, send)

    return asked_once


if __name__ == "__main__":
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    _serve(sys.argv[1], int(sys.argv[2]))
