"""Shards over the workers of a Dask cluster: each stage in as many shares as keep the workers busy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from csp.errors import MissingError

__all__ = ["cluster", "workers"]

SHARES_PER_WORKER = 4  # so that no worker waits long for the last one
LOCAL = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}  # as many as cores


@contextmanager
def cluster(runner: str) -> Iterator[Any]:
    """What tasks are submitted to: the workers of a Dask cluster.

    Args:
        runner: "dask", a cluster on this machine; or the address of a scheduler.

    Raises:
        MissingError: The package is not there.
    """
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise MissingError("This needs Dask: pip install 'csp-engine[cluster]'.") from error
    where: dict[str, Any] = {"address": runner} if runner != "dask" else {"cluster_kwargs": LOCAL}
    with DaskTaskRunner(**where) as pool:
        yield pool


@contextmanager
def workers(
    runner: str,
) -> Iterator[Callable[[Any, tuple[Any, ...], int, Callable[[int, int], None]], None]]:
    """A function that has a task of `flows.predict` done by all workers, and comes back when it is.

    Args:
        runner: "dask", a cluster on this machine; or the address of a scheduler, whose workers reach the
            folder of the run, or its database.

    Raises:
        MissingError: The package is not there.
    """
    with cluster(runner) as pool:

        def share_out(
            task: Any, arguments: tuple[Any, ...], number: int, progress: Callable[[int, int], None]
        ) -> None:
            names = ("settings", "out", "device", "stage")
            common = {**dict(zip(names, arguments, strict=True)), "number": number}
            n = SHARES_PER_WORKER * len(pool.client.scheduler_info()["workers"])
            progress(0, n)
            futures = [pool.submit(task, {**common, "share": (k, n)}, wait_for=[]) for k in range(n)]
            for k, future in enumerate(futures):
                future.result()
                progress(k + 1, n)

        yield share_out
