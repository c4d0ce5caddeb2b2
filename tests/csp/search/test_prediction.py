"""A prediction as a sequence, and how it shows itself."""

from __future__ import annotations

import builtins
import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from csp.crystals import Crystals
from csp.errors import MissingError
from csp.report.terminal import ranking_table
from csp.search.prediction import Prediction
from csp.search.result import Result
from csp.target import Target
from tests.csp.report.example import prediction
from tests.csp.report.test_page import Page


def test_it_is_a_sequence() -> None:
    found = prediction()
    assert len(found) == 4
    assert [one.rank for one in found] == [1, 2, 3, 4]
    assert [one.rank for one in found[1:3]] == [2, 3]
    assert found[-1] == found[3] == next(reversed(found))
    assert found.index(found[2]) == 2
    with pytest.raises(IndexError):
        found[4]


def test_a_ranked_crystal_says_what_its_result_says() -> None:
    one, result = prediction()[1], prediction().results[1]
    assert one.crystal.ids() == [result.id]
    assert len(one.structure) == len(one.atoms) == result.n_atoms
    assert one.energy == one.atoms.get_potential_energy() == result.energy_ev_per_atom * result.n_atoms
    assert (one.space_group, one.space_group_number) == ("P6_3mc", 186)
    assert one.above_lowest * 1000 == result.above_lowest
    assert (one.converged, one.probability, one.above_hull, one.sigma) == (True, None, None, None)
    assert one.proposed_by == "random"
    assert repr(one) == "<2: P6_3mc 186, 4 atoms, -4.0667 eV/atom>"


def test_the_text_has_what_the_terminal_has() -> None:
    found = prediction()
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(ranking_table(found, top=10))
    printed = console.export_text()
    for line in repr(found).splitlines()[2:-1]:
        for word in line.split():
            assert word in printed
    assert all(len(line) <= 80 for line in repr(found).splitlines())


def many(n: int) -> Prediction:
    one = prediction()
    results = [replace(one.results[0], rank=k + 1) for k in range(n)]
    return replace(one, results=results, crystals=Crystals.cat([one.crystals[0]] * n))


def test_long_rankings_are_cut() -> None:
    assert "… and 20 more" in repr(many(30))
    assert len(repr(many(30)).splitlines()) < 16
    html = many(30)._repr_html_()
    assert "… and 10 more" in html
    assert len([row for row in Page(html).cells if row[0].isdigit()]) == 20


def test_html_is_well_formed_and_escaped() -> None:
    found = prediction()
    nasty = replace(found, results=[replace(r, template_id="<b>&x") for r in found.results], order="<i>")
    html = nasty._repr_html_()
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"b", "i", "script", "link", "img"}
    assert page.cells[1][-2] == "<b>&x"
    assert [row[0] for row in page.cells[1:]] == ["1", "2", "3", "4"]


def test_nothing_ranked() -> None:
    none = Prediction(Target.parse("GaAs"), None, [], Crystals.empty(), {"ranked": 0})
    assert repr(none) == "GaAs · nothing could be ranked"
    Page(none._repr_html_())
    assert list(none) == []


def test_as_a_pandas_table() -> None:
    table = prediction().to_frame()
    assert list(table.index) == [1, 2, 3, 4]
    assert [table.index.name, *table.columns] == list(Result.__slots__)
    assert table.loc[2, "spacegroup"] == "P6_3mc"


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingError, match=r"pip install 'csp-engine\[notebook\]'"):
        prediction().to_frame()
