"""Explorations from beginning to end, with small searches and a pair potential."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monty.serialization import loadfn
from pymatgen.analysis.phase_diagram import PhaseDiagram

from csp.errors import InputError
from csp.library.library import Library
from csp.protocols import Label
from csp.settings import SearchSettings
from csp.systems import exploration as exploring
from csp.systems.acquisition import Level
from csp.systems.answer import Answer
from csp.systems.exploration import Exploration
from csp.systems.files import write_answer
from csp.systems.libraries import SystemLibrary
from csp.systems.settings import ExploreSettings
from csp.systems.state import read_state
from csp.target import Target
from tests.csp.systems.answers import told
from tests.lennard_jones import LennardJones

TINY = {
    "candidates": 8,
    "screened": 8,
    "relaxed": 3,
    "refined": 2,
    "rattled": 0,
    "max_steps": 4,
    "max_atoms": 6,
}
ASKED: dict[str, Any] = {
    "system": "Na-Cl",
    "generators": "random",
    "library": "none",
    "surrogate": "lennard-jones",
    "relaxer": "none",
    "max_atoms": 3,
    "depth": "standard",
    "least_gain": 0.0,
}


class Softer(LennardJones):
    name, label = "softer", Label("LJ", "softer", "1")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches of a few candidates, by models that no file holds."""
    whole = ExploreSettings.search

    def search(self: ExploreSettings, formula: str, level: Level, *, exclude: bool = False) -> SearchSettings:
        return whole(self, formula, level, exclude=exclude).model_copy(update=TINY)

    models = {model.name: model for model in (LennardJones(), Softer(unlike=0.3))}
    monkeypatch.setattr(ExploreSettings, "search", search)
    monkeypatch.setattr(exploring, "load_model", lambda name, device: models[name])


def begin(out: Path, resume: bool = False, **more: Any) -> Exploration:
    return Exploration.begin(ExploreSettings.read(**{**ASKED, **more}), out, device="cpu", resume=resume)


def run(exploration: Exploration) -> str:
    ended = exploration.run()
    write_answer(Answer(exploration, ended))
    return ended


