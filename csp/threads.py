"""How the threads of this process wait for work, and what a forked process does without them.

It imports nothing that is slow to import.
"""

from __future__ import annotations

import os
import sys

__all__ = ["one_thread_after_fork", "wait_asleep"]


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


def one_thread_after_fork() -> None:
    """Have torch compute in one thread in the processes that this one forks, as `multiprocessing` does.

    Only the thread that forks lives on in the child. The OpenMP library there still believes in the others
    that it had in the parent, and waits for ever for their share of the first large operation, which is
    the copying of a model's weights. In one thread nothing is shared out. A pool of such processes keeps
    the cores busy all the same.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
        os.register_at_fork(after_in_child=_one_thread)


def _one_thread() -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
