"""Threads of a process, and what its forks do without them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from tests.places import ROOT

FORKS = """
import multiprocessing
import torch
from csp.library.library import Library
from surrogates.zoo import load_model

crystals = Library.open().crystals(list(range(40)))
here = load_model({name!r})
crystals = crystals[[k for k in range(len(crystals)) if set(crystals[k].numbers.tolist()) <= here.elements]]
expected = here.evaluate(crystals, forces=True)
assert torch.get_num_threads() > 1  # else there is nothing to wait for


def again(loads):
    model = load_model({name!r}) if loads else here
    found = model.evaluate(crystals, forces=True)
    return torch.get_num_threads(), float((found.energy - expected.energy).abs().max())


with multiprocessing.get_context("fork").Pool(2) as pool:
    for threads, error in pool.map(again, [True, False]):
        assert (threads, error < 1e-3) == (1, True), (threads, error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread")
@pytest.mark.parametrize("name", ["xs", "chgnet"])
def test_a_forked_pool_does_not_hang(name: str) -> None:
    """Without `one_thread_after_fork` each child waits for ever in the first operation that torch shares out,
    which is loading the weights of a model, or the volumes of a batch."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-c", FORKS.format(name=name)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as process:
        try:
            assert process.wait(120) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):  # the children too
                os.killpg(process.pid, signal.SIGKILL)
