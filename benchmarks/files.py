"""What a benchmark that goes on after an interruption keeps in files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from csp.errors import InputError
from csp.files import write_json

__all__ = ["Clock", "begin", "changed"]


def changed(path: Path, settings: Mapping[str, Any]) -> list[str]:
    """The settings that differ from those in a file of an earlier run; none where there is no file."""
    if not path.is_file():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    return [name for name, value in settings.items() if value != before.get(name)]


def begin(out: Path, settings: Mapping[str, Any]) -> None:
    """Note in an out folder what decides a benchmark's figures, so that another cannot go on with it.

    Raises:
        InputError: It holds a run with other settings.
    """
    path = out / "settings.json"
    if names := changed(path, settings):
        raise InputError(f"{out} holds a run with another {', '.join(names)}; choose another folder.")
    write_json(path, settings)


class Clock:
    """Adds up the wall-clock seconds of named parts; each part is noted in a file as it ends, so that
    work which goes on after an interruption is added to what was done before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        )

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.seconds.get(part, 0.0) + time.perf_counter() - started
            self.seconds[part] = round(seconds, 3)
            write_json(self.path, self.seconds)
