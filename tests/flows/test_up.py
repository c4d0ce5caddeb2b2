"""`csp up` and what people do with it, on a real server."""

from __future__ import annotations

import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows.api import Api, processes_of
from tests.flows.process import Csp, new_csp, stop, until

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]

CHEAP = ("--candidates", "12", "--screened", "4", "--relaxed", "2", "--rattled", "0", "--max-steps", "2")
SMALL = (*CHEAP, "--max-atoms", "4")
LONG = ("--candidates", "400", "--screened", "400", "--relaxed", "400", "--max-steps", "500")


def test_what_is_up_is_said_and_goes_away_cleanly(tmp_path: Path) -> None:
    mine, triggers = new_csp(tmp_path), []
    for _ in range(2):  # the second time finds the state of the first
        process = mine.up()
        assert f"up already, at {mine.url}" in mine.run("up", "--port", str(mine.port))
        automations = {a["name"]: a["trigger"]["id"] for a in Api(mine).ask("/automations/filter")}
        assert sorted(automations) == [
            "csp: crashed runs go on",
            "csp: dead runs",
            "csp: runs that never start",
        ]
        triggers.append(automations)
        stop(process)
        assert process.returncode in (0, 130)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{mine.url}/api/health")
    assert triggers[0] == triggers[1]  # what they had seen before is not forgotten
    assert "csp up" in mine.run("status", code=3)


def test_submit_and_wait_then_everything_is_there(csp: Csp, tmp_path: Path) -> None:
    said = csp.run("submit", "NaCl", *SMALL, "--wait")
    assert "crystals ranked" in said
    api = Api(csp)
    run = api.newest()
    assert (run["name"], run["state"]["name"]) == ("predict NaCl", "Completed")
    artifacts = api.artifacts(run["id"])
    assert artifacts.keys() == {"progress", "summary", "ranking", "picture", "files"}
    assert float(artifacts["progress"]["data"]) == 100
    picture, link = artifacts["picture"]["data"], artifacts["files"]["data"].split("(")[1].rstrip(")")
    assert urllib.request.urlopen(picture, timeout=60).read().startswith(b"\x89PNG")
    assert b"NaCl" in urllib.request.urlopen(link, timeout=60).read()
    file = tmp_path / "best.db"
    assert "1 " in csp.run("results", "ClNa", "--export", str(file))
    assert file.stat().st_size > 0
    assert "predict NaCl" in csp.run("status")


def test_what_no_form_can_know_fails_at_once_with_the_reason(csp: Csp) -> None:
    api = Api(csp)
    id_ = api.submit("predict/predict", formula="Xx2O3")
    until(lambda: api.state(id_) == "Failed", "the run failing")
    run = api.run(id_)
    assert "there is no element Xx" in run["state"]["message"]
    assert run["total_run_time"] < 5
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        api.submit("predict/predict", formula="gaas")


def test_many_submit_at_once_and_none_is_refused(csp: Csp) -> None:
    """A browser does not ask again; by itself Prefect on SQLite refuses three of four (503)."""
    api = Api(csp)
    later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
    path = f"/deployments/{api.get('/deployments/name/predict/predict')['id']}/create_flow_run"

    def submit(_: int) -> str:
        return api.ask(path, parameters={"formula": "NaCl"}, state=later)["id"]

    with ThreadPoolExecutor(12) as people:
        made = list(people.map(submit, range(120)))
    assert len(set(made)) == 120
    for id_ in made:
        api.delete(f"/flow_runs/{id_}")


def test_many_formulas_from_a_file(csp: Csp, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text("formula\nNaCl\nClNa\nMgO\n")
    api = Api(csp)
    advanced = {"screened": 4, "relaxed": 2, "rattled": 0, "max_steps": 2, "max_atoms": 4}
    id_ = api.submit("predict-many/predict-many", table=str(file), candidates=12, advanced=advanced)

    def made() -> list[dict[str, Any]]:
        tags = {"all_": [api.run(id_)["name"]]}
        return api.ask("/flow_runs/filter", flow_runs={"tags": tags})

    until(lambda: len(made()) == 2 and {r["state"]["name"] for r in made()} == {"Completed"}, "both runs")
    assert {r["parameters"]["formula"] for r in made()} == {"NaCl", "MgO"}


def test_cancelling_stops_the_work(csp: Csp) -> None:
    api = Api(csp)
    csp.run("submit", "SiO2", *LONG)
    id_ = api.newest()["id"]
    until(lambda: "progress" in api.artifacts(id_), "work")
    assert processes_of(id_)
    api.cancel(id_)
    since = time.monotonic()
    until(lambda: not processes_of(id_), "the end of the process")
    assert time.monotonic() - since < 30
    until(lambda: api.state(id_) == "Cancelled", "the state")


def test_a_password_is_asked_for_and_never_shown(tmp_path: Path) -> None:
    mine = new_csp(tmp_path)
    mine.environment["CSP_AUTH"] = "ann:7h3-s3cr3t"
    process = mine.up()
    assert httpx.get(f"{mine.url}/api/flows/count").status_code in (401, 405)
    assert httpx.post(f"{mine.url}/api/flows/count").status_code == 401
    assert httpx.post(f"{mine.url}/api/flows/count", auth=("ann", "7h3-s3cr3t")).is_success
    files = f"http://127.0.0.1:{mine.port + 1}/"
    assert httpx.get(files).status_code == 401
    assert httpx.get(files, auth=("ann", "7h3-s3cr3t")).is_success
    assert "run" in mine.run("status")
    stop(process)
    assert "s3cr3t" not in mine.log.read_text() + (tmp_path / "server.log").read_text()
