"""The Prefect server as a process of its own that ends with the one that started it.

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
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from csp.errors import InputError, MissingError

__all__ = ["LOOPBACK", "local_url", "running", "shown_url"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")

FIRST_START = 600.0  # seconds; the first start makes the database, on a busy machine slowly
LAST_WORDS = 20.0  # seconds to stop in


@contextmanager
def running(host: str, port: int, log: Path) -> Iterator[Callable[[], None]]:
    """A server until the block is left, and a function that waits until it answers.

    Its environment is this process's.

    Raises:
        InputError: The port is taken.
        MissingError: Of the function: the server does not come up; `log` says why.
    """
    with socket.socket() as probe:
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
        yield lambda: _wait(process, host, port, log)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def local_url(host: str, port: int) -> str:
    """How processes of this machine reach what is bound to `host`."""
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"


def shown_url(host: str, port: int) -> str:
    """What a browser is to open, on another machine too if others are let in."""
    return local_url(host, port) if host in LOOPBACK else f"http://{socket.gethostname()}:{port}"


def _wait(process: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    address = f"{local_url(host, port)}/api/health"
    deadline = time.monotonic() + FIRST_START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise MissingError(f"The server stopped at once; {log} says why.")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers, and wants a password
        except OSError:
            time.sleep(0.2)
    raise MissingError(f"The server did not come up in {FIRST_START:.0f} s; {log} says why.")


def _stop_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    from prefect.cli import app

    from flows.sqlite import writers_wait

    writers_wait()
    sys.argv[1:] = ["server", "start", "--host", sys.argv[1], "--port", sys.argv[2]]
    app()
