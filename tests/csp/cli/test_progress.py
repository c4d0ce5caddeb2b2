"""Progress in a log: lines, not too often."""

from __future__ import annotations

import time

import pytest

from csp.cli import progress as shown
from csp.cli.progress import progress, status
from csp.search.pace import duration
from csp.search.stages import time_shares
from csp.settings import SearchSettings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    return now


def test_lines_for_a_log(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as report:
        for seconds in range(0, 100, 10):
            clock[0] = 100.0 + seconds
            report("relax", 20 * seconds, 2000)
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "relaxing: 0 of 2,000 after 0 s",
        "relaxing: 600 of 2,000 after 30 s",
        "relaxing: 1,200 of 2,000 after 60 s",
        "relaxing: 1,800 of 2,000 after 90 s",
    ]
    assert told.out == ""


def test_the_end_of_each_stage_is_a_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """A short run says more than that it began; that a stage is done is said once."""
    with progress() as report:
        for stage, done in [("propose", 0), ("propose", 8), ("screen", 0), ("screen", 8), ("screen", 8)]:
            report(stage, done, 8)
            clock[0] += 1
        report("refine", 0, 0)
    assert capsys.readouterr().err.splitlines() == [
        "proposing candidates: 0 of 8 after 0 s",
        "proposing candidates: 8 of 8 after 1 s",
        "screening: 8 of 8 after 3 s",
    ]


def test_one_of_many_is_told_when_it_takes_long(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    report = status("NaCl")
    report("screen", 0, 10)
    clock[0] += 31
    report("screen", 5, 10)
    assert capsys.readouterr().err == "NaCl: screening: 5 of 10 after 31 s\n"


def test_long_silent_work_has_its_lines_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A labeller may take an hour for one crystal."""
    monkeypatch.setattr(shown, "EVERY", 0.05)
    with progress() as report:
        report("label", 3, 24)
        time.sleep(1.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2
    assert all(line.startswith("labelling: 3 of 24 after ") for line in lines)


def test_the_time_left_is_told(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    settings = SearchSettings.read(formula="NaCl")
    with progress(settings) as report:
        report("propose", 0, 100)
        clock[0] += 50
        report("propose", 50, 100)
    half = time_shares(settings)["propose"] / 2  # per cent, done in 50 s
    told = f"proposing candidates: 50 of 100 after 50 s, {duration(50 * (100 - half) / half)} left"
    assert capsys.readouterr().err.splitlines()[-1] == told
