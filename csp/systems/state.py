"""What has been done of an exploration, in one file that is written whole after each search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from csp.errors import InputError
from csp.files import write_json

__all__ = ["FILE", "Searched", "Step", "read_state", "write_state"]

FILE = "state.json"
SCHEMA = 1


class Step(BaseModel):
    """A search that is to be made.

    formula   of the composition
    level     quick, standard or deep
    gain      eV/atom by which it was expected to lower the hull; None: it was not reckoned
    """

    model_config = ConfigDict(frozen=True)

    formula: str
    level: str
    gain: float | None = None

    @property
    def folder(self) -> str:
        """Of the search in that of the exploration; a deep search goes on with the standard one."""
        return f"searches/{self.formula}{'-quick' if self.level == 'quick' else ''}"


class Searched(BaseModel):
    """A search that was made.

    formula, level, gain   of the step
    folder                 of the search, in that of the exploration; an absolute one of an earlier one
    label                  of its energies; "" where nothing could be ranked
    ranked                 crystals
    missed                 by the search's own estimate, the probability that the lowest is not among them
    seconds                that it took
    why_not                why there is no ranking; "" where there is one
    """

    model_config = ConfigDict(frozen=True)

    formula: str
    level: str
    gain: float | None = None
    folder: str
    label: str = ""
    ranked: int = 0
    missed: float | None = None
    seconds: float = 0.0
    why_not: str = ""


def read_state(folder: Path) -> tuple[dict[str, Any], list[Searched], list[Step]] | None:
    """Settings, searches and the round at work of the exploration in a folder; None: there is none.

    Raises:
        InputError: The file is damaged or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["schema"] != SCHEMA:
            raise InputError(f"The exploration in {folder} was made by another version of the engine.")
        searches = [Searched.model_validate(one) for one in state["searches"]]
        return state["settings"], searches, [Step.model_validate(one) for one in state["planned"]]
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The exploration in {folder} is damaged: {path.name} cannot be read.") from error


def write_state(
    folder: Path, settings: dict[str, Any], searches: Sequence[Searched], planned: Sequence[Step]
) -> None:
    """Write the file."""
    done = [one.model_dump(mode="json") for one in searches]
    round_ = [one.model_dump(mode="json") for one in planned]
    write_json(folder / FILE, {"schema": SCHEMA, "settings": settings, "searches": done, "planned": round_})
