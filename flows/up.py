"""`csp up`: a Prefect server, its deployments served, in one process tree that ends together."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from csp.errors import CspError
from flows.files import served
from flows.home import AUTH, FILES_URL, Up, home, prepare, runs
from flows.server import LOOPBACK, local_url, running, shown_url

if TYPE_CHECKING:
    from prefect.automations import Automation
    from prefect.deployments.runner import RunnerDeployment
    from prefect.runner import Runner

__all__ = ["AlreadyUpError", "deployments", "install_automations", "up", "warning"]

TAG = "csp"
POLL = 2.0  # seconds between looks for new runs
HEARTBEAT = 30  # seconds; the least that Prefect allows
SILENCE = 10 * HEARTBEAT  # without one for so long a run is taken for dead; a machine may be very busy
GONE = "The process of this run is gone."
GIVES_WAY = 5  # niceness of the runs: the server that they report to comes first
START = 600  # seconds that a process may take from being made to its flow's first heartbeat


class AlreadyUpError(CspError):
    """Another `csp up` runs in this home; that is no failure."""

    exit_code = 0


def up(host: str, port: int, at_once: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `ready` is called with the address when runs can be submitted.

    Args:
        at_once: Runs at the same time.

    Raises:
        AlreadyUpError: One runs in this home; its address.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a script starts with & has it ignored
    with _alone():
        url = local_url(host, port)
        prepare(url)
        os.environ.setdefault("PREFECT_UI_API_URL", f"{shown_url(host, port)}/api")
        with running(host, port, home() / "server.log") as wait, served(runs(), host, port + 1):
            os.environ[FILES_URL] = shown_url(host, port + 1)
            os.environ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = str(HEARTBEAT)
            os.nice(GIVES_WAY)  # the server is started, the runs will be
            offered = deployments()  # while the server starts
            wait()
            install_automations()
            _take_up(url)
            runner = _offering(offered, at_once)
            Up(url, os.environ[FILES_URL], os.getpid()).write()
            try:
                ready(shown_url(host, port))
                with suppress(KeyboardInterrupt):
                    asyncio.run(runner.start())
            finally:
                Up.forget()


def _take_up(url: str) -> None:
    """What was at work when this server ended the last time goes on at once."""
    from flows.crashes import take_up

    if os.environ["PREFECT_API_URL"] == f"{url}/api":  # else others may be at work for that server
        take_up(TAG)


def deployments() -> list[RunnerDeployment]:
    """What people can submit. Flows are named by module, so a run finds them wherever it is started."""
    from prefect.types.entrypoint import EntrypointType

    from flows.benchmark import benchmark
    from flows.many import predict_many
    from flows.predict import predict
    from flows.train import train_surrogate

    said: list[tuple[Any, str]] = [
        (predict, "The stable crystals of a chemical formula"),
        (predict_many, "A prediction for each formula of a list or a CSV file"),
        (benchmark, "How many known crystals are found from the formula alone"),
        (train_surrogate, "The fast energy model, trained on your data or on more of it"),
    ]
    return [
        flow.to_deployment(
            flow.name, description=words, tags=[TAG], entrypoint_type=EntrypointType.MODULE_PATH
        )
        for flow, words in said
    ]


def install_automations() -> None:
    """Runs that fell silent, process and worker gone, are marked as crashed, and those scheduled again.

    They go on from what is stored; a run that keeps crashing ends itself, and what a worker sees crash it
    schedules itself (`flows.crashes`). Only runs with our tag are meant: others may use the server too.
    """
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    from flows.crashes import GOES_ON

    def events(*names: str) -> set[str]:
        return {f"prefect.flow-run.{name}" for name in names}

    over = ("Completed", "Failed", "Cancelled", "Cancelling", "Crashed", "AwaitingRetry")
    run = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
    gone = ResourceSpecification({**run.root, "prefect.state-message": GONE})
    ours = ResourceSpecification(
        {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
    )

    def silence(after: str, *expected: str, seconds: float) -> EventTrigger:
        return EventTrigger(
            match=run,
            match_related=ours,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            after=events(after),
            expect=events(*expected, *over),
            threshold=1,
            within=timedelta(seconds=seconds),
        )

    crashed = EventTrigger(
        match=gone,
        match_related=ours,
        posture=Posture.Reactive,
        expect=events("Crashed"),
        threshold=1,
        within=timedelta(0),
    )
    crash = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=GONE, force=False)
    again = ChangeFlowRunState(
        state=StateType.SCHEDULED,
        name="AwaitingRetry",
        message=GOES_ON,
        force=False,
    )
    for name, trigger, action in (
        ("csp: dead runs", silence("heartbeat", "heartbeat", seconds=SILENCE), crash),
        ("csp: runs that never start", silence("Pending", "Running", seconds=START), crash),
        ("csp: crashed runs go on", crashed, again),
    ):
        automation = Automation(name=name, trigger=trigger, actions=[action])
        try:
            there = cast(Automation, Automation.read(name=name))
        except ValueError:  # there is none of that name
            automation.create()
            continue
        if _meaning(there) != _meaning(automation):  # an update forgets the runs that are waited for
            automation.id = there.id
            automation.update()


def _meaning(automation: Automation) -> dict[str, Any]:
    """An automation but for the ids that each one made gets."""
    return automation.model_dump(exclude={"id": True, "trigger": {"id"}})


def _offering(deployments: list[RunnerDeployment], at_once: int) -> Runner:
    """What will run them. From here on they can be submitted."""
    from prefect.runner import Runner

    runner = Runner(pause_on_shutdown=False, limit=at_once, query_seconds=POLL)
    for deployment in deployments:
        runner.add_deployment(deployment)
    return runner


@contextmanager
def _alone() -> Iterator[None]:
    """One `csp up` a home, even after a kill: the lock goes with the process."""
    runs().mkdir(parents=True, exist_ok=True)
    with (home() / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            there = Up.read()
            raise AlreadyUpError(
                f"up already, at {there.url}." if there else "being started already."
            ) from None
        yield


def warning(host: str) -> str:
    """What a person should know who lets others in; "" where there is nothing to say."""
    if host in LOOPBACK or os.environ.get(AUTH):
        return ""
    return f"Whoever reaches this machine can start runs; {AUTH}=name:password makes the server ask for it."
