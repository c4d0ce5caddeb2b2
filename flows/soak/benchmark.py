"""`csp benchmark soak`: a queue of formulas while its workers, server, database and disk fail."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sql
import torch

from benchmarks.files import changed
from benchmarks.machine import machine
from csp.errors import CspError, InputError
from csp.files import write_json, write_text
from flows.home import AUTH, STORE_URL
from flows.roots import ROOTS
from flows.soak.faults import Faults, planned
from flows.soak.findings import findings, stored
from flows.soak.formulas import MOST, mixed, wrong
from flows.soak.full_store import measure_store
from flows.soak.postgres import Postgres, free_port, postgres
from flows.soak.processes import Kept
from flows.soak.queue import Queue
from flows.soak.small_disk import SmallDisk, small_disk
from flows.soak.watch import Watch

__all__ = ["measure"]

SEARCH = {"screened": 4, "relaxed": 2, "rattled": 0, "max_steps": 2, "max_atoms": 24, "relaxer": "none"}
CANDIDATES = 8
POOL = "soak"
TICK = 1.0  # seconds
DONE = "seconds.json"  # of the undisturbed searches, when all are done
WARM = 10  # searches of one process, after which its memory is compared with that at the end

Say = Callable[[str], None]


def measure(
    out: Path,
    *,
    formulas: int,
    minutes: float,
    workers: int,
    wrong_share: float,
    searches: int,
    candidates: int,
    seed: int,
    say: Say,
) -> dict[str, Any]:
    """Queue, disturb, compare; writes `summary.json`, `events.txt` and `cases.txt` into the out folder.

    Args:
        formulas: In the queue, right ones and wrong ones.
        minutes: In which there are faults; afterwards the queue is left to end.
        wrong_share: Of the formulas, that are wrong.
        searches: In one process, for its memory; at least all right formulas are.
        candidates: In a store that is asked; 0: none is.

    Raises:
        InputError: The out folder is used already, or there are not so many formulas.
        MissingError: PostgreSQL is not installed.
    """
    if (out / "home").exists():
        raise InputError(f"{out} holds a queue already; choose another folder.")
    false = wrong(math.ceil(wrong_share * formulas))
    right = mixed(formulas - len(false), seed)
    if len(right) + len(false) < formulas:
        raise InputError(f"At most {MOST:,} right formulas can be queued.", setting="formulas")
    common = {"candidates": CANDIDATES, "generators": ["template", "metric_learning", "space_group"]}
    parameters: dict[str, Any] = {**common, "advanced": {**SEARCH, "seed": seed}, "device": "cpu"}
    found: dict[str, Any] = {"seed": seed, "minutes": minutes, "workers": workers}
    found |= machine(torch.device("cpu")) | {"machine.load": round(os.getloadavg()[0], 1)}
    out.mkdir(parents=True, exist_ok=True)
    plan = {"formulas": right, "searches": searches, "parameters": parameters}
    found |= _undisturbed(out, plan, say)
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        _new_database(database, "prefect")
        _new_database(database, "csp")
        disk = stack.enter_context(small_disk((out / "home").absolute()))
        if disk is None:
            say("Nothing may be mounted here: no full disk is tried.")
        found |= _queue(out, right, false, parameters, minutes, workers, seed, database, disk, say)
        if candidates:
            say(f"A store of {candidates:,} candidates is filled and asked.")
            write_json(out / "summary.json", found)
            _new_database(database, "million")
            found |= measure_store(database.url(database="million"), candidates, seed)
    write_json(out / "summary.json", found)
    return found


def _undisturbed(out: Path, plan: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """What each ranking should be; the memory of the process that did all, MB. Done once for a plan."""
    folder, since = out / "undisturbed", time.monotonic()
    if changed(out / "plan.json", plan):
        raise InputError(f"{out} holds searches of other options; choose another folder.")
    if not (folder / DONE).is_file():
        say(f"{len(plan['formulas'])} formulas are searched for undisturbed.")
        shutil.rmtree(folder, ignore_errors=True)
        write_json(out / "plan.json", plan)
        command = [sys.executable, "-m", "flows.soak.undisturbed", str(out / "plan.json"), str(folder)]
        with (out / "undisturbed.log").open("wb") as log:
            done = subprocess.run(command, env=_environment(out), stdout=log, stderr=log)
        if done.returncode:
            raise CspError(f"The undisturbed searches failed; {out / 'undisturbed.log'} says why.")
        write_json(folder / DONE, {"undisturbed_s": round(time.monotonic() - since, 1)})
    memory = json.loads((folder / "memory.json").read_text(encoding="utf-8"))["mb"]
    return {
        **json.loads((folder / DONE).read_text(encoding="utf-8")),
        "process.searches": len(memory),
        f"process.after_{min(WARM, len(memory))}_mb": memory[min(WARM, len(memory)) - 1],
        "process.last_mb": memory[-1],
        "process.most_mb": max(memory),
    }


def _queue(
    out: Path,
    right: Sequence[str],
    false: Sequence[str],
    parameters: Mapping[str, Any],
    minutes: float,
    workers: int,
    seed: int,
    database: Postgres,
    disk: SmallDisk | None,
    say: Say,
) -> dict[str, Any]:
    """The queue from its first run to the last, and what is to be said of it."""
    home = (out / "home").absolute()
    server, kept, queue = _programs(out, home, workers, database)
    events: list[str] = []
    began = time.monotonic()

    def note(words: str) -> None:
        events.append(f"{time.monotonic() - began:8.1f} s  {words}")
        write_text(out / "events.txt", "\n".join(events) + "\n")
        say(events[-1])

    try:
        while not queue.answers():
            server.tend()
            time.sleep(TICK)
        many = _submit(queue, right, false, parameters, home)
        note(f"{len(right)} formulas and {len(false)} wrong ones are queued")
        faults = Faults(
            planned(60 * minutes, seed, disk=disk is not None), server, kept, database, disk, seed
        )
        watch = Watch(queue, server, kept, faults)
        try:
            watch.until_done(len(right) + len(false) + 1, note)
        finally:
            faults.give_back()
    finally:
        for one in (*kept, server):
            one.end(signal.SIGTERM)
            one.end(signal.SIGKILL)
    rows = stored(database.url(database="csp"))
    counts, cases = findings(right, false, watch.runs, home / "runs", out / "undisturbed", rows)
    for run in watch.runs:
        if run["id"] == many and run["state"]["type"] != "COMPLETED":
            cases.append(f"predict-many is {run['state']['name']}: {run['state']['message']}")
    write_text(out / "cases.txt", "".join(f"{line}\n" for line in cases))
    return {
        **counts,
        **{f"faults.{name}": n for name, n in sorted(faults.done.items())},
        "queue_s": round(watch.seconds, 1),
        "longest_pause_s": round(watch.longest_pause, 1),
        "server.starts": server.starts,
        "worker.starts": sum(one.starts for one in kept),
        **watch.memory(),
    }


def _programs(out: Path, home: Path, workers: int, database: Postgres) -> tuple[Kept, list[Kept], Queue]:
    """Server and workers as `compose.yaml` has them."""
    port, auth = free_port(), ("soak", secrets.token_urlsafe(9))
    url = f"http://127.0.0.1:{port}"
    environment = _environment(home) | {
        AUTH: ":".join(auth),
        STORE_URL: database.url(database="csp"),
        ROOTS: str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url("asyncpg", "prefect"),
    }
    up = [sys.executable, "-m", "csp", "up", "--port", str(port), "--pool", POOL]
    prefect = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", POOL]
    of_worker = environment | {
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_API_AUTH_STRING": ":".join(auth),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "CSP_FILES_URL": "/files",
    }
    kept = [
        Kept([*prefect, "--limit", "1", "--name", f"worker-{k}"], of_worker, out / f"worker-{k}.log")
        for k in range(workers)
    ]
    return Kept(up, environment, out / "server.log"), kept, Queue(url, auth)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "CSP_"))}
    if models := os.environ.get("CSP_MODELS"):
        kept["CSP_MODELS"] = models
    return kept | {"CSP_HOME": str(home), "CSP_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _submit(
    queue: Queue, right: Sequence[str], false: Sequence[str], parameters: Mapping[str, Any], home: Path
) -> str:
    """The right ones as one run of many, from a file, each wrong one by itself; the id of the first."""
    table = home / "formulas.csv"
    write_text(table, "formula\n" + "".join(f"{formula}\n" for formula in right))
    many = queue.submit("predict-many", {"table": str(table), **parameters})
    for formula in false:
        queue.submit("predict", {"formula": formula, **parameters})
    return many


def _new_database(server: Postgres, name: str) -> None:
    engine = sql.create_engine(server.url(), isolation_level="AUTOCOMMIT", poolclass=sql.NullPool)
    with engine.connect() as connection:
        connection.execute(sql.text(f"CREATE DATABASE {name}"))
