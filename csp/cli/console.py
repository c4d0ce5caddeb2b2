"""What the commands say: results on stdout, everything else on stderr, all of it as it is written.

Nothing is rendered as markup: a path may hold brackets. What a stream cannot encode is said in plain letters.
"""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

from csp.cli.plain_letters import plain
from csp.errors import CspError

__all__ = ["console", "fail", "in_options", "note", "output"]


class _Console(Console):
    """Tables are laid out with the letters that they will be written in."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text, self.encoding), **options)


console = _Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
output = _Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


def note(text: str, to: Console = console, word: str = "note:") -> None:
    """A line that begins with a coloured word."""
    to.print(Text.assemble((word, "yellow"), " ", in_options(text)))


def fail(error: CspError) -> None:
    """Why the program ends, in one line."""
    name = f"{_option(error.setting)}: " if error.setting else ""
    console.print(Text.assemble(("csp:", "bold red"), " ", name, in_options(error.message)))


def in_options(text: str) -> str:
    """Settings, which the engine names in backticks (`max_atoms`), as options (--max-atoms)."""
    return re.sub(r"`([a-z][a-z_]*)`", lambda found: _option(found[1]), text)


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"
