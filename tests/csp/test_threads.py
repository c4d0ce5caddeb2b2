"""How threads wait is decided before torch is there, and left to who has decided it."""

from __future__ import annotations

import os
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
