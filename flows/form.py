"""The form of a prediction, made from the settings: few fields first, the others under `advanced`.

Titles, help, units, choices and ranges are those of `SearchSettings`; what a field may not be is refused
before a run is made.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from csp.errors import InputError
from csp.settings import AUTO_LIBRARY, GeneratorName, LibraryFile, SearchSettings
from csp.target import Target
from flows.roots import settings_within

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
    "check_library",
    "field_of",
    "plain_library",
    "rest_of",
    "settings_of",
    "shown",
]

FIRST = ("formula", "candidates", "generators", "labeller", "library")


def field_of(kind: type[BaseModel], name: str, position: int | None = None) -> FieldInfo:
    """A settings' field as one of a form, which shows what is in `json_schema_extra`."""
    field = copy(kind.model_fields[name])
    shown: dict[str, Any] = {"title": field.title, "description": field.description}
    field.json_schema_extra = shown if position is None else {**shown, "position": position}
    return field


def rest_of(kind: type[BaseModel], first: tuple[str, ...]) -> dict[str, Any]:
    """The fields of settings but the first, for `create_model`."""
    return {
        name: (field.annotation, field_of(kind, name, position))
        for position, (name, field) in enumerate(kind.model_fields.items())
        if name not in first
    }


def shown(title: str, description: str, **constraints: Any) -> Any:
    """A field of a form: what it is called, its help, and what it may not be."""
    return Field(json_schema_extra={"title": title, "description": description}, **constraints)


Formula = Annotated[str, field_of(SearchSettings, "formula")]
Candidates = Annotated[int, field_of(SearchSettings, "candidates")]
Generators = Annotated[tuple[GeneratorName, ...], field_of(SearchSettings, "generators")]
Labeller = Annotated[str, field_of(SearchSettings, "labeller")]
Library = Annotated[LibraryFile, field_of(SearchSettings, "library")]
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


_Advanced: Any = create_model(
    "_Advanced",
    __config__=ConfigDict(frozen=True, extra="forbid"),
    **rest_of(SearchSettings, FIRST),
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


def check_library(settings: SearchSettings) -> None:
    """Is the library that was named on this machine?

    Raises:
        InputError: It is not.
    """
    if settings.library_file is not None and not settings.library_file.is_file():
        raise InputError(f"There is no library {settings.library_file} on this machine.")


def settings_of(
    formula: str,
    candidates: int,
    generators: tuple[str, ...],
    labeller: str,
    library: Path | None,
    advanced: BaseModel,
) -> tuple[SearchSettings, Target]:
    """The settings that a form asks for, and their target.

    Args:
        advanced: All settings that are not named.

    Raises:
        InputError: One sentence, for the first thing that is wrong.
    """
    asked = SearchSettings.read(
        formula=formula,
        candidates=candidates,
        generators=generators,
        labeller=labeller,
        library=library,
        **advanced.model_dump(),
    )
    settings = settings_within(asked)
    return settings, settings.target()
