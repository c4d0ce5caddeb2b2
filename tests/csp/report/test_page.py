"""The page of a prediction as text: what it says, and that nothing in it is markup that should not be."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

from csp.crystals import Crystals
from csp.report.energy_volume import energy_volume_svg
from csp.report.page import card_page
from csp.report.words import TERMS
from csp.search.prediction import Prediction
from csp.target import Target
from tests.csp.report.example import RECORD, cards, page_of, prediction
from tests.places import ROOT


class Page(HTMLParser):
    """Collects text and attributes, and fails on tags that do not nest."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[list[str]] = []
        self.scripts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "td" in self.open or "th" in self.open:
            self.cells[-1][-1] += data


def ranking(text: str) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the table of all crystals."""
    cells = Page(text).cells
    start = next(k for k, row in enumerate(cells) if row and row[0] == "Rank")
    rows = [row for row in cells[start + 1 :] if len(row) == len(cells[start])]
    return cells[start], rows


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    text = page_of(prediction())
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object"}
    assert all("src" not in attrs for tag, attrs in page.tags if tag in ("script", "img"))
    links = [
        value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "xlink:href")
    ]
    assert links
    assert all(value and value.startswith(("#", "data:text/plain;")) for value in links)
    (policy,) = [
        attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert "@import" not in style[1]
    assert "url(" not in style[1]


def test_the_page_shows_the_ranking_and_the_funnel() -> None:
    expected = prediction()
    text = page_of(expected)
    head, rows = ranking(text)
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    groups = [row[head.index("Space group")] for row in rows]
    assert groups == ["F4\u03053m (216)", "P6₃mc (186)", "Fm3\u0305m (225)", "P1 (1)"]
    assert [row[head.index("ΔEmeV/atom")] for row in rows] == ["0.0", "33.3", "66.7", "100.0"]
    assert "<h1>GaAs</h1>" in text
    empty = Prediction(Target.parse("SrTiO3"), None, [], Crystals.empty(), {})
    assert "<h1>SrTiO₃</h1>" in page_of(empty)
    for count in expected.funnel.values():
        assert f'<span class="count">{count}</span>' in text
    assert "&lt;not&gt; told apart" in text  # warnings are text, not markup


def test_the_answer_is_told_in_two_sentences_and_the_order_is_that_of_the_ranks() -> None:
    text = page_of(prediction())
    assert (
        "Of 4 distinct crystals of GaAs the one lowest in energy is cubic F4\u03053m (no. 216). "
        "Next is hexagonal P6₃mc (no. 186), 33.3 meV/atom above it." in text
    )
    assert "Ordered by energy." in text
    assert "Ordered by enthalpy." in page_of(prediction(pressure=20.0))
    whole = prediction()
    values = zip(whole.results, (2, 1, 3, 4), (0.6, 0.3, 0.05, 0.0), strict=True)
    results = [replace(r, rank_energy=k, probability=p) for r, k, p in values]
    by_probability = page_of(replace(whole, results=results, order="probability"))
    assert "Ordered by probability. With" in by_probability
    assert (
        "p = 60 % to be its lowest-energy crystal known. The lowest in energy is hexagonal P6₃mc"
        in by_probability
    )
    assert "The ranks are by probability." in by_probability


def test_the_page_shows_enthalpies_and_uncertainties_where_there_are_any() -> None:
    head, _ = ranking(page_of(prediction()))
    assert not {"ΔHmeV/atom", "HeV/atom", "σmeV/atom"} & set(head)
    given = prediction(pressure=20.0, sigma=0.031)
    head, rows = ranking(page_of(given))
    found = dict(zip(head, rows[0], strict=True))
    assert found["σmeV/atom"] == "31"
    assert found["ΔHmeV/atom"] == f"{given.results[0].above_lowest:.1f}"
    enthalpy, energy = (float(found[key].replace("−", "-")) for key in ("HeV/atom", "EeV/atom"))
    assert enthalpy > energy


def test_energies_above_the_hull_are_shown_where_they_are_asked_for() -> None:
    whole = prediction()
    assert "bove hull<" not in page_of(whole)
    results = [
        replace(r, e_above_hull_ev_per_atom=0.0123 + k / 40, stability=f"{k} meV/atom above Ga + As")
        for k, r in enumerate(whole.results)
    ]
    text = page_of(replace(whole, results=results, decomposition={"Ga": 0.5, "As": 0.5}))
    head, rows = ranking(text)
    assert dict(zip(head, rows[1], strict=True))["Above hullmeV/atom"] == "37.3"
    assert "counted from Ga + As, relaxed with the same model" in text
    assert "<strong>Hull</strong> 1 meV/atom above Ga + As." in text


def test_every_term_is_explained_where_the_keyboard_reaches_it_and_in_the_glossary() -> None:
    given = prediction(sigma=0.03)
    results = [replace(r, probability=0.1, e_above_hull_ev_per_atom=0.1) for r in given.results]
    page = Page(page_of(replace(given, results=results)))
    terms = [attrs for tag, attrs in page.tags if tag == "abbr"]
    assert all(attrs["tabindex"] == "0" and attrs["title"] in TERMS.values() for attrs in terms)
    shown = {attrs["title"] for attrs in terms}
    assert {
        TERMS[word] for word in ("rank", "p", "ΔE", "above hull", "σ", "space group", "found again", "CN")
    } <= shown
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    for word in TERMS:
        assert re.search(rf"^(.* )?{re.escape(word)}( .*)?$", glossary, re.MULTILINE | re.IGNORECASE), word


def test_names_are_never_markup() -> None:
    whole = prediction()
    nasty = "<img src=x onerror=alert(1)>"
    results = [replace(r, template_id=nasty, generator=nasty, wyckoff=f"Ga:{nasty}") for r in whole.results]
    record = replace(RECORD, settings={"library": f"/tmp/{nasty}</script>"}, citations=(nasty,))
    text = page_of(
        replace(whole, results=results, warnings=[nasty], relaxer_why=nasty, models=(nasty,)), record
    )
    page = Page(text)
    assert len(page.scripts) == 3
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]


def test_the_data_of_the_cards_are_what_the_cards_show() -> None:
    given = prediction()
    page = Page(page_of(given))
    data = json.loads(page.scripts[0])
    drawn = cards(given)
    assert len(data) == len(drawn) == 4
    for one, card in zip(data, drawn, strict=True):
        assert len(one["scene"]["atoms"]) == len(card.crystal.orbit)
        assert len(one["pattern"]) == len(card.data["pattern"])
    sites = [row for row in page.cells if len(row) == 5 and row[0] == "Ga³⁺"]
    assert sites[0] == ["Ga³⁺", "4a", "0.0000, 0.0000, 0.0000", "4", "4 As 2.49"]


def test_a_card_alone_is_a_page_of_its_own() -> None:
    page = Page(card_page(cards(prediction())[1]))
    assert len(json.loads(page.scripts[0])) == 1
    assert [attrs["id"] for tag, attrs in page.tags if tag == "article"] == ["crystal-2"]


def test_the_figure_has_a_mark_for_each_crystal() -> None:
    expected = prediction()
    svg = ElementTree.fromstring(energy_volume_svg(expected))
    space = "{http://www.w3.org/2000/svg}"
    groups = {g.get("id", ""): g for g in svg.iter(f"{space}g")}
    marks = [len(list(g.iter(f"{space}use"))) for name, g in groups.items() if name.startswith("Path")]
    in_legend = len(list(groups["legend_1"].iter(f"{space}use")))
    assert sum(marks) - in_legend == len(expected.results)
    links = {a.get("{http://www.w3.org/1999/xlink}href") for a in svg.iter(f"{space}a")}
    assert links == {f"#crystal-{r.rank}" for r in expected.results}
    texts = {t.text for t in svg.iter(f"{space}text")}
    assert {"volume (Å³/atom)", "energy above the lowest (meV/atom)", "template", "random"} <= texts


def test_how_many_of_the_ranking_are_shown_is_said() -> None:
    whole = prediction()
    assert " of 1,056." not in page_of(whole)
    more = replace(whole, funnel={**whole.funnel, "ranked": 1056})
    assert f"Ordered by energy; the first {len(whole.results)} of 1,056." in page_of(more)


def test_marks_that_lie_together_share_a_label() -> None:
    whole = prediction()
    volumes, above = (20.0, 20.02, 24.0, 28.0), (0.0, 0.0, 0.03, 0.1)
    results = [
        replace(r, volume_per_atom=volume, above_lowest_ev_per_atom=height)
        for r, volume, height in zip(whole.results, volumes, above, strict=True)
    ]
    svg = ElementTree.fromstring(energy_volume_svg(replace(whole, results=results)))
    texts = {t.text for t in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"1, 2", "3", "4"} <= texts
    assert not {"1", "2"} & texts


def test_what_is_far_above_does_not_press_the_figure_together() -> None:
    whole = prediction()
    high = [
        *whole.results,
        *(replace(whole.results[3], rank=k, above_lowest_ev_per_atom=2.0) for k in (5, 6)),
    ]
    crystals = whole.crystals[[0, 1, 2, 3, 3, 3]]
    svg = energy_volume_svg(replace(whole, results=high, crystals=crystals))
    assert "2 higher not shown" in svg
    assert 'href="#crystal-4"' in svg
    assert 'href="#crystal-5"' not in svg
