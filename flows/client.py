"""What the command line asks of a Prefect server. Import it when the environment is set (`flows.home`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from rich.console import Console
from rich.table import Table

from csp.errors import CspError, InputError, MissingError
from csp.report.terminal import plain_table
from csp.settings import SearchSettings
from flows.ask import DEPLOYMENT, ask, page
from flows.form import FIRST, plain_library
from flows.home import AUTH

__all__ = ["Submitted", "follow", "overview", "submit"]

POLL = 2.0  # seconds
TAKEN_UP = 60.0  # seconds in which a crashed run is scheduled again


@dataclass(frozen=True, slots=True)
class Submitted:
    """A run that was made: its id, its name for people, its page."""

    id: UUID
    name: str
    url: str


def submit(settings: SearchSettings, *, device: str, runner: str, folder: Path | None) -> Submitted:
    """Make a run.

    Raises:
        MissingError: The server does not answer or serves no predictions.
    """
    values = settings.model_dump(mode="json")
    values["library"] = plain_library(settings.library)
    parameters = {name: values.pop(name) for name in FIRST} | {
        "advanced": values,
        "device": device,
        "runner": runner,
        "folder": str(folder.absolute()) if folder else None,
    }
    with _answers():
        run = ask(parameters)
    return Submitted(run.id, run.name, page(run))


def follow(submitted: Submitted, console: Console) -> None:
    """Say how the run goes until it ends.

    Raises:
        CspError: It ends badly; the reason.
    """
    said, crashed = "", 0
    with _answers(), get_client(sync_client=True) as client:
        while True:
            run = client.read_flow_run(submitted.id)
            state = run.state
            assert state is not None
            words = _progress(client, run) or state.name or state.type.value
            if words != said:
                console.print(words)
                said = words
            crashed = crashed + 1 if state.is_crashed() else 0
            if state.is_final() and (not crashed or crashed * POLL > TAKEN_UP):
                break
            time.sleep(POLL)
    if not state.is_completed():
        raise CspError(f"{submitted.name} ended as {state.name}: {state.message or 'no reason given'}")


def overview(last: int) -> Table:
    """The last runs: state, since when, progress."""
    table = plain_table("run", "state", "since", "for", "progress")
    with _answers(), get_client(sync_client=True) as client:
        for run in client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=last):
            state = run.state
            started = run.start_time
            seconds = (run.end_time or datetime.now(UTC)) - started if started else None
            table.add_row(
                run.name,
                state.name if state else "",
                started.astimezone().strftime("%Y-%m-%d %H:%M") if started else "",
                str(seconds).split(".")[0] if seconds else "",
                _progress(client, run) or (state.message or "" if state and state.is_failed() else ""),
            )
    return table


@contextmanager
def _answers() -> Iterator[None]:
    """What a server says or does not say, in one sentence."""
    try:
        yield
    except ObjectNotFound as error:
        raise MissingError(f"The server has no deployment {DEPLOYMENT}; `csp up` serves it.") from error
    except PrefectHTTPStatusError as error:
        if error.response.status_code == 401:
            raise InputError(f"The server asks for a password; set {AUTH}=name:password.") from error
        raise CspError(f"The server refuses: {error.response.text.strip()[:300]}") from error
    except (httpx.HTTPError, RuntimeError) as error:  # Prefect wraps some of the former in the latter
        reason = str(error).splitlines()[0]
        raise MissingError(f"The server does not answer ({reason}); `csp up` starts one.") from error


def _progress(client: SyncPrefectClient, run: FlowRun) -> str:
    """The text of a run's progress artifact, "" if it has none."""
    if run.state is None or not (run.state.is_running() or run.state.is_completed()):
        return ""
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    )
    texts = [a for a in artifacts if a.type == "progress"]
    return (
        max(texts, key=lambda a: a.updated or datetime.min.replace(tzinfo=UTC)).description or ""
        if texts
        else ""
    )
