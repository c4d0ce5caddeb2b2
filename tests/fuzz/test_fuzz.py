"""No input reaches a person as a traceback: seeds and a few random ones; more by `make test-fuzz`."""

from __future__ import annotations

import os
import time

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import TARGETS, Fuzzed

ALL = [pytest.param(target, id=name) for name, target in TARGETS.items()]
CALM = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "print_blob": False}
SECONDS = float(os.environ.get("FUZZ_SECONDS", "600"))  # of all targets together
AT_ONCE = 100


@pytest.fixture(autouse=True)
def small_numbers() -> None:
    """As they are: trainings, which other tests of the same process have begun, flush them to zero."""
    torch.set_flush_denormal(False)


def run(target: Fuzzed, seed: int, examples: int) -> None:
    """Random inputs of a target; raises for the first that is not read or refused in a sentence, shrunk."""

    @hypothesis.seed(seed)
    @settings(max_examples=examples, **CALM)
    @given(target.inputs)
    def check(given: object) -> None:
        target.check(given)

    check()


@pytest.mark.parametrize("target", ALL)
def test_seeds(target: Fuzzed) -> None:
    for seed in target.seeds:
        target.check(seed)


@pytest.mark.parametrize("target", ALL)
def test_a_few(target: Fuzzed) -> None:
    run(target, 0, 20)


@pytest.mark.fuzz
@pytest.mark.timeout(0)
@pytest.mark.parametrize("target", ALL)
def test_for_long(target: Fuzzed) -> None:
    until, seed = time.monotonic() + SECONDS / len(TARGETS), int(time.time())
    while time.monotonic() < until:
        seed += 1
        run(target, seed, AT_ONCE)
