"""An exploration that is disturbed, or shared by workers, ends with the hull of an undisturbed one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.explore import DEFAULTS, explore
from tests.csp.systems.answers import told
from tests.flows.api import Api, kill, processes_of
from tests.flows.process import Csp, new_csp, stop, until

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]

ADVANCED = {
    "max_atoms": 3,
    "largest_cell": 4,
    "depth": "quick",
    "least_gain": 0.0,
    "generators": ["random"],
    "relaxer": "none",
}
ASKED: dict[str, Any] = {"system": "Na-Cl", "searches": 5, "library": "none"}


def plain(folder: Path) -> None:
    explore.fn(**ASKED, advanced=type(DEFAULTS)(**ADVANCED), folder=folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    plain(folder)
    assert any(one["formula"] == "NaCl" for one in told(folder)["phases"])
    return folder


def submit(csp: Csp, folder: Path, **more: Any) -> str:
    return Api(csp).submit("explore/explore", **ASKED, advanced=ADVANCED, folder=str(folder), **more)


def made(folder: Path) -> int:
    """Searches so far."""
    state = folder / "state.json"
    return len(json.loads(state.read_text(encoding="utf-8"))["searches"]) if state.is_file() else 0


def completed(api: Api, id_: str) -> bool:
    state = api.run(id_)["state"]
    assert state["type"] != "FAILED", state["message"]
    return bool(state["type"] == "COMPLETED")


def test_run_killed_then_server_killed(undisturbed: Path, tmp_path: Path) -> None:
    mine = new_csp(tmp_path / "home")
    process, folder = mine.up(), tmp_path / "run"
    api, id_ = Api(mine), submit(mine, folder)
    until(lambda: made(folder) >= 1, "a search", every=0.2)
    kill(id_)
    until(lambda: api.run(id_)["run_count"] == 2 and made(folder) >= 2, "another search", every=0.2)
    process.kill()
    kill(id_)
    process.wait()
    process = mine.up()
    until(lambda: completed(api, id_), "the end")
    assert api.run(id_)["run_count"] == 3
    assert told(folder) == told(undisturbed)
    stop(process)


def test_a_cancelled_one_stops_and_can_be_gone_on_with(csp: Csp, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    api, id_ = Api(csp), submit(csp, folder)
    until(lambda: made(folder) >= 1, "a search", every=0.2)
    assert f"{id_[:8]}  explore Na-Cl is cancelled" in csp.run("cancel", "explore Na-Cl")
    until(lambda: not processes_of(id_), "the end of the process", 60)
    until(lambda: api.state(id_) == "Cancelled", "the state")
    assert 1 <= made(folder) < ASKED["searches"]
    assert (folder / "report.html").is_file()  # of what there was
    plain(folder)
    assert told(folder) == told(undisturbed)


def test_two_workers_find_the_hull_of_one(csp: Csp, undisturbed: Path, tmp_path: Path) -> None:
    """And what people see of it is renewed after each round."""
    folder = tmp_path / "run"
    api, id_ = Api(csp), submit(csp, folder, runner="dask")
    until(lambda: made(folder) >= 1 and "searches" in api.artifacts(id_), "a round", every=0.2)
    until(lambda: completed(api, id_), "the end")
    assert told(folder) == told(undisturbed)
    artifacts = api.artifacts(id_)
    assert artifacts.keys() == {"explored", "searches", "diagram", "phases"}
    assert artifacts["diagram"]["data"].endswith(f"/diagram.png?{ASKED['searches']}")
    assert "5 of 5 searches" in artifacts["searches"]["description"]
    tasks = api.ask("/task_runs/filter", task_runs={"flow_run_id": {"any_": [id_]}})
    assert len(tasks) == ASKED["searches"]
