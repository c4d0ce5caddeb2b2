"""`csp up`: a Prefect server, its deployments served, in one process tree that ends together."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from csp.cli.stopping import terminated_as_interrupted
from csp.errors import CspError
from flows.addresses import LOOPBACK, local_url, public_url, shown_url
from flows.home import FILES_URL, Up, home, made_home, opening, password, prepare, token
from flows.roots import ROOTS, usual_roots
from flows.server import FILES, Server, running

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

__all__ = ["AlreadyUpError", "deployments", "up", "warning"]

TAG = "csp"
POLL = 2.0  # seconds between looks for new runs
LOOK = 20.0  # seconds between looks for runs that nobody works on
HEARTBEAT = 30  # seconds; the least that Prefect allows
SILENCE = 10 * HEARTBEAT  # without one a run is taken for dead; a machine may be very busy
GIVES_WAY = 5  # niceness of the runs: the server that they report to comes first


class AlreadyUpError(CspError):
    """Another `csp up` runs in this home; that is no failure."""

    exit_code = 0


def up(host: str, port: int, at_once: int, pool: str | None, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `ready` is called with the address when runs can be submitted.

    Args:
        at_once: Runs at the same time.
        pool: Work pool whose workers do the runs; None: this process has them done.

    Raises:
        AlreadyUpError: One runs in this home; its address.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a script starts with & has it ignored
    with _alone():
        url = _set_environment(host, port)
        with running(host, port, home() / "server.log") as server, terminated_as_interrupted():
            os.nice(GIVES_WAY)  # the server is started, the runs will be
            offered = deployments()  # while the server starts
            server.wait()
            from flows.crashes import take_up

            take_up(TAG)  # what was at work when this server ended the last time goes on at once
            threading.Thread(target=_look_after_runs, daemon=True).start()
            work = _by_workers(offered, pool, server) if pool else _here(offered, at_once)
            Up(url, os.getpid()).write()
            try:
                ready(shown_url(host, port))
                with suppress(KeyboardInterrupt):
                    work()
            finally:
                Up.forget()


def _set_environment(host: str, port: int) -> str:
    """Of this process, the server and the runs; returns the address of the server for this machine.

    What is set already stays, but for what would lead to another server.
    """
    url, shown = local_url(host, port), shown_url(host, port)
    asked = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or password() or token(make=True)
    assert asked
    os.environ |= {
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_API_AUTH_STRING": asked,
        "PREFECT_SERVER_API_AUTH_STRING": asked,
        "PREFECT_UI_URL": shown,
    }
    prepare(url, asked)
    for name, value in {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": shown,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_UI_API_URL": "/api",  # of the address that a browser has opened
        "PREFECT_UI_STATIC_DIRECTORY": str(home() / "ui"),  # Prefect's own may be another user's
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        FILES_URL: FILES,
        ROOTS: usual_roots(),
    }.items():
        os.environ.setdefault(name, value)
    return url


def deployments() -> list[RunnerDeployment]:
    """What people can submit. Flows are named by module, so a run finds them wherever it is started."""
    from prefect.types.entrypoint import EntrypointType

    from flows.benchmark import benchmark
    from flows.explore import explore
    from flows.many import predict_many
    from flows.predict import predict
    from flows.train import train_surrogate

    said: list[tuple[Any, str]] = [
        (predict, "The stable crystals of a chemical formula"),
        (predict_many, "A prediction for each formula of a list or a CSV file"),
        (explore, "The stable phases of a whole chemical system, from its elements"),
        (benchmark, "How many known crystals are found from the formula alone"),
        (train_surrogate, "The fast energy model, trained on your data or on more of it"),
    ]
    return [
        flow.to_deployment(
            flow.name, description=words, tags=[TAG], entrypoint_type=EntrypointType.MODULE_PATH
        )
        for flow, words in said
    ]


def _look_after_runs() -> None:
    """As long as this process lives: what nobody works on any more goes on."""
    import httpx
    from prefect.exceptions import PrefectException

    from flows.crashes import go_on_all, mark_silent

    began = time.monotonic()
    while True:
        time.sleep(LOOK)
        with suppress(httpx.HTTPError, PrefectException, RuntimeError):  # it is away, or a run is deleted
            if time.monotonic() - began > SILENCE:  # while there was no server, nobody could be heard
                mark_silent(TAG, SILENCE)
            go_on_all(TAG)


def _here(deployments: list[RunnerDeployment], at_once: int) -> Callable[[], None]:
    """What works on runs. From here on they can be submitted."""
    from prefect.runner import Runner

    runner = Runner(pause_on_shutdown=False, limit=at_once, query_seconds=POLL)
    for deployment in deployments:
        runner.add_deployment(deployment)
    runner.handle_sigterm = _as_interrupted  # type: ignore[method-assign]  # its own never ends
    return lambda: asyncio.run(runner.start())


def _as_interrupted(*_: object) -> None:
    """SIGTERM is Ctrl-C, which asyncio ends its work in order for."""
    os.kill(os.getpid(), signal.SIGINT)


def _by_workers(deployments: list[RunnerDeployment], pool: str, server: Server) -> Callable[[], None]:
    """What waits while the workers of a pool work on runs. From here on they can be submitted."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    kind = WorkPoolCreate(
        name=pool, type=ProcessWorker.type, base_job_template=ProcessWorker.get_default_base_job_template()
    )
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(kind)
    for deployment in deployments:  # whatever the environment of the workers
        deployment.job_variables = {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)}}
        deployment.apply(work_pool_name=pool)

    def watch() -> None:
        while True:
            server.check()
            time.sleep(POLL)

    return watch


@contextmanager
def _alone() -> Iterator[None]:
    """One `csp up` a home, even after a kill: the lock goes with the process."""
    with (made_home() / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            there = Up.read()
            raise AlreadyUpError(
                f"up already, at {opening(there.url, sys.stderr.isatty())}"
                if there
                else "being started already."
            ) from None
        yield


def warning(host: str) -> str:
    """What a person should know who lets others in; "" where there is nothing to say."""
    if host in LOOPBACK or public_url().startswith("https:"):
        return ""
    return (
        "What is sent to this server and its password can be read in the network; "
        "put a proxy with TLS before it where others share that."
    )
