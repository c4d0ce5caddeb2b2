"""Runs that share a device take turns on it, on a real server."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

from flows.turns import GIVEN_BACK
from tests.flows.process import PATIENCE, Csp
from tests.places import ROOT

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]

WORK = """
import sys, time
from flows.turns import one_at_a_time
with one_at_a_time(sys.argv[1]):
    print(f"from {time.time()}", flush=True)
    time.sleep(float(sys.argv[2]))
    print(f"to {time.time()}", flush=True)
"""


def work(csp: Csp, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORK, f"csp test {os.getpid()}", str(seconds)],
        env={**csp.environment, **csp.client},
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def at(said: str, word: str) -> float:
    return next(float(line.split()[1]) for line in said.splitlines() if line.startswith(f"{word} "))


def test_turns_do_not_overlap(csp: Csp) -> None:
    several = [work(csp, 3.0) for _ in range(3)]
    said = [process.communicate(timeout=PATIENCE)[0] for process in several]
    spans = sorted((at(words, "from"), at(words, "to")) for words in said)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_the_turn_of_a_killed_process_is_over_soon(csp: Csp) -> None:
    with work(csp, 600.0) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline().startswith("from")
        killed.send_signal(signal.SIGKILL)
    since = time.time()
    said, _ = work(csp, 0.0).communicate(timeout=PATIENCE)
    waited = at(said, "from") - since
    assert 0 < waited < 3 * GIVEN_BACK