def test_from_elements_to_a_diagram(tmp_path: Path) -> None:
    exploration = begin(tmp_path, searches=6, wish="bulk_modulus max")
    assert run(exploration) == "searches"
    searched = [one.formula for one in exploration.searches]
    assert set(searched[:2]) == {"Na", "Cl"}  # without a crystal of each there is no hull
    assert searched[2] == "NaCl"  # that balances comes before NaCl2 and Na2Cl
    answer = told(tmp_path)
    stable = [one["formula"] for one in answer["phases"] if one["stable"]]
    assert {"Na", "Cl", "NaCl"} <= set(stable)
    assert all(one["above_hull_ev_per_atom"] == 0 for one in answer["phases"] if one["stable"])
    assert all((tmp_path / one["file"]).is_file() for one in answer["phases"])
    values = [one["value"] for one in answer["wished"]]
    assert len(values) == len(answer["phases"])
    assert values == sorted(values, reverse=True)
    assert all(one["sigma"] > 0 and one["unit"] == "GPa" for one in answer["wished"])
    pd = PhaseDiagram(loadfn(tmp_path / "entries.json"))
    assert {entry.reduced_formula for entry in pd.stable_entries} == set(stable) - {"Cl"} | {"Cl2"}
    rows = (tmp_path / "phases.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(answer["phases"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "By wish: bulk_modulus max" in page
    assert re.search(r"\d ± \d+ GPa", page)
    places = re.findall(r'href="((?:searches|#crystal)[^"]*)"', page)
    assert places
    for place in places:
        file, _, anchor = place.partition("#")
        text = (tmp_path / file).read_text(encoding="utf-8") if file else page
        assert not anchor or f'id="{anchor}"' in text


def test_what_was_interrupted_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(begin(whole, searches=4))

    def stop(searched: Any, now: Exploration) -> None:
        if now.made == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(broken, searches=4).run(heard=stop)
    with pytest.raises(InputError, match="resume"):
        begin(broken, searches=4)
    again = begin(broken, resume=True, searches=4)
    assert again.made == 2
    run(again)
    assert told(broken) == told(whole)
    more = begin(broken, resume=True, searches=5)  # a larger budget goes on
    assert more.plan()[0]
    with pytest.raises(InputError, match="another seed"):
        begin(broken, resume=True, searches=5, seed=1)


def test_the_hull_is_of_one_label(tmp_path: Path) -> None:
    exploration = begin(tmp_path, relaxer="softer", searches=7)
    run(exploration)
    quick, ranking = exploration.labels
    assert quick != ranking
    assert {one.level for one in exploration.searches} == {"quick", "standard"}
    for one in exploration.searches:
        assert one.label == (quick if one.level == "quick" else ranking)
    answer = Answer(exploration, "searches")
    assert answer.diagram is not None
    assert {phase.label for phase in answer.diagram.phases} == {ranking}
    examined = {one.formula for one in exploration.searches if one.level == "standard"}
    assert {told.phase.formula for told in answer.phases} <= examined
    assert all(phase.formula not in examined for phase, _ in answer.promising)


def test_evenly_spread(tmp_path: Path) -> None:
    exploration = begin(tmp_path, spread="even")
    steps, _ = exploration.plan()
    assert [step.formula for step in steps] == [one.formula for one in exploration.compositions[: len(steps)]]
    assert {step.level for step in steps} == {"quick"}
    two = begin(tmp_path / "two", spread="even", relaxer="softer")  # quick ones say nothing of the hull
    assert {step.level for step in two.plan()[0]} == {"standard"}


def test_nothing_more_is_expected(tmp_path: Path) -> None:
    exploration = begin(tmp_path, searches=50, least_gain=1000.0)
    assert exploration.run() == "settled"
    assert {one.formula for one in exploration.searches} == {"Na", "Cl"}  # without them there is no hull


def test_phases_of_an_earlier_exploration_serve(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(begin(first, searches=3))
    exploration = begin(second, searches=3, earlier=(first,))
    assert exploration.made == 0
    assert len(exploration.searches) == 3
    write_answer(Answer(exploration))
    assert {p["formula"] for p in told(second)["phases"]} == {p["formula"] for p in told(first)["phases"]}
    page = (second / "report.html").read_text(encoding="utf-8")
    assert "../first/searches/" in page
    with pytest.raises(InputError, match="holds no exploration"):
        begin(tmp_path / "third", earlier=(tmp_path,))
    assert read_state(second) is not None


def test_a_system_is_left_out_of_the_library() -> None:
    settings = ExploreSettings.read(**{**ASKED, "exclude": "Na-Cl,ZnS"})
    library = SystemLibrary(settings, settings.chemical_system())
    entries = replace(Library.open(), name="entries", about={})  # whose elements stand for themselves
    library.__dict__["_opened"] = entries, ""
    known = library.known
    numbers, _ = known.compositions(known.all_rows())
    assert not ((numbers == 11).any(axis=1) & (numbers == 17).any(axis=1)).any()
    assert len(known.own_rows(Target.parse("ZnS"))) == 0
    assert len(known.own_rows(Target.parse("CsCl"))) > 0
    salt = Target.parse("NaCl")
    assert library.is_left_out(salt)
    assert not library.is_left_out(Target.parse("Na"))
    whole = known.whole
    assert len(whole.own_rows(salt)) > 0
    # the search leaves them out itself, to say what is known of what it finds
    assert np.array_equal(library.of(salt).own_rows(salt), whole.own_rows(salt))
    assert len(library.of(Target.parse("NaCl2")).own_rows(salt)) == 0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"searches": 0}, "searches"),
        ({"searches": 2}, "must be at least 3: the library has no crystal of Na, Cl"),
        ({"searches": 4, "relaxer": "softer"}, "must be at least 5"),
        ({"minutes": 0}, "minutes"),
        ({"system": "Na"}, "one element"),
        ({"wish": "hardness max"}, "no model gives"),
        ({"exclude": "Na2S-P2S5"}, "cannot be left out"),
        ({"system": "Na3PS4-Li3PS4", "max_atoms": 2}, "no compound with at most 2"),
        ({"relaxer": "none", "surrogate": "none"}, "neither"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        begin(tmp_path / "out", **more)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
