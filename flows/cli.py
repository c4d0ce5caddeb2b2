"""The commands that work through Prefect: `csp up`, `submit`, `status`, `results`, `benchmark flows`.

Prefect takes seconds to import and reads its settings then: each command imports it when its own
environment is set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, note, output
from csp.cli.options import Device, Limit, Out, Pressures, Seed, takes_settings
from csp.settings import SearchSettings
from csp.target import Target
from flows.home import PUBLIC_URL, opening, reach, runs

__all__ = ["cancel", "measure", "results", "status", "submit", "up"]

IN_A_FILE = 250  # columns: a line for each run


def up(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the server")] = 4200,
    at_once: Annotated[
        int, typer.Option(min=1, help="Runs at the same time; on a GPU their stages take turns")
    ] = 1,
    public_url: Annotated[
        str | None,
        typer.Option(
            envvar=PUBLIC_URL, help="Address for people, where a proxy or a name of the network leads here"
        ),
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="Leave the runs to the workers of this work pool of Prefect")
    ] = None,
) -> None:
    """Start the server and work on what is submitted, until Ctrl-C."""
    if public_url:
        os.environ[PUBLIC_URL] = public_url  # the server's process and the runs read it too
    from flows.up import up as serve
    from flows.up import warning

    if words := warning(host):
        note(words)
    console.print("Starting; the very first time takes a minute or two.")

    def ready(url: str) -> None:
        output.print(f"csp is up: {opening(url, output.is_terminal)}  (Ctrl-C stops it)")

    serve(host, port, at_once, pool, ready)


@takes_settings
def submit(
    settings: SearchSettings,
    device: Device = "auto",
    folder: Annotated[
        Path | None, typer.Option(help="Where the worker writes; default: a folder of the run's own")
    ] = None,
    runner: Annotated[
        str, typer.Option(help="here, dask (a local cluster) or a scheduler, tcp://host:8786")
    ] = "here",
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is done")] = False,
    pressure: Pressures = "0",
) -> None:
    """Have a formula predicted by `csp up`, or by a server's workers."""
    at = settings.at(pressure)
    target = at[0].target()  # what is wrong is said before anything is submitted
    if target.formula_note:
        note(target.formula_note)
    reach()
    from flows.client import follow
    from flows.client import submit as ask

    submitted = ask(*at, device=device, runner=runner, folder=folder)
    output.print(f"{submitted.name} is submitted: {submitted.url}")
    if wait:
        follow(submitted, output)


def status(
    last: Annotated[int, typer.Option(min=1, max=200, help="How many runs")] = 20,
) -> None:
    """What runs, waits and has been done."""
    url = reach()
    from flows.client import overview

    output.print(f"server: {opening(url, output.is_terminal)}")
    if not output.is_terminal:
        output.width = IN_A_FILE
    output.print(overview(last), soft_wrap=False)


def cancel(
    named: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Formula, name of a run, or how its id begins")
    ],
) -> None:
    """Cancel runs that wait or work."""
    reach()
    from flows.client import cancel as stop

    for line in stop(named):
        output.print(line)


def results(
    formula: Annotated[str, typer.Argument(help="Formula, or the out folder of a run")],
    to: Annotated[
        Path | None, typer.Option("--export", help="File to write: .extxyz, .db (ASE) or .csv")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to print")] = 10,
) -> None:
    """The last finished prediction of a formula, by `csp up` or into the folder out, and its files."""
    from csp.report.results import RankedRun, export, latest
    from csp.report.terminal import for_terminal

    folder = Path(formula)
    if folder.is_dir():
        run = RankedRun.read(folder)
    else:
        run = latest(Target.parse(formula, max_atoms=400).formula, runs(), Path("out"))
    output.print(for_terminal(run.table(top)), soft_wrap=False)
    output.print(f"{run.folder}/report.html")
    if to:
        export(run, to)
        output.print(f"{to} is written.")


def measure(out: Out, limit: Limit = None, seed: Seed = 0, device: Device = "auto") -> None:
    """What Prefect costs: starts, submission, a flow around a search, empty tasks, many formulas at once."""
    from flows.measure import measure as measured

    measured(out, limit or 200, seed, device, lambda name, value: output.print(f"{name:<28} {value:>10,}"))
    output.print(f"{out}/summary.json is written.")
