"""Freed memory is kept: repeated tensors of megabytes cost no new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from csp.device import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [np.ones(1 << 20) for _ in range(5)]  # 8 MB each
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
kept = keep_freed_memory()
faults()
print(kept, first, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the GNU C library is Linux's")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, before, after = done.stdout.split()
    if kept != "True":
        pytest.skip("not the GNU C library")
    assert int(after) < 0.05 * int(before)


GROWTH = """
import numpy as np
from csp.device import give_back_freed_memory, keep_freed_memory

def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

keep_freed_memory()
given = give_back_freed_memory()
before = megabytes()
blocks = [np.ones(1 << 17) for _ in range(200)]  # 1 MB each
kept = blocks[::20]
del blocks
held = megabytes() - before
give_back_freed_memory()
print(given, held, megabytes() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the GNU C library is Linux's")
def test_freed_memory_is_given_back_between_two_pieces_of_work() -> None:
    """Of 200 MB ten are still in use, between the others."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    _, held, left = done.stdout.split()
    if int(held) < 100:
        pytest.skip("not the GNU C library")
    assert int(left) < 40
