"""The picture of a deep search, and what its files say of it."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from csp.report.rounds import rounds_bars, rounds_svg
from csp.search.completeness import completeness
from csp.search.history import ENDINGS, History, Round


def history() -> History:
    counts = [[], [1, 1, 2], [3, 2, 4, 1], [9, 6, 8, 5]]
    energies = [-5.0, -5.01, -5.02, -5.02]
    return History(
        tuple(
            Round(k, 500 + 256 * k, 300 + 200 * k, 240, 230, energies[k], len(one), completeness(one))
            for k, one in enumerate(counts)
        ),
        "time",
    )


def test_the_picture_holds_the_curves_and_repeats() -> None:
    svg = rounds_svg(history(), {"round 0": 30.0, "round 1": 61.0, "round 2": 95.0, "rounds": 120.0})
    words = {element.text for element in ElementTree.fromstring(svg).iter() if element.text}
    assert {"candidates", "minutes", "0.5", "1.6"} <= words
    assert svg == rounds_svg(history(), {"round 0": 30.0, "round 1": 61.0, "round 2": 95.0, "rounds": 120.0})
    assert "minutes" not in rounds_svg(history())


def test_one_round_and_nothing_found_can_be_drawn() -> None:
    nothing = Round(0, 500, 300, 240, 230, None, 0, completeness([]))
    assert rounds_svg(History((nothing,), "time")).startswith("<svg")


def test_bars_for_a_terminal() -> None:
    """The lowest falls by 20 meV/atom in two equal steps; the estimate grows from nothing to 28/29."""
    lowest, found = rounds_bars(history()).splitlines()
    assert lowest == "lowest so far    █▅▁▁  20.0 to 0 meV/atom above the last"  # a half is rounded up
    assert found.split("  ")[0][-4:].startswith("▁")
    assert found.endswith("█  0 to 97 % of the low ones")
    rounds = tuple(replace(history().rounds[-1], number=k) for k in range(1000))
    lowest, found = rounds_bars(History(rounds, "time")).splitlines()
    assert lowest.endswith("▁  not lowered")
    assert found.count("█") == 60


def test_nothing_low_has_no_bar() -> None:
    nothing = Round(0, 500, 300, 240, 230, None, 0, completeness([]))
    assert rounds_bars(History((nothing,), "time")) == "found, estimated ▁  0 to 0 % of the low ones"


def test_lines_and_sentence() -> None:
    one = history()
    lines = [now.line(before) for before, now in zip((None, *one.rounds), one.rounds, strict=False)]
    assert lines[0] == (
        "round 0: 500 candidates, lowest -5.0000 eV/atom, 0 low crystals, their share cannot be told yet"
    )
    assert "lowest -5.0100 eV/atom (-10.0 meV), 3 low crystals" in lines[1]
    assert "meV)" not in lines[3]
    assert History(one.rounds[:1], "time").sentence().endswith("cannot be told.")
    share = one.probability
    assert one.sentence() == (
        f"Ended after 3 rounds and 1,268 candidates: {ENDINGS['time']}. The lowest is the lowest with a "
        f"probability of {share:.2f} ({one.rounds[-1].completeness.interval[0]:.2f} to "
        f"{one.rounds[-1].completeness.interval[1]:.2f}), "
        "by 28 draws of 4 low crystals, 0 of them drawn once."
    )


def test_as_json() -> None:
    content = json.loads(json.dumps(history().as_dict(), allow_nan=False))
    assert content["ended"] == "time"
    assert [one["round"] for one in content["rounds"]] == [0, 1, 2, 3]
    assert content["rounds"][0]["unseen"] == 0
    last = content["rounds"][-1]
    assert last["found_share"] == content["probably_lowest"] == pytest.approx(28 / 29, abs=1e-6)
    assert (last["draws_of_low"], last["drawn"], last["drawn_once"]) == (28, 4, 0)
