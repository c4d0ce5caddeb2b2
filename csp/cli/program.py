"""The program as one command, of commands whose modules are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from csp.cli.stopping import stopped_in_one_line
from csp.cli.usage import Command, usage_in_one_line

__all__ = ["Deferred", "program"]


def program(commands: Mapping[str, tuple[str, str]]) -> TyperGroup:
    """The program of these commands.

    Args:
        commands: By name, or names of group and command: "module:attribute", and a line of help. The
            attribute is a function or a `Typer`.
    """
    app = typer.Typer(cls=_Program, no_args_is_help=True, add_completion=False)
    app.callback()(_csp)
    group: TyperGroup = _command(app)
    for name, (target, words) in commands.items():
        if " " not in name:
            inside = [other for other in commands if other.startswith(f"{name} ")]
            more = [Deferred(other.removeprefix(f"{name} "), *commands[other]) for other in inside]
            group.add_command(Deferred(name, target, words, more))
    return group


class Deferred(TyperCommand):
    """Stands for a command, or a group of them, of which only the name and a line of help are known yet.

    Args:
        more: Commands to add to the group that it is.
    """

    def __init__(self, name: str, target: str, help: str, more: Sequence[Deferred] = ()) -> None:  # noqa: A002
        super().__init__(name, help=help, rich_markup_mode=None)
        self.target, self.more = target, more

    def load(self) -> Any:
        """The command itself."""
        module, _, attribute = self.target.partition(":")
        loaded = _command(getattr(import_module(module), attribute))
        for one in self.more:
            loaded.add_command(one)
        return loaded

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself, which is what is parsed and invoked from here on."""
        return self.load().make_context(info_name, args, parent, **extra)


class _Program(TyperGroup):
    """Says in a line what was wrong with the words, or that it was stopped, where the command does not say
    itself what is done."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with stopped_in_one_line(), usage_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with stopped_in_one_line(), usage_in_one_line():
            return super().invoke(ctx)


def _command(made_from: Any) -> Any:
    """A function or a `Typer` as a command. Its help is plain text: no markup, and rich is slow to import."""
    app = made_from
    if not isinstance(app, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command()(made_from)
    for command in app.registered_commands:
        command.cls = Command
    app.rich_markup_mode = None
    return typer.main.get_command(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"csp {metadata.version('csp-engine')}")
        raise typer.Exit


def _csp(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Crystal structure prediction from a chemical formula alone."""
