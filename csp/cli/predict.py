"""The command line. Thin: reads options, calls, prints.

Exit codes: 0, 2 wrong input, 3 something missing on the machine, 130 interrupted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.cli import app as benchmark_app
from csp.cli.labellers import app as labellers_app
from csp.cli.models import app as models_app
from csp.cli.train import app as train_app
from csp.device import keep_freed_memory
from csp.errors import CspError
from csp.settings import SearchSettings

__all__ = ["app", "main"]

app = typer.Typer(
    name="csp",
    help="Crystal structure prediction from a chemical formula alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
library_app = typer.Typer(
    help="The library of known crystals that templates come from.", no_args_is_help=True
)
app.add_typer(library_app, name="library")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(train_app, name="train")
app.add_typer(models_app, name="models")
app.add_typer(labellers_app, name="labellers")

console = Console(stderr=True)
STAGES = {
    "propose": "proposing",
    "filter": "filtering",
    "screen": "screening",
    "label": "labelling",
    "improve": "improving",
    "relax": "relaxing",
    "judge": "judging",
    "finish": "finishing",
    "rattle": "rattling the best",
    "hull": "relaxing references",
}


def main() -> None:
    """Entry point of `csp`."""
    keep_freed_memory()
    try:
        app()
    except CspError as error:
        console.print(f"[bold red]csp:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


def _option(field: str, *names: str) -> Any:
    """A typer option that takes its help from the settings."""
    info = SearchSettings.model_fields[field]
    default = ",".join(info.default) if isinstance(info.default, tuple) else info.default
    return typer.Option(*names, help=info.description, show_default=str(default) if default else False)


@app.command()
def predict(
    formula: Annotated[str, typer.Argument(help=SearchSettings.model_fields["formula"].description)],
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default out/FORMULA")] = None,
    library: Annotated[Path | None, _option("library")] = None,
    exclude_composition: Annotated[bool, _option("exclude_composition", "--exclude-composition")] = False,
    generators: Annotated[str | None, _option("generators")] = None,
    candidates: Annotated[int | None, _option("candidates")] = None,
    screened: Annotated[int | None, _option("screened")] = None,
    relaxed: Annotated[int | None, _option("relaxed")] = None,
    finished: Annotated[int | None, _option("finished")] = None,
    top: Annotated[int | None, _option("top")] = None,
    order: Annotated[str | None, _option("order")] = None,
    surrogate: Annotated[str | None, _option("surrogate")] = None,
    labeller: Annotated[str | None, _option("labeller")] = None,
    labels: Annotated[int | None, _option("labels")] = None,
    rounds: Annotated[int | None, _option("rounds")] = None,
    relaxer: Annotated[str | None, _option("relaxer")] = None,
    pressure: Annotated[float | None, _option("pressure")] = None,
    max_atoms: Annotated[int | None, _option("max_atoms")] = None,
    max_steps: Annotated[int | None, _option("max_steps")] = None,
    max_force: Annotated[float | None, _option("max_force")] = None,
    rattled: Annotated[int | None, _option("rattled")] = None,
    z: Annotated[int | None, _option("z", "--z")] = None,
    space_groups: Annotated[str | None, _option("space_groups")] = None,
    exclude_space_groups: Annotated[str | None, _option("exclude_space_groups")] = None,
    crystal_systems: Annotated[str | None, _option("crystal_systems")] = None,
    cell: Annotated[Path | None, _option("cell")] = None,
    hull: Annotated[bool, _option("hull", "--hull")] = False,
    symprec: Annotated[float | None, _option("symprec")] = None,
    seed: Annotated[int | None, _option("seed")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print ranked.json, and nothing else, on stdout")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the out folder")] = False,
) -> None:
    """Propose, relax and rank the crystals of a formula."""
    given = {
        name: value
        for name, value in locals().items()
        if name in SearchSettings.model_fields and value is not None
    }
    settings = SearchSettings.read(**given)
    folder = out or Path("out") / settings.target().formula

    started = time.monotonic()
    try:
        with _progress(quiet=json) as progress:
            # torch and pymatgen take seconds: only once the settings are known to be good
            from csp.engine import predict as run

            prediction = run(settings, folder, device=device, resume=resume, progress=progress)
    except KeyboardInterrupt as interruption:
        console.print(f"Interrupted; what is done is in {folder}, and --resume goes on with it.")
        raise typer.Exit(130) from interruption
    if json:
        print((folder / "ranked.json").read_text(), end="")
        return
    from csp.report.files import ranking_table

    output = Console()
    output.print(ranking_table(prediction, settings.top))
    for warning in prediction.warnings:
        output.print(f"[yellow]note:[/] {warning}", highlight=False, soft_wrap=True)
    seconds = time.monotonic() - started
    output.print(
        f"{folder}/report.html, structures/ and ranked.json written after {seconds:.0f} s.", highlight=False
    )


@app.command()
def match(
    crystal: Annotated[Path, typer.Argument(help="CIF file of the crystal to look for")],
    run: Annotated[Path, typer.Argument(help="Out folder of a prediction")],
) -> None:
    """Is my crystal among the ranked ones, and at which rank?"""
    from csp.report.match import match as find

    print(find(crystal, run))


@library_app.command("import")
def library_import(
    source: Annotated[Path, typer.Argument(help="Folder of CIFs, extxyz, ASE database or Parquet")],
    out: Annotated[Path, typer.Argument(help="Library file to write (Parquet)")],
    source_name: Annotated[str, typer.Option("--source", help="Where the crystals are from")],
    licence: Annotated[str, typer.Option("--licence", help="Under which licence")],
) -> None:
    """Make a library file of crystals of your own."""
    from csp.library.importing import import_structures

    with _progress(quiet=False) as progress:
        report = import_structures(
            source,
            out,
            source_name=source_name,
            licence=licence,
            progress=lambda done, total: progress("import", done, total),
        )
    print(report)


@library_app.command("info")
def library_info(
    library: Annotated[
        Path | None, typer.Argument(help="Library file; none: the embedded prototypes")
    ] = None,
) -> None:
    """What is in a library."""
    from csp.library.library import Library

    print(Library.open(library).info())


class _Stages:
    """One progress bar a stage: what is done, how many, the time left."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(STAGES.get(stage, stage), total=total)
        self.bars.update(self.tasks[stage], completed=done, total=total)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[_Stages]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet) as bars:
        yield _Stages(bars)


if __name__ == "__main__":
    main()
