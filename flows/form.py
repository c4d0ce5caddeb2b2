"""The form of a prediction, made from the settings: few fields first, the others under `advanced`.

Titles, help, units, choices and ranges are those of `SearchSettings`; what a field may not be is refused
before a run is made.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from csp.settings import AUTO_LIBRARY, GeneratorName, LibraryFile, SearchSettings
from csp.target import Target

__all__ = [
    "DEFAULTS",
    "FIRST",
    "Advanced",
    "Candidates",
    "Device",
    "Folder",
    "Formula",
    "Generators",
    "Labeller",
    "Library",
    "More",
    "Runner",
    "plain_library",
    "settings_of",
    "shown",
]

FIRST = ("formula", "candidates", "generators", "labeller", "library")


def _field(name: str, position: int | None = None) -> FieldInfo:
    """A settings' field as one of a form, which shows what is in `json_schema_extra`."""
    field = copy(SearchSettings.model_fields[name])
    shown: dict[str, Any] = {"title": field.title, "description": field.description}
    field.json_schema_extra = shown if position is None else {**shown, "position": position}
    return field


def shown(title: str, description: str, **constraints: Any) -> Any:
    """A field of a form: what it is called, its help, and what it may not be."""
    return Field(json_schema_extra={"title": title, "description": description}, **constraints)


Formula = Annotated[str, _field("formula")]
Candidates = Annotated[int, _field("candidates")]
Generators = Annotated[tuple[GeneratorName, ...], _field("generators")]
Labeller = Annotated[str, _field("labeller")]
Library = Annotated[LibraryFile, _field("library")]
Device = Annotated[
    str, shown("Device", "auto, cpu, cuda or cuda:N, on the worker", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
]
Runner = Annotated[
    str,
    shown(
        "Runner",
        "Where shards are worked on: here; dask, a local cluster; or a scheduler, tcp://host:8786",
        pattern=r"^(here|dask|(tcp|tls)://.+)$",
    ),
]
Folder = Annotated[
    Path | None, shown("Folder", "Where the results are written, on the worker; none: one of the run's own")
]


def _rest() -> dict[str, Any]:
    return {
        name: (field.annotation, _field(name, position))
        for position, (name, field) in enumerate(SearchSettings.model_fields.items())
        if name not in FIRST
    }


_Advanced: Any = create_model(
    "_Advanced",
    __config__=ConfigDict(frozen=True, extra="forbid"),
    **_rest(),
)


class Advanced(_Advanced):
    """All settings but the first."""


DEFAULTS = Advanced()
More = Annotated[Advanced, shown("Advanced settings", "What the defaults are good for, most of the time")]


def plain_library(library: Path | None) -> str | None:
    """The library as a parameter of a run, which may be in another folder."""
    if library is None:
        return None
    return str(library if library == AUTO_LIBRARY else library.absolute())


def settings_of(
    formula: str,
    candidates: int,
    generators: tuple[str, ...],
    labeller: str,
    library: Path | None,
    advanced: Advanced,
) -> tuple[SearchSettings, Target]:
    """The settings that a form asks for, and their target.

    Raises:
        InputError: One sentence, for the first thing that is wrong.
    """
    settings = SearchSettings.read(
        formula=formula,
        candidates=candidates,
        generators=generators,
        labeller=labeller,
        library=library,
        **advanced.model_dump(),
    )
    return settings, settings.target()
