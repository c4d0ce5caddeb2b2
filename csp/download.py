"""Files from the internet: asked for only where it is allowed, checked by their hash, written whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from csp.errors import MissingError
from csp.files import replacing

__all__ = ["fetch", "offline"]

WAIT = 20.0  # seconds for an answer, and for each piece
LONGEST = 300.0  # seconds for the whole
PIECE = 1 << 16  # bytes


def offline() -> bool:
    """Does $CSP_OFFLINE forbid to ask anything outside this machine?"""
    return os.environ.get("CSP_OFFLINE", "").lower() not in ("", "0", "false", "no")


def fetch(url: str, path: Path, sha256: str, *, wait: float = WAIT, longest: float = LONGEST) -> Path:
    """Download a file to `path`; nothing is there before it is whole and has the right hash.

    Args:
        sha256: Of the file, hexadecimal.
        wait: Seconds for an answer, and for each piece of it.
        longest: Seconds for the whole.

    Raises:
        MissingError: One sentence: it cannot be had, is not whole, too slow, or not the file that was wanted.
    """
    name = url.rsplit("/", 1)[-1]
    if offline():
        raise MissingError(f"{name} is not on this machine, and CSP_OFFLINE forbids to fetch it.")
    started, digest = time.monotonic(), hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=wait) as answer,
            replacing(path) as partial,
            partial.open("wb") as file,
        ):
            while piece := answer.read(PIECE):
                if time.monotonic() - started > longest:
                    raise MissingError(f"{name} cannot be downloaded: {longest:.0f} s were not enough.")
                file.write(piece)
                digest.update(piece)
            length = answer.headers.get("Content-Length")
            if length is not None and file.tell() != int(length):
                raise MissingError(f"{name} cannot be downloaded: the connection broke off.")
            if digest.hexdigest() != sha256:
                raise MissingError(f"What {url} gives is not {name} as it was published: its hash differs.")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise MissingError(f"{name} cannot be downloaded: {reason}.") from error
    return path
