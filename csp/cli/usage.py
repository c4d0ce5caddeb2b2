"""What is wrong with how a command was called, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand

from csp.errors import InputError, did_you_mean

__all__ = ["Command", "usage_in_one_line"]

UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer has no public name for it


class Command(TyperCommand):
    """A command that says all that is missing at once, not the first of it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments that are left over; the values go into the context.

        Raises:
            InputError: Arguments or options are missing.
        """
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter:
            given, _, _ = self.make_parser(ctx).parse_args(words)
            required = [one for one in self.params if one.required]
            missing = [_shown(one) for one in required if given.get(one.name or "") in (None, [], ())]
            if not missing:
                raise
        raise InputError(f"{_name(ctx)} needs {_listed(missing)}; {_help(ctx)} explains.")


@contextmanager
def usage_in_one_line() -> Iterator[None]:
    """Within the block what typer finds wrong is an InputError; no words at all still bring the help."""
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        raise InputError(_sentence(error)) from error


def _sentence(error: Any) -> str:
    """Which of typer's errors it is shows in its attributes; `param` is in a wrong value, `option_name` in an
    unknown option."""
    ctx = getattr(error, "ctx", None)
    if param := getattr(error, "param", None):
        return f"{_shown(param)}: {_wrong_value(error)}"
    if ctx and hasattr(error, "possibilities"):
        options = [name for one in ctx.command.params for name in one.opts]
        hint = did_you_mean(error.option_name, options, f"{_help(ctx)} lists them")
        return f"{_name(ctx)} has no option {error.option_name}{hint}"
    message = error.format_message().rstrip(".")
    if ctx is None:
        return f"{message}."
    return f"{message}{'' if message.endswith('?') else ';'} {_help(ctx)} explains."


def _wrong_value(error: Any) -> str:
    from pydantic import ValidationError  # whose import takes long; typer has done it

    from csp.wrong_values import first_wrong

    cause = error.__cause__
    return first_wrong(cause).message if isinstance(cause, ValidationError) else error.message


def _shown(param: Any) -> str:
    """An option as --name, an argument as NAME."""
    if param.param_type_name == "argument":
        return str(param.name).upper()
    return str(max(param.opts, key=len))


def _name(ctx: Any) -> str:
    """The command without the program's name, which all that is said begins with."""
    return str(ctx.command_path).partition(" ")[2] or "the program"


def _help(ctx: Any) -> str:
    return f"`{ctx.command_path} --help`"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
