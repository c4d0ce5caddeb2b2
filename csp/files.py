"""The one way files are written: whole or not at all, so that a crash or a full disk spoils nothing.

And the one way in which text that people bring is read, in whichever encoding.
"""

from __future__ import annotations

import bz2
import fcntl
import gzip
import json
import logging
import lzma
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csp.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "COMPRESSED",
    "alone_with",
    "check_frames",
    "keep_arrays",
    "read_text",
    "replacing",
    "replacing_folder",
    "write_arrays",
    "write_json",
    "write_text",
]

COMPRESSED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
LARGEST = 64 * 2**20  # bytes of text


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


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any] | float) -> None:
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


def check_frames(path: Path) -> None:
    """Refuse an XYZ file that is shorter than it says: ASE looks for as many lines as there are to be.

    Raises:
        InputError: In one sentence; what else may be wrong is left to the reader.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        for head in lines:
            try:
                wanted = int(head) + 1  # a comment and the atoms
            except ValueError:
                return
            if wanted > 0 and sum(1 for _ in islice(lines, min(wanted, sys.maxsize))) < wanted:
                raise InputError(f"{path} ends before all {wanted - 1} atoms that it announces are listed.")


def read_text(path: Path) -> str:
    """The text of a file, whichever of the common encodings it has, decompressed.

    Raises:
        InputError: There is no such file, it cannot be read, or is larger than 64 MB.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with COMPRESSED.get(path.suffix.lower(), open)(path, "rb") as stream:
            content: bytes = stream.read(LARGEST + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if len(content) > LARGEST:
        raise InputError(f"{path} holds more than {LARGEST // 2**20} MB of text.")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
