"""What Prefect costs on this machine: starting, submitting, a flow around a search, empty tasks, a queue.

`csp benchmark flows` runs it in a home of its own. Prefect's database is SQLite unless
$PREFECT_SERVER_DATABASE_CONNECTION_URL names another, the runs' own unless $CSP_STORE_URL does.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice, product
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from csp.errors import CspError, InputError, MissingError
from csp.files import write_json
from csp.settings import SearchSettings
from flows.home import Up, home, made_home, reach

__all__ = ["measure"]

TASKS_A_FORMULA = 5  # 1,000 empty tasks beside 200 formulas
AT_ONCE = 2
DEALT_OUT = "SrTiO3"  # whose search, by default settings, is done by one Dask worker and by two
POLL = 1.0  # seconds
OVERHEAD_OF = 180.0  # seconds of a search that the flow's overhead is told for
SEARCH = {"candidates": 300, "screened": 40, "relaxed": 20, "refined": 8, "rattled": 1, "max_atoms": 8}
TRIVIAL = {"candidates": 8, "screened": 4, "relaxed": 2, "rattled": 0, "max_steps": 2, "max_atoms": 8}
CATIONS = (
    "Li", "Na", "K", "Rb", "Cs", "Cu", "Ag", "Be", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd", "Mn", "Fe", "Co", "Ni",
)  # fmt: skip
ANIONS = ("F", "Cl", "Br", "I", "O", "S", "Se", "Te", "N", "P", "H", "As")


def measure(
    out: Path, formulas: int, seed: int, device: str, say: Callable[[str, float], None]
) -> dict[str, Any]:
    """Measure, telling and writing each number as it is known.

    Args:
        formulas: How many are queued at once, at most 216; five times as many empty tasks are run.

    Returns:
        The summary.
    """
    import torch

    if (out / "home").exists():
        raise InputError(f"{out} holds a home already; a first start is measured in a new one.")
    os.environ["CSP_HOME"] = str((out / "home").absolute())
    database = os.environ.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite").split(":")[0].split("+")[0]
    load = round(os.getloadavg()[0], 1)
    summary: dict[str, Any] = {
        "database": database,
        "seed": seed,
        "machine.load": load,
        **machine(torch.device("cpu")),
    }

    def note(name: str, value: float) -> None:
        summary[name] = round(value, 3)
        say(name, summary[name])
        write_json(out / "summary.json", summary)

    port = _free_port()
    with _up(port) as seconds:
        note("first_start_s", seconds)
    with _up(port) as seconds:
        note("later_start_s", seconds)
        reach()
        settings = SearchSettings.read(formula="ZnS", seed=seed, **SEARCH)
        for name, value in _overhead(settings, out, device):
            note(name, value)
        note("empty_task_s", _empty_tasks(TASKS_A_FORMULA * formulas) / (TASKS_A_FORMULA * formulas))
        for name, value in _queue(formulas, seed, device):
            note(name, value)
        for name, value in _dealt_out(SearchSettings.read(formula=DEALT_OUT, seed=seed), device):
            note(name, value)
    note("lock_errors", (home() / "server.log").read_text(errors="replace").count("database is locked"))
    return summary


def _overhead(settings: SearchSettings, out: Path, device: str) -> Iterator[tuple[str, float]]:
    """The same search from the command line and as a run."""
    from flows.client import submit

    words = [w for name in SEARCH for w in (f"--{name.replace('_', '-')}", str(getattr(settings, name)))]
    command = [sys.executable, "-m", "csp", "predict", settings.formula, *words]
    since = time.perf_counter()
    told = subprocess.run(
        [*command, "--seed", str(settings.seed), "--device", device, "--out", str(out / "predict")],
        capture_output=True,
        text=True,
    )
    predict = time.perf_counter() - since
    if told.returncode:
        raise CspError(f"csp predict failed: {told.stderr.strip()}")
    run = _ended([submit(settings, device=device, runner="here", folder=None).id])[0]
    flow = (run.end_time - run.created).total_seconds()
    yield "submitted_to_started_s", (run.start_time - run.created).total_seconds()
    yield "predict_s", predict
    yield "flow_s", flow
    yield f"overhead_of_{OVERHEAD_OF:.0f}_s", (flow - predict) / OVERHEAD_OF


def _empty_tasks(n: int) -> float:
    """Seconds of a flow of n tasks that do nothing."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    @task(cache_policy=NO_CACHE, persist_result=False)
    def nothing() -> None: ...

    @flow(name="empty-tasks", persist_result=False)
    def empty_tasks() -> None:
        for future in [nothing.submit() for _ in range(n)]:
            future.result()

    logging.disable(logging.INFO)  # a line for each
    since = time.perf_counter()
    empty_tasks()
    return time.perf_counter() - since


def _queue(formulas: int, seed: int, device: str) -> Iterator[tuple[str, float]]:
    """Many formulas at once, each a search that hardly takes time."""
    from flows.ask import ask

    names = [a + x for a, x in islice(product(CATIONS, ANIONS), formulas)]
    common = SearchSettings.read(formula="NaCl", relaxer="none", seed=seed, **TRIVIAL).model_dump(mode="json")
    del common["formula"]
    first = {name: common.pop(name) for name in ("candidates", "generators", "labeller", "library")}
    parameters = {**first, "advanced": common, "device": device}
    since = time.perf_counter()
    ids = [ask({"formula": name, **parameters}).id for name in names]
    yield "queue.submitted_s", time.perf_counter() - since
    ended = _ended(ids)
    yield "queue.n", len(names)
    yield "queue.completed", sum(run.state.is_completed() for run in ended)
    yield "queue.runs_taken_twice", sum(run.run_count > 1 for run in ended)
    yield "queue.s", time.perf_counter() - since


def _dealt_out(settings: SearchSettings, device: str) -> Iterator[tuple[str, float]]:
    """The same search by one and by two single-threaded Dask workers, from its start to its end."""
    from distributed import LocalCluster

    from flows.client import submit

    rankings = []
    for n in (1, 2):
        with LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None) as cluster:
            folder = home() / f"dask_{n}"
            asked = submit(settings, device=device, runner=cluster.scheduler_address, folder=folder)
            run = _ended([asked.id])[0]
        if not run.state.is_completed():
            raise CspError(f"{asked.name} by {n} Dask workers ended as {run.state.name}: {run.state.message}")
        yield f"dask_{n}_s", (run.end_time - run.start_time).total_seconds()
        rankings.append((folder / "ranked.json").read_bytes())
    yield "dask_same_ranking", rankings[0] == rankings[1]


def _ended(ids: list[Any]) -> list[Any]:
    """The runs, when all have ended."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = []
        for id_ in ids:
            while not (run := client.read_flow_run(id_)).state or not run.state.is_final():
                time.sleep(POLL)
            runs.append(run)
        return runs


@contextmanager
def _up(port: int) -> Iterator[float]:
    """`csp up` until the block is left; the seconds that it took to be ready."""
    since = time.perf_counter()
    command = [sys.executable, "-m", "csp", "up", "--port", str(port), "--at-once", str(AT_ONCE)]
    with (made_home() / "up.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while Up.read() is None:
            if process.poll() is not None:
                raise MissingError(f"csp up ended at once; {home() / 'up.log'} says why.")
            time.sleep(0.1)
        yield time.perf_counter() - since
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
