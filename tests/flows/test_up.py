"""`csp up` and what people do with it, on a real server."""

from __future__ import annotations

import re
import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows.api import Api, processes_of
from tests.flows.process import PATIENCE, Csp, new_csp, stop, until

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]

CHEAP = ("--candidates", "12", "--screened", "4", "--relaxed", "2", "--rattled", "0", "--max-steps", "2")
SMALL = (*CHEAP, "--max-atoms", "4")
LONG = ("--candidates", "400", "--screened", "400", "--relaxed", "400", "--max-steps", "500")


def test_what_is_up_is_said_and_goes_away_cleanly(tmp_path: Path) -> None:
    """Started twice; the second time finds the state of the first, and a run that SIGTERM interrupted."""
    mine = new_csp(tmp_path / "home")
    for signal_, times in ((signal.SIGTERM, 1), (signal.SIGINT, 2)):
        process = mine.up()
        assert f"up already, at {mine.url}" in mine.run("up", "--port", str(mine.port))
        api = Api(mine)
        if times == 1:
            mine.run("submit", "SiO2", *LONG)
        id_ = api.newest()["id"]
        until(lambda id_=id_, api=api, times=times: at_work(api, id_, times), "work")
        process.send_signal(signal_)
        process.wait(PATIENCE)
        assert process.returncode in (0, 130)
        assert not processes_of(id_)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{mine.url}/api/health")
    assert "csp up" in mine.run("status", code=3)


def at_work(api: Api, id_: str, times: int) -> bool:
    """For the so manieth time."""
    run = api.run(id_)
    return (run["state"]["name"], run["run_count"]) == ("Running", times) and "progress" in api.artifacts(id_)


def test_submit_and_wait_then_everything_is_there(csp: Csp, tmp_path: Path) -> None:
    said = csp.run("submit", "NaCl", *SMALL, "--wait", "--folder", str(tmp_path / "mine"))
    assert "crystals ranked" in said
    api = Api(csp)
    run = api.newest()
    assert (run["name"], run["state"]["name"]) == ("predict NaCl", "Completed")
    artifacts = api.artifacts(run["id"])
    assert artifacts.keys() == {"progress", "summary", "ranking", "picture", "files"}
    assert float(artifacts["progress"]["data"]) == 100
    picture, page = artifacts["picture"]["data"], artifacts["files"]["data"].split("(")[1].rstrip(")")
    assert fetch(csp, picture).content.startswith(b"\x89PNG")
    report = fetch(csp, page)
    assert "NaCl" in report.text
    assert "sandbox" in report.headers["content-security-policy"]
    linked = re.findall(r"\]\((/files/[^)]*)\)", artifacts["summary"]["data"])
    assert len(linked) == 4
    assert all(fetch(csp, place).is_success for place in linked)
    cif = fetch(csp, page.replace("report.html", "structures/001.cif"))
    assert (cif.headers["content-type"], cif.text[:1]) == ("text/plain; charset=utf-8", "#")
    assert (tmp_path / "mine" / "report.html").is_file()
    file = tmp_path / "best.db"
    told = csp.run("results", "ClNa", "--export", str(file))
    assert "space group" in told
    assert file.stat().st_size > 0
    assert "predict NaCl" in csp.run("status")


def fetch(csp: Csp, place: str) -> httpx.Response:
    assert place.startswith("/files/")
    return httpx.get(f"{csp.url}{place}", auth=csp.auth, timeout=60)


def test_what_no_form_can_know_fails_at_once_with_the_reason(csp: Csp) -> None:
    api = Api(csp)
    for parameters, reason in (
        ({"formula": "Xx2O3"}, "'Xx2O3' is not a chemical formula: there is no element Xx"),
        ({"formula": "NaCl", "library": "/etc/passwd"}, "/etc/passwd is outside of the folders that runs"),
        ({"formula": "NaCl", "folder": "/etc"}, "/etc is outside of the folders that runs"),
        ({"formula": "NaCl", "advanced": {"relaxer": "/tmp"}}, "/tmp is outside of the folders that runs"),
    ):
        id_ = api.submit("predict/predict", **parameters)
        until(lambda id_=id_: api.state(id_) == "Failed", "the run failing", every=0.5)
        run = api.run(id_)
        assert run["state"]["message"].startswith(reason)
        until(lambda id_=id_, reason=reason: any(reason in line for line in logged(api, id_)), "the log")
        assert not any("Traceback" in line for line in logged(api, id_))
        assert not api.ask("/task_runs/filter", task_runs={"flow_run_id": {"any_": [id_]}})  # nothing began
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        api.submit("predict/predict", formula="gaas")


