"""What may go wrong under a run: it ends with the ranking of an undisturbed one, nothing lost or twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sql

from csp.store import tables
from flows.crashes import CRASHES, TOO_OFTEN
from tests.flows.api import Api, kill, processes_of
from tests.flows.postgres import Postgres
from tests.flows.process import PATIENCE, Csp, new_csp, stop, until

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]

STAGES = (
    "proposing",
    "screening",
    "relaxing",
    "refining",
    "rattling",
)  # as the progress says; rescoring is short
SEARCH = {"screened": 40, "relaxed": 20, "refined": 8, "rattled": 2, "max_steps": 6, "max_atoms": 8}
OPTIONS = [word for name, n in SEARCH.items() for word in (f"--{name.replace('_', '-')}", str(n))]
CANDIDATES = 300
AWAY = 30.0  # seconds
PROGRAM = f"""
import sys
from pathlib import Path
from flows.form import Advanced
from flows.predict import predict
how = predict if sys.argv[1] == "run" else predict.fn
how("ZnS", candidates={CANDIDATES}, advanced=Advanced(**{SEARCH}), folder=Path(sys.argv[2]))
"""


def submit(csp: Csp, folder: Path) -> str:
    csp.run("submit", "ZnS", "--candidates", str(CANDIDATES), *OPTIONS, "--folder", str(folder))
    return Api(csp).newest()["id"]


def work(how: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """The search in a process of its own: as a "run" of a server, or "plain"."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    code, said = finish(work("plain", folder))
    assert code == 0, said
    return folder


def rows(location: Path | str, run: str = "run") -> list[int]:
    """How many rows each table has of a run."""
    with tables.connect(location).connect() as connection:
        return [
            connection.execute(sql.select(sql.func.count()).where(table.c.run_id == run)).scalar_one()
            for table in (tables.shards, tables.candidates, tables.energies, tables.outcomes)
        ]


def says(api: Api, id_: str, word: str) -> bool:
    """Whether the run is at work in this stage, or, where that was too short to be seen, after it."""
    state, told = api.run(id_)["state"], api.artifacts(id_).get("progress")
    assert state["type"] not in ("COMPLETED", "FAILED"), state["message"]
    if not told or state["name"] != "Running" or told["updated"] < state["timestamp"]:
        return False
    return told["description"].split()[0] in STAGES[STAGES.index(word) :]


def same(one: Path, other: Path) -> bool:
    return (one / "ranked.json").read_bytes() == (other / "ranked.json").read_bytes()


def test_killed_in_every_stage(csp: Csp, undisturbed: Path, tmp_path: Path) -> None:
    api, id_ = Api(csp), submit(csp, tmp_path)
    assert len(STAGES) < CRASHES
    for word in STAGES:
        until(lambda word=word: says(api, id_, word), word, every=0.2)
        times = api.run(id_)["run_count"]
        kill(id_)
        until(
            lambda times=times: api.state(id_) != "Running" or api.run(id_)["run_count"] > times, "the crash"
        )
    until(lambda: api.state(id_) == "Completed", "the end")
    assert api.run(id_)["run_count"] == 1 + len(STAGES)
    assert same(tmp_path, undisturbed)
    assert rows(tmp_path) == rows(undisturbed)


def test_worker_and_server_killed(undisturbed: Path, tmp_path: Path) -> None:
    mine = new_csp(tmp_path / "home")
    process = mine.up()
    api, id_ = Api(mine), submit(mine, tmp_path / "run")
    until(lambda: says(api, id_, "screening"), "screening", every=0.2)
    process.kill()  # the server ends with it
    kill(id_)
    process.wait()
    until(lambda: not answers(mine), "the end of the server", 60)
    process = mine.up()
    until(lambda: api.state(id_) == "Completed", "the end")
    assert same(tmp_path / "run", undisturbed)
    stop(process)


