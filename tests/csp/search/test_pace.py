"""The time left, on searches that took what they took."""

from __future__ import annotations

import json
import math

import pytest

from csp.search.pace import Pace
from csp.search.stages import STAGES, WRITE, time_shares
from csp.settings import SearchSettings
from tests.places import ROOT

TIMED = ROOT / "benchmarks" / "results" / "nequix" / "recovery.json"
REPORTS = 20  # of each stage
ROUNDED = 10.0  # seconds


def durations() -> list[dict[str, float]]:
    """Seconds of each stage of the searches for 35 compositions."""
    return [target["seconds"] for target in json.loads(TIMED.read_text())["targets"]]


def told(seconds: dict[str, float]) -> list[tuple[float, float, float]]:
    """(time left, what was told, for how long it is shown) at each report in the second half of a search."""
    shares = time_shares(SearchSettings.read(formula="NaCl", hull=False))
    del shares[WRITE.name]  # these searches wrote no page
    pace, now, found = Pace(shares, {}), 0.0, []
    stages = [name for name in shares if seconds.get(name, 0.0) > 0]
    whole = sum(seconds[name] for name in stages)
    for name in stages:
        for done in range(REPORTS + 1):
            at = now + seconds[name] * done / REPORTS
            _, left = pace.measure(name, done, REPORTS, at)
            if at > whole / 2 and left is not None:
                found.append((whole - at, left, seconds[name] / REPORTS))
        now += seconds[name]
    return found


def test_the_time_left_is_within_a_factor_of_two_in_the_second_half() -> None:
    shown = [one for seconds in durations() for one in told(seconds)]
    near = sum(
        time
        for left, words, time in shown
        if abs(math.log(max(ROUNDED, left) / max(ROUNDED, words))) <= math.log(2)
    )
    assert len(shown) > 1000
    assert near / sum(time for *_, time in shown) > 0.85  # these searches ran beside ten other processes


def test_what_a_resumed_run_finds_done_is_no_work() -> None:
    """Half is there already; the other half takes a second a per cent, as is told at once."""
    pace = Pace({"propose": 20.0, "relax": 50.0, "rattle": 30.0}, {})
    pace.measure("propose", 0, 10, 0.0)
    pace.measure("propose", 10, 10, 0.01)
    pace.measure("relax", 0, 100, 0.01)
    pace.measure("relax", 60, 100, 0.02)
    for done in range(61, 101):
        percent, left = pace.measure("relax", done, 100, 0.02 + (done - 60) / 2)
        assert left == pytest.approx(100 - percent)


def test_no_time_is_expected_of_stages_that_have_nothing_to_do() -> None:
    """A second a per cent of what there is to do; what was expected of the others is forgotten."""
    pace = Pace({"propose": 20.0, "refine": 20.0, "relax": 20.0, "hull": 40.0}, {})
    assert pace.measure("hull", 0, 0, 0.0) == (0.0, None)
    pace.measure("propose", 0, 10, 1.0)
    assert pace.measure("propose", 5, 10, 11.0) == (pytest.approx(100 / 6), pytest.approx(50.0))
    pace.measure("refine", 0, 0, 12.0)
    pace.measure("propose", 10, 10, 21.0)
    assert pace.measure("relax", 10, 20, 31.0) == (pytest.approx(75.0), pytest.approx(10.0))
    assert pace.measure("relax", 20, 20, 41.0) == (pytest.approx(100.0), pytest.approx(0.0))


def test_a_stage_that_had_nothing_to_do_may_still_be_reported() -> None:
    """Workers report each share of it, though there is nothing in any."""
    pace = Pace({"refine": 60.0, "hull": 30.0, "rattle": 40.0}, {})
    pace.measure("hull", 0, 0, 0.0)
    pace.measure("refine", 0, 10, 0.0)
    pace.measure("refine", 10, 10, 60.0)
    for share in range(9):
        assert pace.measure("hull", share, 8, 60.0)[1] == pytest.approx(40.0)


def test_stages_that_nobody_expected_are_no_error() -> None:
    assert Pace({"relax": 100.0}, {}).measure("rounds", 1, 2, 3.0) == (0.0, None)
    assert {stage.name for stage in (*STAGES, WRITE)} >= time_shares(
        SearchSettings.read(formula="NaCl")
    ).keys()


def test_a_stage_with_a_limit_ends_then_however_slow_the_machine_is() -> None:
    """10 % took a minute, as will the 10 % after the rounds, which end ten minutes after the beginning."""
    pace = Pace({"relax": 20.0, "rounds": 70.0, "rattle": 10.0}, {}, {"rounds": 600.0})
    pace.measure("relax", 0, 10, 1000.0)
    assert pace.measure("relax", 5, 10, 1060.0)[1] == pytest.approx(540 + 60)
    late = Pace(pace.shares, {}, {"rounds": 90.0})
    late.measure("relax", 0, 10, 1000.0)
    assert late.measure("relax", 5, 10, 1060.0)[1] == pytest.approx(60 + 60)  # no time is left for rounds
    assert pace.measure("relax", 10, 10, 1120.0)[1] == pytest.approx(480 + 60)
    assert pace.measure("rattle", 0, 10, 1620.0)[1] == pytest.approx(10 * 500 / 70)  # 500 s took 70 %
