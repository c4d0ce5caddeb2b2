"""Where `csp up` keeps its state, and the environment that Prefect is to find.

Nothing here imports Prefect: it reads its settings from the environment when it is first imported.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from csp.errors import InputError, MissingError
from csp.files import write_json

__all__ = ["AUTH", "FILES_URL", "STORE_URL", "Up", "home", "prepare", "reach", "runs"]

# Names in the environment
AUTH = "CSP_AUTH"  # name:password
FILES_URL = "CSP_FILES_URL"  # where `csp up` serves the folders of the runs
STORE_URL = "CSP_STORE_URL"  # a database for the runs instead of files; it may hold a password


@dataclass(frozen=True, slots=True)
class Up:
    """What a running `csp up` tells the other commands.

    Attributes:
        url: Of the Prefect server.
        files: Address of the folders of the runs, served for reading.
        pid: Process of `csp up`.
    """

    url: str
    files: str
    pid: int

    def write(self) -> None:
        write_json(_record(), asdict(self))

    @staticmethod
    def read() -> Up | None:
        """What was written last; the process may have been killed since."""
        try:
            return Up(**json.loads(_record().read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    @staticmethod
    def forget() -> None:
        _record().unlink(missing_ok=True)


def home() -> Path:
    """$CSP_HOME, ~/.csp by default. Who writes into it makes it: to look makes nothing."""
    return Path(os.environ.get("CSP_HOME") or "~/.csp").expanduser().absolute()


def runs() -> Path:
    """The folders of the runs, one each."""
    return home() / "runs"


def prepare(url: str) -> None:
    """Point Prefect in this process and its children at a server, and at its own folder in ours.

    $CSP_AUTH (name:password) is asked for by the server and given by its clients. Call before Prefect
    is imported. What is set already stays.
    """
    wanted = {
        "PREFECT_HOME": str(home() / "prefect"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "6",  # a server that restarts is waited for about two minutes
    }
    if auth := os.environ.get(AUTH):
        if ":" not in auth:
            raise InputError(f"${AUTH} is not name:password.")
        wanted |= {"PREFECT_API_AUTH_STRING": auth, "PREFECT_SERVER_API_AUTH_STRING": auth}
    home().mkdir(parents=True, exist_ok=True)  # Prefect makes its own folder, but none above it
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def reach() -> str:
    """Point Prefect at the server that is to be used, $PREFECT_API_URL or that of `csp up`; its address.

    Raises:
        MissingError: There is none.
    """
    given = os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
    up = Up.read()
    if not given and up is None:
        raise MissingError("No server is running; start one with `csp up`, or set PREFECT_API_URL.")
    url = given or (up.url if up else "")
    prepare(url)
    return url


def _record() -> Path:
    return home() / "up.json"
