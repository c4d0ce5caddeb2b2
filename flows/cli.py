"""The commands that work through Prefect: `csp up`, `submit`, `status`, `results`, `benchmark flows`.

Prefect takes seconds to import and reads its settings then: each command imports it when its own
environment is set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, note, output
from csp.cli.options import Device, Limit, Out, Seed, takes_settings
from csp.settings import SearchSettings
from csp.target import Target
from flows.home import reach, runs

__all__ = ["measure", "results", "status", "submit", "up"]


def up(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65534, help="Of the server; files are at the next")] = 4200,
    at_once: Annotated[
        int, typer.Option(min=1, help="Runs at the same time; on a GPU their stages take turns")
    ] = 1,
) -> None:
    """Start the server and work on what is submitted, until Ctrl-C."""
    from flows.up import up as serve
    from flows.up import warning

    if words := warning(host):
        note(words)
    console.print("Starting; the very first time takes a minute or two.")
    serve(host, port, at_once, lambda url: output.print(f"csp is up: {url}  (Ctrl-C stops it)"))


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
) -> None:
    """Have a formula predicted by `csp up`, or by a server's workers."""
    target = settings.target()  # what is wrong is said before anything is submitted
    if target.formula_note:
        note(target.formula_note)
    reach()
    from flows.client import follow
    from flows.client import submit as ask

    submitted = ask(settings, device=device, runner=runner, folder=folder)
    output.print(f"{submitted.name} is submitted: {submitted.url}")
    if wait:
        follow(submitted, output)


def status(
    last: Annotated[int, typer.Option(min=1, max=200, help="How many runs")] = 20,
) -> None:
    """What runs, waits and has been done."""
    url = reach()
    from flows.client import overview

    output.print(f"server: {url}")
    output.print(overview(last))


def results(
    formula: Annotated[str, typer.Argument(help="Formula, or the out folder of a run")],
    to: Annotated[
        Path | None, typer.Option("--export", help="File to write: .extxyz, .db (ASE) or .csv")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to print")] = 10,
) -> None:
    """The last finished prediction of a formula, and its files."""
    from csp.report.results import RankedRun, export, latest

    folder = Path(formula)
    run = (
        RankedRun.read(folder)
        if folder.is_dir()
        else latest(runs(), Target.parse(formula, max_atoms=400).formula)
    )
    for row in run.ranked["results"][:top]:
        above = 1000 * row["above_lowest_ev_per_atom"]
        output.print(
            f"{row['rank']:3d}  {above:8.1f} meV/atom  {row['spacegroup']:<10} {row['n_atoms']:3d} atoms  "
            f"{row['template_id'] or row['generator']}"
        )
    output.print(f"{run.folder}/report.html")
    if to:
        export(run, to)
        output.print(f"{to} is written.")


def measure(out: Out, limit: Limit = None, seed: Seed = 0, device: Device = "auto") -> None:
    """What Prefect costs: starts, submission, a flow around a search, empty tasks, many formulas at once."""
    from flows.measure import measure as measured

    measured(out, limit or 200, seed, device, lambda name, value: output.print(f"{name:<28} {value:>10,}"))
    output.print(f"{out}/summary.json is written.")
