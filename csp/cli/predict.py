"""`csp predict` and `csp match`. Thin: reads options, calls, prints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import note, output
from csp.cli.options import Device, takes_settings
from csp.cli.progress import progress
from csp.cli.stopping import StoppedError, terminated_as_interrupted
from csp.settings import SearchSettings

__all__ = ["match", "predict"]


@takes_settings
def predict(
    settings: SearchSettings,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default out/FORMULA")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the out folder")] = False,
    device: Device = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print ranked.json, and nothing else, on stdout")
    ] = False,
) -> None:
    """Propose, relax and rank the crystals of a formula."""
    target = settings.target()
    folder = out or Path("out") / target.formula
    started = time.monotonic()
    try:
        with terminated_as_interrupted(), progress() as report:
            # torch and pymatgen take seconds: only once the settings are known to be good
            from csp.engine import predict as run

            prediction = run(settings, target, folder, device=device, resume=resume, progress=report)
    except KeyboardInterrupt as ending:
        done = f"Interrupted; what is done is in {folder}, and `resume` goes on with it."
        raise StoppedError(done if folder.exists() else "Interrupted.", ending) from ending
    if json:
        typer.echo((folder / "ranked.json").read_bytes(), nl=False)  # UTF-8, whatever the terminal's encoding
        return
    from csp.report.terminal import ranking_table

    output.print(ranking_table(prediction, settings.top), soft_wrap=False)
    for warning in prediction.warnings:
        note(warning, to=output)
    seconds = time.monotonic() - started
    output.print(f"{folder}/report.html, structures/ and ranked.json written after {seconds:.0f} s.")


def match(
    crystal: Annotated[Path, typer.Argument(help="CIF file of the crystal to look for")],
    run: Annotated[Path, typer.Argument(help="Out folder of a prediction")],
) -> None:
    """Is my crystal among the ranked ones, and at which rank?"""
    from csp.report.match import match as find

    output.print(str(find(crystal, run)))
