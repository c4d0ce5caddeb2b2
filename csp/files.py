"""Arrays kept in the user's cache folder: what is there is whole, what cannot be kept is made anew."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["keep"]


def keep(path: Path, **arrays: NDArray[np.generic]) -> None:
    """Write arrays as NPZ: whole or not at all. A folder that cannot be written is said in the log."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        os.replace(part, path)
    except OSError as error:
        logging.getLogger(__name__).warning("Nothing can be kept in %s: %s.", path.parent, error)
