"""What an exploration has written, to be compared with another's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["told"]


def told(out: Path) -> dict[str, Any]:
    """The answer without what takes different time."""
    answer: dict[str, Any] = json.loads((out / "explore.json").read_text(encoding="utf-8"))
    for one in answer["searches"]:
        del one["seconds"]
    return answer
