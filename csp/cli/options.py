"""Options that several commands have: their types, and those made from the settings of a search."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from csp.cli.console import note
from csp.errors import InputError
from csp.settings import SearchSettings

__all__ = ["Device", "Limit", "Out", "Pressures", "Seed", "takes_fields", "takes_settings"]

Out = Annotated[Path, typer.Option(help="Folder of the results")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N targets or sizes")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 2, help="Same seed, same result")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Pressures = Annotated[
    str,
    typer.Option(
        "--pressure",
        help="GPa; ranks by enthalpy H = E + PV. Several, 0,25,100: a prediction at each, all crystals "
        "relaxed at all, and where one gives way to another",
    ),
]

FORMER = {"finished": "refined"}  # names of settings until 0.2, which are told the new one


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Have a command, whose first parameter is `settings`, take its formula and the fields of
    `SearchSettings` as options (`takes_fields`)."""
    return takes_fields(SearchSettings, formers=FORMER)(command)


def takes_fields(
    kind: type[BaseModel],
    *,
    names: Mapping[str, str] = {},
    formers: Mapping[str, str] = {},
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have a command, whose first parameter is `settings`, take what is needed of them as arguments and the
    other fields as options.

    Names, types, help and defaults are those of the settings, which also say what is out of range. The
    command's own options come before them; one with the name of a field stands in its place.

    Args:
        kind: Settings, which have a method `read`.
        names: Of options that are called otherwise than their fields.
        formers: Names of options until the last release, and those of their fields now.
    """

    def taking(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        taken = {parameter.name for parameter in own}
        fields = {name: field for name, field in kind.model_fields.items() if name not in taken}

        @wraps(command)
        def with_options(**given: Any) -> None:
            values = {name: given.pop(name) for name in fields}
            for former, name in formers.items():
                if (value := given.pop(former)) is not None:
                    note(f"--{former} is called `{name}` now.")
                    values[name] = value
            try:
                settings = kind.read(**values)  # type: ignore[attr-defined]
            except InputError as error:
                error.setting = names.get(error.setting or "", error.setting)
                raise
            command(settings, **given)

        options = [_parameter(name, field, names.get(name, name)) for name, field in fields.items()]
        past = [_former(former, fields[name]) for former, name in formers.items()]
        argument = [parameter for parameter in options if parameter.default is inspect.Parameter.empty]
        parameters = [*argument, *own, *(one for one in options if one not in argument), *past]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_options

    return taking


def _parameter(name: str, field: FieldInfo, option: str) -> inspect.Parameter:
    """A field for typer: an argument if it is required, a flag if it is yes or no, else an option."""
    kind, default = _kind(field.annotation), field.default
    if field.is_required():
        kind, default = Annotated[kind, typer.Argument(help=field.description)], inspect.Parameter.empty
    elif kind is bool:
        switch = f"--{option.replace('_', '-')}"
        switch += f"/--no{switch[1:]}" if default else ""
        kind = Annotated[kind, typer.Option(switch, help=field.description)]
    else:
        default = ",".join(map(str, default)) if isinstance(default, tuple) else default
        called = [f"--{option}"] if option != name else []
        kind = Annotated[
            kind | None if default is None else kind, typer.Option(*called, help=field.description)
        ]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _former(name: str, field: FieldInfo) -> inspect.Parameter:
    option = typer.Option(f"--{name}", hidden=True, help=field.description)
    kind = _kind(field.annotation)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _kind(annotation: Any) -> Any:
    """What is written on the command line: lists as a,b."""
    if get_origin(annotation) is tuple:
        return str
    some = [kind for kind in get_args(annotation) if kind is not NoneType]
    return some[0] if NoneType in get_args(annotation) else annotation
