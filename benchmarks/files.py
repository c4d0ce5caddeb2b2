"""Files written whole or not at all, a clock that survives interruptions, and the table of energies."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Clock", "changed", "read_energies", "replacing", "write_json", "write_text"]


def read_energies(path: Path) -> dict[str, float]:
    """Formation energies, eV/atom, by id, of a Parquet table (material_id, formation_energy)."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["material_id", "formation_energy"])
    return dict(zip(table["material_id"].to_pylist(), table["formation_energy"].to_pylist(), strict=True))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def changed(path: Path, settings: Mapping[str, Any]) -> list[str]:
    """The settings that differ from those in a file of an earlier run; none where there is no file."""
    if not path.is_file():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    return [name for name, value in settings.items() if value != before.get(name)]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what is to be at `path` once it is whole; processes in one folder do not meet."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.new")
    yield partial
    os.replace(partial, path)


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


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
