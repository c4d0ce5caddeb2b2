"""What a terminal cannot show is said in letters that it can, and can still be read."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from csp.cli.console import _Console
from csp.cli.plain_letters import plain
from csp.report.terminal import plain_table


@pytest.mark.parametrize(
    ("text", "ascii_", "latin_1"),
    [
        ("Å³/at", "A3/at", "Å³/at"),
        ("NaCl · ΔE, σ → ∞ Å⁻³", "NaCl - dE, sigma -> infinity A-3", "NaCl · dE, sigma -> infinity Å-³"),
        ("it goes on…", "it goes on...", "it goes on..."),
        ("½ × é − –", "1/2 x e - -", "½ × é - -"),
        ("晶 \udcff", "? ?", "? ?"),
    ],
)
def test_words(text: str, ascii_: str, latin_1: str) -> None:
    assert plain(text, "ascii") == ascii_
    assert plain(text, "latin-1") == latin_1
    assert plain(text.replace("\udcff", ""), "utf-8") == text.replace("\udcff", "")


def test_tables_stay_straight() -> None:
    """They are laid out with what is written, which is longer or shorter than what was to be."""
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="csp.plain")
    table = plain_table("σ", "from")
    table.add_row("12", "a…")
    table.add_row("140", "Åb")
    console = _Console(file=written, width=80)
    console.print(table)
    console.print(Text("Δ"), "a → b")
    written.seek(0)
    assert [line.rstrip() for line in written.read().splitlines()] == [
        "sigma  from",
        "-----------",
        "12     a...",
        "140    Ab",
        "d a -> b",
    ]
