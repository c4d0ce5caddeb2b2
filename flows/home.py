"""Where `csp up` keeps its state, and the environment that Prefect is to find.

Nothing here imports Prefect: it reads its settings from the environment when it is first imported.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from csp.errors import InputError, MissingError
from csp.files import write_json

__all__ = [
    "AUTH",
    "FILES_URL",
    "PUBLIC_URL",
    "STORE_URL",
    "Up",
    "findable",
    "home",
    "opening",
    "password",
    "prepare",
    "reach",
    "runs",
    "token",
]

# Names in the environment
AUTH = "CSP_AUTH"  # name:password
FILES_URL = "CSP_FILES_URL"  # where a browser finds the folders of the runs; "/files" on our own server
PUBLIC_URL = "CSP_URL"  # address of the server for people and their browsers
STORE_URL = "CSP_STORE_URL"  # a database for the runs instead of files; it may hold a password


@dataclass(frozen=True, slots=True)
class Up:
    """What a running `csp up` tells the other commands.

    Attributes:
        url: Of the Prefect server, for this machine.
        pid: Process of `csp up`.
    """

    url: str
    pid: int

    def write(self) -> None:
        write_json(_record(), asdict(self))

    @staticmethod
    def read() -> Up | None:
        """What was written last; the process may have been killed since."""
        try:
            told = json.loads(_record().read_text(encoding="utf-8"))
            return Up(**{field.name: told[field.name] for field in fields(Up)})
        except (FileNotFoundError, ValueError, KeyError):
            return None

    @staticmethod
    def forget() -> None:
        _record().unlink(missing_ok=True)


def home() -> Path:
    """$CSP_HOME, ~/.csp by default. Who writes into it makes it: to look makes nothing."""
    return Path(os.environ.get("CSP_HOME") or "~/.csp").expanduser().absolute()


def made_home() -> Path:
    """The same, there. What is made is for its owner alone: results are not to be read past the password."""
    place = home()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def runs() -> Path:
    """The folders of the runs, one each."""
    return home() / "runs"


def findable(folder: Path, name: str) -> None:
    """Have the folder of a run that is elsewhere found among the others, as a link of this name."""
    place = runs() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if folder != place and not place.is_symlink():
        place.symlink_to(folder.absolute())


def password() -> str | None:
    """$CSP_AUTH, name:password; None where it is not set.

    Raises:
        InputError: It is of another form.
    """
    given = os.environ.get(AUTH)
    if not given:
        return None
    name, colon, word = given.partition(":")
    if not (name and colon and word):
        raise InputError(f"${AUTH} is not name:password.")
    if not given.isascii() or not given.isprintable():  # Prefect compares ASCII only
        raise InputError(f"${AUTH} may hold ASCII letters, digits and signs only.")
    return given


def token(*, make: bool = False) -> str | None:
    """What a server of this home asks for where there is no password, of the form name:password.

    It is in a file that only the user can read; None where none was made yet.

    Args:
        make: Make one where there is none.
    """
    place = (made_home() if make else home()) / "token"
    try:
        if make:
            opened = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "w", encoding="ascii") as file:
                file.write(f"csp:{secrets.token_urlsafe(32)}\n")
    except FileExistsError:
        place.chmod(0o600)  # copied from elsewhere, perhaps
    try:
        return place.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def opening(url: str, on_terminal: bool) -> str:
    """What a person is told to open: with the token, where there is one and only they see it."""
    asked = token()
    if password() or not asked:
        return url
    return f"{url}/login#{asked}" if on_terminal else f"{url} (it asks for what is in {home() / 'token'})"


def prepare(url: str, auth: str | None) -> None:
    """Point Prefect in this process and its children at a server, and at its own folder in ours.

    Call before Prefect is imported. What is set already stays.

    Args:
        auth: What the server asks for, name:password.
    """
    wanted = {
        "PREFECT_HOME": str(home() / "prefect"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_URL": os.environ.get(PUBLIC_URL, "").rstrip("/") or url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "6",  # a server that restarts is waited for about two minutes
    }
    if auth:
        wanted["PREFECT_API_AUTH_STRING"] = auth
    made_home()  # Prefect makes its own folder, but none above it
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def reach() -> str:
    """Point Prefect at the server that is to be used; its address.

    That is $PREFECT_API_URL, else $CSP_URL, else that of `csp up`.

    Raises:
        MissingError: There is none.
    """
    given = os.environ.get("PREFECT_API_URL", "").removesuffix("/").removesuffix("/api")
    given = given or os.environ.get(PUBLIC_URL, "").removesuffix("/")
    up = Up.read()
    if not given and up is None:
        raise MissingError(
            f"No server is running; start one with `csp up`, or name another by {PUBLIC_URL}=https://…"
        )
    url = given or (up.url if up else "")
    ours = up is not None and url == up.url
    prepare(url, password() or (token() if ours else None))
    return url


def _record() -> Path:
    return home() / "up.json"