def logged(api: Api, id_: str) -> list[str]:
    return [line["message"] for line in api.ask("/logs/filter", logs={"flow_run_id": {"any_": [id_]}})]


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
    """As a spreadsheet of most of Europe writes it."""
    file = tmp_path / "many.csv"
    file.write_text("Name;Formula\nsalt;NaCl\nagain;ClNa\npericlase;MgO\n", encoding="utf-16")
    api = Api(csp)
    advanced = {"screened": 4, "relaxed": 2, "rattled": 0, "max_steps": 2, "max_atoms": 4}
    id_ = api.submit("predict-many/predict-many", table=str(file), candidates=12, advanced=advanced)

    def made() -> list[dict[str, Any]]:
        return api.ask("/flow_runs/filter", flow_runs={"tags": {"all_": [f"many-{id_[:8]}"]}})

    until(lambda: len(made()) == 2 and {r["state"]["name"] for r in made()} == {"Completed"}, "both runs")
    assert {r["parameters"]["formula"] for r in made()} == {"NaCl", "MgO"}
    assert {r["name"] for r in made()} == {"predict NaCl", "predict MgO"}
    assert api.run(id_)["name"] == "predict-many many.csv"
    listed = api.artifacts(id_)["many"]["data"]
    assert {f"(/runs/flow-run/{r['id']})" for r in made()} == set(re.findall(r"\([^)]*\)", listed))


def test_several_pressures(csp: Csp) -> None:
    said = csp.run("submit", "NaCl", *SMALL, "--pressure", "20,0", "--wait")
    assert "predict NaCl at 0, 20 GPa is submitted" in said
    api = Api(csp)
    run = api.newest()
    assert (run["name"], run["state"]["name"]) == ("predict NaCl at 0, 20 GPa", "Completed")
    artifacts = api.artifacts(run["id"])
    assert {"progress", "pressures", "enthalpies"} <= artifacts.keys()
    linked = re.findall(r"\]\((/files/[^)]*)\)", artifacts["pressures"]["data"])
    assert [place.split("/", 3)[3] for place in linked] == [
        *("pressures.html", "pressures.json"),
        *("0GPa/report.html", "20GPa/report.html"),
    ]
    assert all(fetch(csp, place).is_success for place in (*linked, artifacts["enthalpies"]["data"]))


def test_cancelling_stops_the_work(csp: Csp) -> None:
    api = Api(csp)
    csp.run("submit", "SiO2", *LONG)
    id_ = api.newest()["id"]
    assert re.search(r"SiO2 +(Scheduled|Late|Submitting|Pending|Running) ", csp.run("status"))
    until(lambda: "progress" in api.artifacts(id_), "work")
    assert processes_of(id_)
    assert f"{id_[:8]}  predict SiO2 is cancelled" in csp.run("cancel", "O2Si")
    since = time.monotonic()
    until(lambda: not processes_of(id_), "the end of the process")
    assert time.monotonic() - since < 30
    until(lambda: api.state(id_) == "Cancelled", "the state")
    told = csp.run("status", "--last", "1")
    assert re.search(rf"^{id_[:8]} +predict SiO2 +Cancelled +\d\d-\d\d \d\d:\d\d +0:\d\d:\d\d", told, re.M)
    assert "called SiO2" in csp.run("cancel", "SiO2", code=3)


def test_many_are_cancelled_with_what_they_made(csp: Csp) -> None:
    api = Api(csp)
    later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}
    path = f"/deployments/{api.get('/deployments/name/predict/predict')['id']}/create_flow_run"
    many = f"/deployments/{api.get('/deployments/name/predict-many/predict-many')['id']}/create_flow_run"
    parent = api.ask(many, parameters={"formulas": ["NaCl", "ZnS", "ZnO", "MgO"]}, state=later)["id"]
    tag = f"many-{parent[:8]}"
    mine = [api.ask(path, parameters={"formula": f}, state=later, tags=[tag])["id"] for f in ("ZnS", "ZnO")]
    other = api.ask(path, parameters={"formula": "ZnS"}, state=later)["id"]
    said = csp.run("cancel", "predict-many NaCl, ZnS, ZnO and 1 more")
    assert said.count("is cancelled") == 3
    assert {api.state(id_) for id_ in (parent, *mine)} == {"Cancelled"}
    assert api.state(other) == "Scheduled"
    csp.run("cancel", other[:6])
    assert api.state(other) == "Cancelled"


def test_a_password_is_asked_for_and_never_shown(tmp_path: Path) -> None:
    mine = new_csp(tmp_path)
    mine.environment["CSP_AUTH"] = "ann:7h3/s3cr3t@%:"
    process = mine.up()
    for path in ("/api/flows/count", "/files/", "/", "/docs", "/api/openapi.json", "/ui-settings"):
        assert httpx.get(f"{mine.url}{path}").status_code == 401
    assert httpx.post(f"{mine.url}/api/flows/count").status_code == 401
    assert httpx.post(f"{mine.url}/api/flows/count", auth=mine.auth).is_success
    assert "run" in mine.run("status")
    for wrong, sentence in (("ann:wrong", "refuses this password"), ("ann", "not name:password")):
        mine.environment["CSP_AUTH"] = wrong
        assert sentence in mine.run("status", code=2)
    del mine.environment["CSP_AUTH"]
    assert "asks for a password" in mine.run("status", code=2)
    stop(process)
    assert "s3cr3t" not in mine.log.read_text() + (tmp_path / "server.log").read_text()
    assert not (tmp_path / "token").exists()


def test_a_token_is_made_that_only_the_user_reads(csp: Csp) -> None:
    place = csp.home / "token"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert len(csp.password) > 40
    assert httpx.get(f"{csp.url}/api/flows/count").status_code == 401
    assert csp.password not in csp.log.read_text() + (csp.home / "server.log").read_text()
