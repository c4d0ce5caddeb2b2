"""The commands that work through Prefect: `csp up`, `submit`, `status`, `results`, `benchmark flows`.

Prefect takes seconds to import and reads its settings then: each command imports it when its own
environment is set.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.cli import Device, Limit, Out, Seed
from benchmarks.cli import app as benchmark_app
from csp.cli.predict import predict as predict_command
from csp.cli.progress import console
from csp.report.results import RankedRun, export, latest
from csp.settings import SearchSettings
from csp.target import Target
from flows.home import reach, runs

__all__ = ["app"]

output = Console(highlight=False, soft_wrap=True)


app = typer.Typer()


@app.command()
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
        console.print(f"[yellow]note:[/] {words}")
    console.print("Starting; the very first time takes a minute or two.")
    serve(host, port, at_once, lambda url: output.print(f"csp is up: {url}  (Ctrl-C stops it)"))


def submit(wait: bool, folder: Path | None, runner: str, device: str, **given: Any) -> None:
    """Have a formula predicted by `csp up`, or by the workers of the server at PREFECT_API_URL."""
    settings = SearchSettings.read(**{name: value for name, value in given.items() if value is not None})
    settings.target()  # what is wrong is said before anything is submitted
    reach()
    from flows.client import follow
    from flows.client import submit as ask

    submitted = ask(settings, device=device, runner=runner, folder=folder)
    output.print(f"{submitted.name} is submitted: {submitted.url}")
    if wait:
        follow(submitted, output)


def _submit_options() -> list[inspect.Parameter]:
    """Those of `csp predict` that decide the result, and what is to happen."""
    options = inspect.signature(predict_command, eval_str=True).parameters.values()
    return [
        *(p for p in options if p.name in SearchSettings.model_fields or p.name == "device"),
        _option("folder", Path | None, None, "Where the worker writes; default: a folder of the run's own"),
        _option("runner", str, "here", "here, dask (a local cluster) or a scheduler, tcp://host:8786"),
        _option("wait", bool, False, "Stay until it is done", "--wait"),
    ]


def _option(name: str, kind: Any, default: Any, words: str, *names: str) -> inspect.Parameter:
    annotation = Annotated[kind, typer.Option(*names, help=words)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


submit.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in _submit_options()]
)
submit.__annotations__ = {p.name: p.annotation for p in _submit_options()}
app.command()(submit)


@app.command()
def status(
    last: Annotated[int, typer.Option(min=1, max=200, help="How many runs")] = 20,
) -> None:
    """What runs, waits and has been done."""
    url = reach()
    from flows.client import overview

    output.print(f"server: {url}")
    output.print(overview(last))


@app.command()
def results(
    formula: Annotated[str, typer.Argument(help="Formula, or the out folder of a run")],
    to: Annotated[
        Path | None, typer.Option("--export", help="File to write: .extxyz, .db (ASE) or .csv")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to print")] = 10,
) -> None:
    """The last finished prediction of a formula, and its files."""
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


@benchmark_app.command("flows")
def measure(out: Out, limit: Limit = None, seed: Seed = 0, device: Device = "auto") -> None:
    """What Prefect costs: starts, submission, a flow around a search, empty tasks, many formulas at once."""
    from flows.measure import measure as measured

    measured(out, limit or 200, seed, device, lambda name, value: output.print(f"{name:<28} {value:>10,}"))
    output.print(f"{out}/summary.json is written.")
