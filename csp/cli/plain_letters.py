"""Letters for streams that cannot encode what is said: a terminal may know no Å."""

from __future__ import annotations

import codecs
import sys
import unicodedata
from io import TextIOWrapper

__all__ = ["PLAIN", "plain", "say_it_in_plain_letters"]

PLAIN = "csp.plain"
"""Name of the way to encode (`errors=`) that never fails: what an encoding lacks is replaced."""

SPELT = {
    "Δ": "d",
    "·": "-",
    "─": "-",
    "−": "-",
    "–": "-",
    "—": "-",
    "→": "->",
    "⁄": "/",
    "×": "x",
    "±": "+-",
    "∞": "infinity",
}
GREEK = "GREEK SMALL LETTER "


def plain(text: str, encoding: str) -> str:
    """The text as an encoding can have it."""
    return text.encode(encoding, PLAIN).decode(encoding)


def say_it_in_plain_letters() -> None:
    """Have what is written to stdout and stderr never fail for want of a letter."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=PLAIN)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spelt, error.object[error.start : error.end])), error.end


def _spelt(letter: str) -> str:
    """A letter in ASCII: σ as sigma, Å as A, ³ as 3; a question mark for what has no such form."""
    if (name := unicodedata.name(letter, "")).startswith(GREEK):
        return name.removeprefix(GREEK).lower()
    parts = unicodedata.normalize("NFKD", letter)
    return "".join(part if part.isascii() else SPELT.get(part, "") for part in parts) or "?"


codecs.register_error(PLAIN, _replace)
