"""How threads wait: what is set before torch is imported, by whom, and what of the user stays."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from tests.places import ROOT

SHOW = "import os; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('KMP_BLOCKTIME'))"
CSP = f"import sys; sys.argv[1:] = ['--version']\nfrom csp.__main__ import main\ntry: main()\nfinally: {SHOW}"
FLOWS = f"import flows.predict, sys; assert 'torch' not in sys.modules; {SHOW}"


def shown(script: str, **given: str) -> str:
    unset = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env={**kept, **given}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("script", [CSP, FLOWS], ids=["csp", "flows"])
def test_every_entry_has_threads_sleep(script: str) -> None:
    assert shown(script) == "PASSIVE 0"


def test_what_the_user_set_stays() -> None:
    assert shown(CSP, OMP_WAIT_POLICY="ACTIVE", KMP_BLOCKTIME="200") == "ACTIVE 200"
    assert shown(CSP, OMP_NUM_THREADS="2") == "None None"


FORKS = """
import multiprocessing
import torch
from csp.library.library import Library
from surrogates.zoo import load_model

library = Library.open()
crystals = library.crystals((library.n_atoms <= 12).nonzero()[0][:40].tolist())
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