def test_what_was_at_work_when_it_was_ended_goes_on_with_it(tmp_path: Path) -> None:
    """By SIGTERM, as a system that shuts down sends it: nobody waits for a silence to be noticed."""
    mine = new_csp(tmp_path / "home")
    process = mine.up()
    api, id_ = Api(mine), submit(mine, tmp_path / "run")
    until(lambda: says(api, id_, "screening"), "screening", every=0.2)
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    until(lambda: not processes_of(id_), "the end of the run's process", 60)
    process = mine.up()
    assert api.state(id_) != "Running" or api.run(id_)["run_count"] > 1
    until(lambda: api.state(id_) == "Completed", "the end")
    assert (tmp_path / "run" / "ranked.json").is_file()
    stop(process)


def test_a_crash_that_no_worker_answered(csp: Csp) -> None:
    """The server was away just then: `csp up` sees to it later, unless a run has crashed too often."""
    api, made = Api(csp), []
    path = f"/deployments/{api.get('/deployments/name/predict/predict')['id']}/create_flow_run"
    later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
    crashed = {"type": "CRASHED", "name": "Crashed"}
    for crashes in (1, CRASHES):
        id_ = api.ask(path, parameters={"formula": "Xx2O3"}, state=later)["id"]
        made.append(id_)
        for _ in range(crashes):
            api.ask(f"/flow_runs/{id_}/set_state", state=later, force=True)
            api.ask(f"/flow_runs/{id_}/set_state", state=crashed, force=True)
    until(lambda: not any(api.state(id_) == "Crashed" for id_ in made), "a look for them", 300)
    until(lambda: all(api.run(id_)["state"]["type"] == "FAILED" for id_ in made), "the end")
    ends = [api.run(id_)["state"]["message"] for id_ in made]
    assert ends[0].startswith("'Xx2O3' is not a chemical formula")  # it was begun again
    assert ends[1] == TOO_OFTEN


def answers(csp: Csp) -> bool:
    try:
        return httpx.get(f"{csp.url}/api/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def test_database_away(csp: Csp, postgres: Postgres, undisturbed: Path, tmp_path: Path) -> None:
    environment = {**csp.client, "CSP_HOME": str(csp.home), "CSP_ROOTS": str(tmp_path)}
    process = work("run", tmp_path, **environment, CSP_STORE_URL=postgres.url())
    api = Api(csp)

    def at_work() -> bool:
        newest = api.newest()
        mine = newest.get("parameters", {}).get("folder") == str(tmp_path)
        return mine and says(api, newest["id"], "screening")

    until(at_work, "screening", every=0.2)
    process.send_signal(signal.SIGSTOP)  # what is left takes a fast machine less time than the stop
    postgres.stop()
    process.send_signal(signal.SIGCONT)
    time.sleep(AWAY)
    postgres.start()
    code, said = finish(process)
    assert code == 0, said
    tasks = api.ask("/task_runs/filter", task_runs={"flow_run_id": {"any_": [api.newest()["id"]]}})
    assert max(task["run_count"] for task in tasks) > 1
    assert same(tmp_path, undisturbed)


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_two_workers_take_the_same_run(
    where: str, undisturbed: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    postgres = request.getfixturevalue("postgres") if where == "postgres" else None
    environment = {"CSP_STORE_URL": postgres.url()} if postgres else {}
    processes = [work("plain", tmp_path, **environment) for _ in range(2)]
    for code, said in map(finish, processes):
        assert code == 0, said
    assert same(tmp_path, undisturbed)
    assert rows(*((postgres.url(), str(tmp_path)) if postgres else (tmp_path,))) == rows(undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a disk of its own can be mounted as root only")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_full_disk(small_disk: Path, undisturbed: Path) -> None:
    """Room comes back bit by bit: each attempt gets further, and the last one to the end."""
    ballast, folder = small_disk / "ballast", small_disk / "run"
    for free in (0.03, 0.1, 0.2):  # MB
        ballast.write_bytes(bytes(int((2 - free) * 2**20) - _used(folder)))
        code, said = finish(work("plain", folder))
        assert code != 0, f"{free} MB are enough"
        assert "disk" in said.splitlines()[-1] or "space" in said.splitlines()[-1], said
        assert not (folder / "ranked.json").exists()
        ballast.unlink()
    code, said = finish(work("plain", folder))
    assert code == 0, said
    assert same(folder, undisturbed)
    assert rows(folder) == rows(undisturbed)


def _used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*")) if folder.exists() else 0
