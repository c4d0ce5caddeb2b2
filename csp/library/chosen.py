"""The user's own library: the file that `csp library use` names, kept in the user's configuration."""

from __future__ import annotations

from pathlib import Path

from csp.errors import InputError, MissingError
from csp.files import write_text

__all__ = ["choose", "chosen", "forget"]


def _place() -> Path:
    from platformdirs import user_config_path

    return user_config_path("csp-engine") / "library.txt"


def choose(path: Path) -> None:
    """Have searches without `--library` use this file.

    Raises:
        MissingError: It is not there.
    """
    if not path.is_file():
        raise MissingError(
            f"There is no library at {path}; `csp library pull` or `csp library import` makes one."
        )
    write_text(_place(), f"{path.absolute()}\n")


def forget() -> None:
    """Take the choice back."""
    _place().unlink(missing_ok=True)


def chosen() -> Path | None:
    """The file, or None if none is chosen.

    Raises:
        InputError: The chosen one is gone.
    """
    try:
        path = Path(_place().read_text(encoding="utf-8").strip())
    except OSError:
        return None
    if not path.is_file():
        raise InputError(f"Your library {path} is gone; choose another with `csp library use`, or --none.")
    return path
