"""The folders that submitted runs may read and write; what is outside of them is refused.

They keep people who share a server from each other's mistakes. They are no wall against somebody who means
harm: whoever knows the password of a Prefect server can have it start programs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from csp.errors import InputError
from flows.home import findable, home, runs

__all__ = [
    "ROOTS",
    "folder_of_run",
    "for_results",
    "roots",
    "settings_within",
    "usual_roots",
    "with_paths",
    "within",
]

S = TypeVar("S", bound=BaseModel)
ROOTS = "CSP_ROOTS"  # in the environment: folders, as PATH lists them
NAMES = {"surrogate", "relaxer", "labeller", "second_opinion", "impurities", "properties"}
"""Settings that are a name, or a file or folder; or several of these."""
FILES = (".safetensors", ".cif", ".mcif", ".vasp", ".poscar", ".xyz", ".extxyz", ".db", ".parquet")
MARK = ".csp-run"  # a file in a folder that runs may write into
OF_A_RUN = {MARK, "run.sqlite", "ranked.json", "log.jsonl", "recovery.json"}
"""One of these is in the folder of a run, a training or a benchmark."""


def roots() -> list[Path]:
    """$CSP_ROOTS, else the home of `csp up` alone."""
    named = [Path(name) for name in os.environ.get(ROOTS, "").split(os.pathsep) if name]
    return [root.expanduser().absolute() for root in named] or [home()]


def usual_roots() -> str:
    """For the variable where it is not set and one person works: their home, and where they are."""
    places = (home(), Path(os.path.expanduser("~")), Path.cwd())
    return os.pathsep.join(dict.fromkeys(str(place) for place in places if place.is_absolute()))


def within(path: Path) -> Path:
    """A path that is under one of the roots, links followed. A relative one is looked for in each of them.

    Raises:
        InputError: It is outside of all.
    """
    allowed = roots()
    try:
        path = path.expanduser()
        places = [path] if path.is_absolute() else [root / path for root in allowed]
        place = next((place for place in places if place.exists()), places[0])
        real = place.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{str(path)[:100]!r} is no path that this machine can have.") from error
    if any(real.is_relative_to(root.resolve()) for root in allowed):
        return place
    raise InputError(
        f"{path} is outside of the folders that runs of this server may use: "
        f"{', '.join(map(str, allowed))}. Who runs the server can name others by {ROOTS}."
    )


def for_results(folder: Path) -> Path:
    """A folder under the roots that was empty or is a run's already: nothing else is written over.

    It is made where it is not there.

    Raises:
        InputError: It is outside, holds something else or cannot be made.
    """
    folder = within(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in folder.iterdir()}
        if there and not there & OF_A_RUN and not all(name.startswith(".") for name in there):
            raise InputError(f"{folder} holds other files; name a new folder for the results.")
        (folder / MARK).touch()
    except OSError as error:
        raise InputError(f"{folder} cannot be a folder for results: {error.strerror}.") from error
    return folder


def folder_of_run(place: str, folder: Path | None) -> Path:
    """Where the results of a submitted run go, which is found by `place` among the folders of the runs.

    Args:
        folder: That was asked for; None: one of that name among the others.

    Raises:
        InputError: As of `for_results`.
    """
    out = for_results(folder) if folder else runs() / place
    findable(out, place)
    return out


def settings_within(settings: S) -> S:
    """The settings of a submitted run, all that they name by path under the roots; others as they are.

    What stands in them by default was chosen by the engine, not by who submits.

    Raises:
        InputError: For the first that is outside.
    """
    from prefect.context import FlowRunContext

    if FlowRunContext.get() is None:
        return settings
    return with_paths(settings, within)


def with_paths(settings: S, change: Callable[[Path], Path]) -> S:
    """The settings with all paths in them changed but those that stand there by default."""
    changed = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value != field.default:
            several = isinstance(value, tuple)
            new = tuple(_changed(one, name, change) for one in (value if several else (value,)))
            changed[name] = new if several else new[0]
    return settings.model_copy(update=changed)


def _changed(value: Any, name: str, change: Callable[[Path], Path]) -> Any:
    if isinstance(value, Path):
        return change(value)
    return str(change(Path(value))) if name in NAMES and _is_path(value) else value


def _is_path(name: str) -> bool:
    """Is what may have a name called by its file or folder?"""
    return os.sep in name or name.startswith("~") or Path(name).suffix.lower() in FILES
