"""The one way files are written: whole or not at all, so that a crash or a full disk spoils nothing."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "alone_with",
    "keep_arrays",
    "replacing",
    "replacing_folder",
    "write_arrays",
    "write_json",
    "write_text",
]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what is to be at `path` once it is whole.

    Folders above it are made. The name ends as that of `path` does, for writers that look at it; processes
    that write the same file do not meet. When the block raises, nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".new-{os.getpid()}.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of the folder `path` once the block ends; see `replacing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = path.with_name(f".new.{path.name}"), path.with_name(f".old.{path.name}")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if path.exists():
            os.replace(path, old)
        os.replace(fresh, path)
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Processes that want the same file or folder, which must be there, wait here for each other."""
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Write JSON, indented by one.

    Raises:
        ValueError: For NaN and infinity, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays as a compressed NPZ."""
    import numpy as np

    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def keep_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """`write_arrays` into the user's cache; a folder that cannot be written is noted in the log."""
    try:
        write_arrays(path, **arrays)
    except OSError as error:
        logging.getLogger(__name__).warning("Nothing can be kept in %s: %s.", path.parent, error)
