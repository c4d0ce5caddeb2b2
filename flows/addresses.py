"""How a server is called: by processes of its machine, by people elsewhere, and what it answers to."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import urlsplit

from csp.errors import InputError
from flows.home import PUBLIC_URL

__all__ = ["LOOPBACK", "family", "local_url", "own_names", "public_url", "shown_url"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # every address of the machine → the one to call it by itself
ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation (RFC 5737); nothing is sent to it


def local_url(host: str, port: int) -> str:
    """How processes of this machine reach what is bound to `host`."""
    return _url(ALL.get(host, host), port)


def shown_url(host: str, port: int) -> str:
    """What a browser is to open: $CSP_URL; else an address that other machines know, if they are let in."""
    return public_url() or _url(_number() if host in ALL else host, port)


def public_url() -> str:
    """$CSP_URL, "" where it is not set.

    Raises:
        InputError: It is no address of a server, or has a path.
    """
    given = os.environ.get(PUBLIC_URL, "").rstrip("/")
    if not given:
        return ""
    try:
        parts = urlsplit(given)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and "@" not in given
    except ValueError:
        good = False
    if not good or parts.path or parts.query or parts.fragment:
        raise InputError(
            f"{given} is no address of a server; write https://csp.example.org, without a folder.",
            setting="public_url",
        )
    return given


def own_names(host: str) -> set[str]:
    """The names of this machine, lower case, that a server bound to `host` may be called by."""
    return {name.lower() for name in (host, socket.gethostname(), socket.getfqdn()) if name}


def family(host: str) -> socket.AddressFamily:
    """Of addresses like this one."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _number() -> str:
    """This machine's address in its network; its name where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)  # chooses the way and sends nothing
            number = str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
    return socket.gethostname() if ipaddress.ip_address(number).is_loopback else number
