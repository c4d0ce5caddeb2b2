"""The deployment for a group, as far as it can be checked where no container can be started.

The files by their schema and a linter, and what they start as processes with the same variables: server,
workers and PostgreSQL, in an installation that cannot be written to.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jsonschema
import psycopg
import pytest
from platformdirs import user_cache_path, user_config_path, user_data_path
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object
from prefect.utilities.templating import apply_values

from benchmarks.ground_truth import TARGETS35
from benchmarks.recovery.benchmark import RecoverySettings
from flows.up import deployments
from tests.flows.api import Api
from tests.flows.compose import Service, read, service, variables
from tests.flows.postgres import Postgres
from tests.flows.process import PATIENCE, Csp, new_csp, until
from tests.places import ROOT

PROGRAMS = Path(sys.executable).parent
UGLY = "p@ss/w%25:w#rd?&=+ $x'\"\\;[1]"
SEARCH = ("--candidates", "12", "--screened", "4", "--relaxed", "2", "--rattled", "0", "--max-steps", "2")


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_keep_the_schema(file: str) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", file]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_passes_a_linter() -> None:
    if not (PROGRAMS / "hadolint").exists():
        pytest.skip("hadolint has no package for this platform")
    done = subprocess.run([PROGRAMS / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_compose_promises() -> None:
    text = (ROOT / "docs" / "how_to" / "groups.md").read_text(encoding="utf-8")
    asked = variables("compose.yaml") | variables("compose.gpu.yaml")
    assert {name for name in asked if f"`{name}`" not in text} == set()
    services = read("compose.yaml")["services"]
    for name in ("server", "worker"):
        engine = service(name, {"CSP_PASSWORD": UGLY}, {})
        assert {key for key, value in engine.environment.items() if UGLY in value and "://" in value} == set()
        assert engine.environment["OMP_NUM_THREADS"] == "1"
        assert services[name]["depends_on"]["database"]["condition"] == "service_healthy"
        assert "state:/state" in services[name]["volumes"]
    assert (
        services["server"]["hostname"] == "server"
    )  # the name that workers call it by; it answers to its own
    assert services["server"]["ports"] == ["${CSP_LISTEN:-127.0.0.1:4200}:4200"]
    assert "-h 127.0.0.1" in " ".join(services["database"]["healthcheck"]["test"])
    with pytest.raises(AssertionError, match="set CSP_PASSWORD"):
        service("server", {}, {})
    last_user = re.findall(r"^USER (.+)$", (ROOT / "Dockerfile").read_text(), re.M)[-1]
    assert int(last_user) > 0


@pytest.mark.parametrize("file", ["prefect.yaml", "nightly.yaml"])
def test_deployments_name_flows_and_parameters_that_there_are(file: str) -> None:
    for deployment in read(file)["deployments"]:
        path, _, function = deployment["entrypoint"].partition(":")
        flow = import_object(f"{path.removesuffix('.py').replace('/', '.')}.{function}")
        given = deployment.get("parameters")
        if given:
            jsonschema.validate(given, parameter_schema(flow.fn).model_dump())
        assert bool(deployment.get("schedules")) == (file == "nightly.yaml")


def test_what_csp_up_offers_is_deployed() -> None:
    offered = {(one.name, one.description) for one in deployments()}
    assert {(one["name"], one["description"]) for one in read("prefect.yaml")["deployments"]} == offered


def test_what_a_user_keeps_is_kept_for_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches, the choice of a library and models of one's own are in the volume."""
    for name, value in service("worker", {"CSP_PASSWORD": "a"}, {}).environment.items():
        monkeypatch.setenv(name, value)
    for place in (user_cache_path, user_config_path, user_data_path):
        assert place("csp-engine").is_relative_to("/state")


