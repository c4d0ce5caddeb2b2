"""Names and paths in Prefect's pages, as a second reader of Markdown renders them."""

from __future__ import annotations

import html

import pytest
from markdown_it import MarkdownIt

from flows.ask import name_of, name_of_many
from flows.markdown import cell, link, literal

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "**bold** _it_ `code` ~~gone~~",
    "a | b | c",
    "# heading",
    "- item",
    "1. item",
    "https://evil.example www.evil.example a@evil.example",
    "&lt;b&gt; &amp;",
    "\\[old\\] [old] \\",
    "a\n\n# b\n| c |",
    "\x1b[31mred\x00",
    "Ångström ✓",
]
RENDER = MarkdownIt("gfm-like", {"html": True, "linkify": False})


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    shown = "".join(character if character.isprintable() else " " for character in text)
    rendered = RENDER.renderInline(literal(text))
    assert html.unescape(rendered) == shown
    assert html.escape(html.unescape(rendered), quote=True) == rendered  # text alone, no tag


@pytest.mark.parametrize("text", HOSTILE)
def test_it_stays_in_its_place(text: str) -> None:
    table = RENDER.render(f"| a | b |\n|---|---|\n| {literal(text)} | 2 |\n")
    assert (table.count("<td"), table.count("<tr"), "<td>2</td>" in table) == (2, 2, True)
    linked = RENDER.renderInline(link(text, "/files/NaCl-1/report.html"))
    assert linked.startswith('<a href="/files/NaCl-1/report.html">')
    assert linked.count("<") == 2
    assert RENDER.render(literal(text)).count("<p>") == 1


def test_cells_of_tables_hold_no_link() -> None:
    assert "](" not in str(cell("[x](https://evil.example)"))
    assert (cell(3), cell(None), cell("mp-1")) == (3, None, "mp-1")


def test_the_name_of_a_run() -> None:
    assert name_of({"formula": "NaCl"}) == "predict NaCl"
    assert name_of({"formula": "NaCl", "pressures": [0.0, 2.5, 100]}) == "predict NaCl at 0, 2.5, 100 GPa"


def test_the_name_of_a_run_of_many() -> None:
    assert name_of_many({"formulas": ["NaCl"]}) == "predict-many NaCl"
    assert name_of_many({"formulas": ["A", "B", "C", "D", "E"]}) == "predict-many A, B, C and 2 more"
    assert name_of_many({"table": "/data/many.csv", "formulas": []}) == "predict-many many.csv"
    assert name_of_many({"table": "many.csv", "formulas": ["NaCl"]}) == "predict-many NaCl and many.csv"
