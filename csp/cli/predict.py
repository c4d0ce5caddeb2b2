"""`csp predict` and `csp match`. Thin: reads options, calls, prints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from csp.cli.progress import console, progress_bars
from csp.settings import SearchSettings

__all__ = ["app"]

app = typer.Typer()


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
    offline: Annotated[bool, _option("offline", "--offline")] = False,
    exclude_composition: Annotated[bool, _option("exclude_composition", "--exclude-composition")] = False,
    generators: Annotated[str | None, _option("generators")] = None,
    candidates: Annotated[int | None, _option("candidates")] = None,
    screened: Annotated[int | None, _option("screened")] = None,
    relaxed: Annotated[int | None, _option("relaxed")] = None,
    refined: Annotated[int | None, _option("refined")] = None,
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
    target = settings.target()
    folder = out or Path("out") / target.formula

    started = time.monotonic()
    try:
        with progress_bars(quiet=json) as progress:
            # torch and pymatgen take seconds: only once the settings are known to be good
            from csp.engine import predict as run

            prediction = run(settings, target, folder, device=device, resume=resume, progress=progress)
    except KeyboardInterrupt as interruption:
        console.print(f"Interrupted; what is done is in {folder}, and --resume goes on with it.")
        raise typer.Exit(130) from interruption
    if json:
        print((folder / "ranked.json").read_text(), end="")
        return
    from csp.report.terminal import ranking_table

    output = Console()
    output.print(ranking_table(prediction, settings.top))
    if prediction.known_before:
        output.print(prediction.known_before, highlight=False, soft_wrap=True)
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