def test_the_nightly_benchmark_needs_a_library_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without known crystals they are the 35."""
    library, nowhere = tmp_path / "mp.parquet", tmp_path / "nowhere"
    library.touch()
    for given, deployed in (
        ({}, False),
        ({"CSP_LIBRARY": nowhere}, False),
        ({"CSP_LIBRARY": library}, True),
        ({"CSP_LIBRARY": library, "CSP_TARGETS": tmp_path}, True),
        ({"CSP_LIBRARY": library, "CSP_TARGETS": nowhere}, False),
    ):
        with monkeypatch.context() as environment:
            for name, path in given.items():
                environment.setenv(name, str(path))
            filled = apply_values(read("nightly.yaml"), {})
        [step] = filled["build"]
        script = shlex.split(next(iter(step.values()))["script"])
        done = subprocess.run(script, capture_output=True, text=True)
        assert (done.returncode == 0) is deployed
        assert deployed or done.stdout.startswith("Name a library by CSP_LIBRARY, ")
        settings = RecoverySettings.read(**filled["deployments"][0]["parameters"]["settings"])
        assert settings.targets == given.get("CSP_TARGETS", TARGETS35)


@contextmanager
def started(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process as in a container: other variables do not reach it, and the installation is not its own."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_read_only(), PROGRAMS / command[0], *command[1:]],
            env={"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(log.parent), **environment},
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)  # as `docker stop` does
        process.wait(PATIENCE)


def _read_only() -> list[str]:
    """What starts a command so that it finds the installation read-only; nothing where that cannot be."""
    place = str(Path(httpx.__file__).parents[1])
    mount = f'mount --bind {place} {place} && mount -o remount,ro,bind {place} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    possible = (
        shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode
    )
    return command if possible else []


@pytest.fixture
def group(postgres: Postgres, tmp_path: Path) -> tuple[Csp, dict[str, str], dict[str, str]]:
    """A home with a port, the variables of who starts the group, and what takes the place of containers."""
    here = new_csp(tmp_path / "state")
    (tmp_path / "state").mkdir()
    (tmp_path / "libraries").mkdir()
    make = read("compose.yaml")["configs"]["prefect-database"]["content"]
    with psycopg.connect(
        host="127.0.0.1", port=postgres.port, user="postgres", password=postgres.password, autocommit=True
    ) as connection:
        role = psycopg.sql.SQL("CREATE ROLE csp SUPERUSER LOGIN PASSWORD {}").format(UGLY)
        connection.execute(role)
        connection.execute("CREATE DATABASE csp")
        connection.execute(make)
    here.environment["CSP_AUTH"] = f"csp:{UGLY}"
    instead = {
        "@database/": f"@127.0.0.1:{postgres.port}/",
        "/state": str(tmp_path / "state"),
        "/libraries": str(tmp_path / "libraries"),
        "server:4200": f"127.0.0.1:{here.port}",
        "127.0.0.1:4200": f"127.0.0.1:{here.port}",
        "4200": str(here.port),
        "0.0.0.0": "127.0.0.1",
    }
    return here, {"CSP_PASSWORD": UGLY, "CSP_URL": "https://csp.example.org"}, instead


@pytest.mark.service
@pytest.mark.timeout(3600)
def test_a_group_by_the_same_commands(
    group: tuple[Csp, dict[str, str], dict[str, str]], tmp_path: Path
) -> None:
    here, given, instead = group
    extra = {"CSP_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    server, worker = (service(name, given, instead) for name in ("server", "worker"))
    log = tmp_path / "log"
    with started(server.command, {**server.environment, **extra}, log) as running:
        until(lambda: _healthy(server) or running.poll() is not None, "the server", every=3)
        until(lambda: "csp is up" in log.read_text() or running.poll() is not None, "the deployments")
        assert "csp is up: https://csp.example.org" in log.read_text(), log.read_text()
        with (
            started(worker.command, {**worker.environment, **extra}, tmp_path / "worker1"),
            started(worker.command, {**worker.environment, **extra}, tmp_path / "worker2"),
        ):
            api = Api(here)
            ids = [_submitted(here, formula) for formula in ("NaCl", "MgO")]
            until(lambda: {api.state(id_) for id_ in ids} <= {"Completed", "Failed"}, "both runs")
            assert {api.state(id_) for id_ in ids} == {"Completed"}
            assert len({api.run(id_)["infrastructure_pid"] for id_ in ids}) == 2
            page = api.artifacts(ids[0])["files"]["data"].split("(")[1].rstrip(")")
            assert "NaCl" in httpx.get(f"{here.url}{page}", auth=here.auth, timeout=60).text
            assert "space group" in here.run("results", "NaCl")
            _deployed_by_prefect_yaml(worker.environment, api, tmp_path)
        since = time.monotonic()
    assert time.monotonic() - since < 60
    assert not list((tmp_path / "state").rglob("run.sqlite"))  # it is in the database
    told = "".join(path.read_text() for path in (log, tmp_path / "worker1", here.home / "server.log"))
    assert UGLY not in told


def _healthy(server: Service) -> bool:
    """As Docker asks."""
    return not subprocess.run(
        [PROGRAMS / server.health[0], *server.health[1:]], capture_output=True
    ).returncode


def _submitted(here: Csp, formula: str) -> str:
    """From another machine: its id."""
    here.environment["PREFECT_API_URL"] = f"{here.url}/api"
    here.environment["CSP_URL"] = "https://csp.example.org"
    said = here.run("submit", formula, *SEARCH, "--max-atoms", "4", "--relaxer", "none")
    found = re.search(r"https://csp\.example\.org/runs/flow-run/(\S+)", said)
    assert found, said
    return found[1]


def _deployed_by_prefect_yaml(environment: dict[str, str], api: Api, tmp_path: Path) -> None:
    """For a server and workers that are there: from the checkout, by Prefect's own command."""

    def deploy(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [PROGRAMS / "prefect", "--no-prompt", "deploy", "--all", *words]
        variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment, **more}
        return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)

    done = deploy()
    assert done.returncode == 0, done.stdout
    assert api.get("/deployments/name/predict/predict")["entrypoint"] == "flows/predict.py:predict"
    advanced = {"screened": 4, "relaxed": 2, "rattled": 0, "max_steps": 2, "max_atoms": 4, "relaxer": "none"}
    id_ = api.submit("predict/predict", formula="ZnS", candidates=12, advanced=advanced)
    data = {"CSP_LIBRARY": str(tmp_path / "mp.parquet"), "CSP_TARGETS": str(tmp_path)}
    for known in ({}, data):  # without its data there is no schedule
        done = deploy("--prefect-file", "nightly.yaml", **known)
        assert done.returncode != 0
        assert "Name a library by CSP_LIBRARY" in done.stdout
    (tmp_path / "mp.parquet").touch()
    done = deploy("--prefect-file", "nightly.yaml", **{**data, "CSP_TARGETS": str(tmp_path / "nowhere")})
    assert done.returncode != 0
    done = deploy("--prefect-file", "nightly.yaml", CSP_LIBRARY=data["CSP_LIBRARY"])  # the 35
    assert done.returncode == 0, done.stdout
    done = deploy("--prefect-file", "nightly.yaml", **data)
    assert done.returncode == 0, done.stdout
    nightly = api.get("/deployments/name/benchmark/nightly")
    assert nightly["parameters"]["settings"]["library"] == data["CSP_LIBRARY"]
    assert nightly["parameters"]["settings"]["targets"] == data["CSP_TARGETS"]
    assert [schedule["schedule"]["cron"] for schedule in nightly["schedules"]] == ["0 1 * * *"]
    until(
        lambda: api.state(id_) in ("Completed", "Failed", "Crashed"), "the run of prefect.yaml's deployment"
    )
    assert api.state(id_) == "Completed"
