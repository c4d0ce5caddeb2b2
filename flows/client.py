"""What the command line asks of a Prefect server. Import it when the environment is set (`flows.home`)."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from rich.console import Console
from rich.table import Table

from csp.errors import CspError, InputError, MissingError
from csp.report.terminal import plain_table
from csp.settings import SearchSettings
from csp.target import Target
from flows.ask import DEPLOYMENT, ask, name_of, name_of_many, page
from flows.form import FIRST
from flows.home import AUTH
from flows.roots import with_paths

__all__ = ["Submitted", "cancel", "follow", "overview", "submit"]

POLL = 2.0  # seconds
SHORT, LEAST = 8, 4  # characters of an id that are shown, and that name a run
LONGEST = 32  # characters of a run's name
PAGE = 200  # runs that Prefect gives at once
UNFINISHED = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED)
TAKEN_UP = 180.0  # seconds in which a crashed run is scheduled again


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
    found = with_paths(settings, lambda path: path.expanduser().absolute())  # the worker is elsewhere
    values = found.model_dump(mode="json")
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
    """The last runs: what, state, since when, how long, progress."""
    table = plain_table()
    for name in ("id", "run", "state", "started", "took"):
        table.add_column(name, no_wrap=True, max_width=LONGEST, justify="right" if name == "took" else "left")
    table.add_column("progress")
    with _answers(), get_client(sync_client=True) as client:
        for run in client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=last):
            state, started = run.state, run.start_time
            cells = (
                str(run.id)[:SHORT],
                _name(run),
                (state.name or "") if state else "",
                started.astimezone().strftime("%m-%d %H:%M") if started else "",
                _took(run),
                _progress(client, run) or (state.message or "" if state and state.is_failed() else ""),
            )
            table.add_row(*map(_printable, cells))
    return table


def cancel(named: Sequence[str]) -> list[str]:
    """Cancel what waits or works; a run of many formulas with all that it has made.

    Args:
        named: Each the beginning of an id, a formula, or the name of a run.

    Returns:
        A line for each run.

    Raises:
        MissingError: Nothing that waits or works is called so; then nothing is cancelled.
    """
    with _answers(), get_client(sync_client=True) as client:
        runs = list(_unfinished(client))
        chosen: dict[UUID, FlowRun] = {}
        for name in named:
            found = [run for run in runs if _is_called(run, name)]
            made = {f"many-{str(run.id)[:SHORT]}" for run in found}
            found += [run for run in runs if made.intersection(run.tags)]
            if not found:
                raise MissingError(f"No run that waits or works is called {name}; `csp status` lists them.")
            chosen |= {run.id: run for run in found}
        for run in chosen.values():
            client.set_flow_run_state(run.id, State(type=StateType.CANCELLING))
    return [f"{str(run.id)[:SHORT]}  {_name(run)} is cancelled" for run in chosen.values()]


def _unfinished(client: SyncPrefectClient) -> Iterator[FlowRun]:
    states = FlowRunFilterStateType(any_=list(UNFINISHED))
    wanted = FlowRunFilter(state=FlowRunFilterState(type=states))
    for start in itertools.count(0, PAGE):
        some = client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=start)
        yield from some
        if len(some) < PAGE:
            return


def _is_called(run: FlowRun, name: str) -> bool:
    formula = run.parameters.get("formula")
    return (
        name in (run.name, _name(run), formula)
        or (len(name) >= LEAST and str(run.id).startswith(name))
        or (formula is not None and _reduced(name) == _reduced(formula))
    )


def _reduced(formula: str) -> str:
    """As the engine writes it, where it is one."""
    try:
        return Target.parse(formula, max_atoms=10_000).formula
    except InputError:
        return formula


def _printable(text: str) -> str:
    """What others wrote, without what moves a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)


def _name(run: FlowRun) -> str:
    """What it is for; Prefect gives a name at random to what was submitted by a form, until it begins."""
    if "formula" in run.parameters:
        return name_of(run.parameters["formula"])
    if "formulas" in run.parameters or "table" in run.parameters:
        return name_of_many(run.parameters)
    return run.name


def _took(run: FlowRun) -> str:
    """Hours, minutes and seconds since it began, to its end."""
    if run.start_time is None:
        return ""
    seconds = int(((run.end_time or datetime.now(UTC)) - run.start_time).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


@contextmanager
def _answers() -> Iterator[None]:
    """What a server says or does not say, in one sentence."""
    try:
        yield
    except ObjectNotFound as error:
        raise MissingError(f"The server has no deployment {DEPLOYMENT}; `csp up` serves it.") from error
    except PrefectHTTPStatusError as error:
        if error.response.status_code == 401:
            if os.environ.get("PREFECT_API_AUTH_STRING"):
                raise InputError(
                    f"The server refuses this password; {AUTH} is to hold its name:password."
                ) from error
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
