"""How the threads of this process wait for work. It imports nothing that is slow to import."""

from __future__ import annotations

import os

__all__ = ["wait_asleep"]


def wait_asleep() -> None:
    """Have OpenMP threads that wait for work sleep instead of spin. Call it before torch is imported.

    By default a waiting thread keeps its core busy in the hope of work to come. Where two processes share
    the cores, each spins in the other's way: a search of seconds takes minutes. On a machine of one's own
    the difference is a few per cent.

    The OpenMP library reads the environment when torch loads it, and processes started by this one inherit
    it. What the user has set stays as it is; who set the number of threads has thought of all this.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # of Intel's library; milliseconds to spin before sleeping
