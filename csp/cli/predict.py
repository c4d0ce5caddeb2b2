"""`csp predict` and `csp match`. Thin: reads options, calls, prints."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from csp.cli.console import note, output
from csp.cli.options import Device, Pressures, takes_settings
from csp.cli.progress import hear_since, progress
from csp.cli.stopping import StoppedError, terminated_as_interrupted
from csp.errors import CspError, of_system
from csp.settings import SearchSettings

if TYPE_CHECKING:
    from csp.search.prediction import Prediction

__all__ = ["match", "predict"]

NOT_RANKED = 4  # exit code


@takes_settings
def predict(
    settings: SearchSettings,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default out/FORMULA")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the out folder")] = False,
    device: Device = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print ranked.json, and nothing else, on stdout")
    ] = False,
    pressure: Pressures = "0",
) -> None:
    """Propose, relax and rank the crystals of a formula."""
    settings, *more = settings.at(pressure)
    if more:
        _at_several([settings, *more], out, resume=resume, device=device, json=json)
        return
    target = settings.target()
    folder = out or Path("out") / target.name
    started = time.monotonic()
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        note(sentence)

    if target.formula_note:
        say(target.formula_note)
    try:
        with terminated_as_interrupted(), progress(settings) as report:
            # torch and pymatgen take seconds: only once the settings are known to be good
            from csp.engine import begun
            from csp.engine import predict as run

            if resume and not begun(folder):
                note(f"Nothing to resume in {folder}: a new run begins.")
            prediction = run(
                settings,
                target,
                folder,
                device=device,
                resume=resume,
                progress=report,
                heard=hear_since(started),
                say=say,
            )
    except KeyboardInterrupt as ending:
        raise StoppedError(_interrupted(folder), ending) from ending
    except OSError as error:
        reason = of_system(error).message.removesuffix(".")
        raise CspError(f"{reason}; what is done is in {folder}, and `resume` goes on with it.") from error
    if json:
        typer.echo((folder / "ranked.json").read_bytes(), nl=False)  # UTF-8, whatever the terminal's encoding
    else:
        _show(prediction, said)
        seconds = time.monotonic() - started
        output.print(f"{folder}/report.html, structures/ and ranked.json written after {seconds:.0f} s.")
    if prediction.mostly_failed:
        raise typer.Exit(NOT_RANKED)


def _at_several(
    at: list[SearchSettings],
    out: Path | None,
    *,
    resume: bool,
    device: str,
    json: bool,
) -> None:
    """Predict at several pressures, and print what gives way to what."""
    target = at[0].target()
    if target.formula_note:
        note(target.formula_note)
    folder = out or Path("out") / f"{target.name}-pressures"
    started = time.monotonic()
    try:
        with terminated_as_interrupted(), progress() as report:
            from csp.pressures import predict_at

            found = predict_at(
                at,
                folder,
                device=device,
                resume=resume,
                progress=report,
                heard=hear_since(started),
                say=note,
            )
    except KeyboardInterrupt as ending:
        raise StoppedError(f"Interrupted; `resume` goes on with what is in {folder}.", ending) from ending
    if json:
        typer.echo((folder / "pressures.json").read_bytes(), nl=False)
        return
    from csp.report.pressures import pressure_table

    output.print(pressure_table(found), soft_wrap=False)
    for sentence in found.answer():
        output.print(sentence)
    for warning in found.warnings:
        note(warning, to=output)
    seconds = time.monotonic() - started
    output.print(f"{folder}/pressures.html and pressures.json written after {seconds:.0f} s.")


def _interrupted(folder: Path) -> str:
    """What there is after an interruption."""
    if (folder / "ranked.json").exists():
        return f"Interrupted; what was relaxed is ranked in {folder}, and `resume` goes on with it."
    if (folder / "run.sqlite").exists():
        return f"Interrupted before anything could be ranked; `resume` goes on with what is in {folder}."
    return "Interrupted before the search began."


def _show(prediction: Prediction, said: Collection[str]) -> None:
    """Print a ranking and what people should know of it, but for what was said before."""
    from csp.report.phonons import order_with_warmth
    from csp.report.rounds import rounds_bars
    from csp.report.terminal import ranking_table

    if prediction.results:
        output.print(ranking_table(prediction, len(prediction.results)), soft_wrap=False)
    if prediction.known_before:
        output.print(prediction.known_before)
    if prediction.results and (stability := prediction.results[0].stability):
        output.print(f"Crystal 1 is {stability}.")
    for result in prediction.results:
        if result.led_from:
            output.print(f"Crystal {result.rank} lies below {result.led_from}.")
    if warmth := order_with_warmth(prediction.results):
        output.print(warmth)
    if prediction.relaxer_why and len(prediction.models) > 1:
        output.print(f"Relaxer {prediction.models[-1]}: {prediction.relaxer_why}.")
    if prediction.history is not None:
        output.print(rounds_bars(prediction.history), soft_wrap=True)
        output.print(prediction.history.sentence())
    for warning in prediction.warnings:
        if warning not in said:
            note(warning, to=output)


def match(
    crystal: Annotated[Path, typer.Argument(help="File of the crystal to look for: CIF, POSCAR, …")],
    run: Annotated[Path, typer.Argument(help="Out folder of a prediction")],
) -> None:
    """Is my crystal among the ranked ones, and at which rank?"""
    from csp.report.match import match as find

    output.print(str(find(crystal, run)))
