"""The folders of the runs, served for reading, so that Prefect's pages can link to reports and structures."""

from __future__ import annotations

import base64
import hmac
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from csp.errors import InputError
from flows.home import AUTH

__all__ = ["served"]


@contextmanager
def served(folder: Path, host: str, port: int) -> Iterator[None]:
    """Serve a folder over HTTP until the block is left; with $CSP_AUTH, only to who knows it.

    Raises:
        InputError: The port is taken.
    """
    try:
        server = ThreadingHTTPServer((host, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be used ({error.strerror}); choose another `port`."
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012 the base's own, with what a browser should show
        **SimpleHTTPRequestHandler.extensions_map,
        ".cif": "text/plain; charset=utf-8",
        ".extxyz": "text/plain; charset=utf-8",
        ".json": "application/json",
    }

    def send_head(self):  # type: ignore[no-untyped-def]  # GET and HEAD come by here
        if self._allowed():
            return super().send_head()
        self.send_response(HTTPStatus.UNAUTHORIZED)
        self.send_header("WWW-Authenticate", 'Basic realm="csp"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _allowed(self) -> bool:
        wanted = os.environ.get(AUTH)
        if not wanted:
            return True
        expected = "Basic " + base64.b64encode(wanted.encode()).decode()
        return hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected.encode())

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
