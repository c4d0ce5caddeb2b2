"""Text in Prefect's pages, which render Markdown and the HTML in it: names and paths are no markup."""

from __future__ import annotations

import re

__all__ = ["cell", "link", "literal"]


def literal(text: str) -> str:
    """A text in which nothing is markup: CommonMark takes any ASCII punctuation after \\ for itself."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", _in_one_line(text))


def link(text: str, address: str) -> str:
    """A link; the address is one of ours."""
    return f"[{literal(text)}]({address})"


def cell(value: object) -> object:
    """A value of a table: the older of Prefect's two pages takes text with a link in it for Markdown."""
    return _in_one_line(value).replace("](", "] (") if isinstance(value, str) else value


def _in_one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
