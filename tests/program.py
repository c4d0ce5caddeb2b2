"""The program that people run, in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from csp.__main__ import COMMANDS, main
from csp.cli.program import Deferred, program

__all__ = ["commands", "csp"]


def csp(*arguments: str) -> int:
    """Run a command; its exit code."""
    sys.argv = ["csp", *arguments]
    try:
        main()
    except SystemExit as ending:
        return int(ending.code or 0)
    return 0


def commands() -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """All commands: names, what stands for it before it is loaded (or itself), and itself."""
    return _below((), program(COMMANDS))


def _below(names: tuple[str, ...], group: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    for name, known in group.commands.items():
        command = known.load() if isinstance(known, Deferred) else known
        yield (*names, name), known, command
        if hasattr(command, "commands"):
            yield from _below((*names, name), command)
