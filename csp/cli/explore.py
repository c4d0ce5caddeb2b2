"""`csp explore`. Thin: reads options, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from csp.cli.console import console, note, output
from csp.cli.options import Device, takes_fields
from csp.cli.progress import status
from csp.cli.stopping import StoppedError, terminated_as_interrupted
from csp.report.terminal import plain_table
from csp.systems.settings import ExploreSettings

if TYPE_CHECKING:
    from csp.systems.answer import Answer
    from csp.systems.exploration import Exploration
    from csp.systems.state import Searched

__all__ = ["explore"]

SHOWN = 20  # phases above the hull in the terminal
WISHED = 10  # of those ordered by a wish


@takes_fields(ExploreSettings, names={"wish": "for"})
def explore(
    settings: ExploreSettings,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default out/SYSTEM")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the exploration in the out folder")
    ] = False,
    device: Device = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print explore.json, and nothing else, on stdout")
    ] = False,
) -> None:
    """Find the stable phases of a whole chemical system, from its elements alone."""
    system = settings.chemical_system()
    folder = out or Path("out") / system.place
    try:
        with terminated_as_interrupted():
            from csp.systems.answer import Answer
            from csp.systems.exploration import Exploration
            from csp.systems.files import write_answer

            exploration = Exploration.begin(settings, folder, device=device, resume=resume)
            console.print(
                f"{system.name}: {len(exploration.compositions)} compositions; references and searches by "
                f"{' and '.join(exploration.models)}."
            )

            def heard(searched: Searched, now: Exploration) -> None:
                console.print(_line(searched, now))
                write_answer(Answer(now))

            ended = exploration.run(progress=status(system.name), heard=heard)
            answer = Answer(exploration, ended)
            write_answer(answer)
    except KeyboardInterrupt as ending:
        raise StoppedError(f"Interrupted; `resume` goes on with what is in {folder}.", ending) from ending
    if json:
        typer.echo((folder / "explore.json").read_bytes(), nl=False)
    else:
        _show(answer)
        output.print(f"{folder}/report.html, phases.csv, entries.json and explore.json written.")


def _line(searched: Searched, now: Exploration) -> str:
    """What a search came to."""
    count = f"{now.made:3d}/{now.settings.searches}"
    begin = f"{count}  {searched.formula:12} {searched.level:9}"
    if searched.why_not:
        return f"{begin} nothing: {searched.why_not}"
    above = now.knowledge().distance(searched.formula, searched.label)
    place = (
        "no hull yet"
        if above is None
        else "on the hull"
        if above < 1e-6
        else f"{1000 * above:.0f} meV/atom above"
    )
    return f"{begin} {place}, {searched.ranked} crystals, {searched.seconds:.0f} s"


def _show(answer: Answer) -> None:
    output.print(" ".join(answer.sentences()))
    if answer.phases:
        output.print(_table(answer), soft_wrap=False)
    if answer.wished:
        output.print(_wished(answer), soft_wrap=False)
    output.print(answer.progress())
    for sentence in answer.doubts():
        note(sentence, to=output)


def _wished(answer: Answer) -> Table:
    """What is nearest to the wish; ± holds 68 % of the errors."""
    table = plain_table("", "phase", "hull", "value", title=f"By wish: {answer.exploration.settings.wish}")
    table.title_justify = "left"
    numbers = {id(told.phase): told for told in answer.phases}
    for one in answer.wished[:WISHED]:
        told = numbers[id(one.phase)]
        place = "stable" if told.stable else f"{1000 * told.above:.1f} meV/atom above"
        table.add_row(str(told.number), one.phase.name, place, str(one))
    return table


def _table(answer: Answer) -> Table:
    table = Table(
        title=f"{answer.exploration.system.name} · {answer.exploration.labels[1]}",
        caption="stable phases first; by: how far below what it would decompose into, or above it, meV/atom",
        header_style="bold",
    )
    for name, justify in (("", "right"), ("phase", "left"), ("space group", "left"), ("formation", "right"),
                          ("hull", "right"), ("by", "right"), ("known as", "left")):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for told in answer.phases[: len(answer.stable) + SHOWN]:
        phase, reaction = told.phase, told.reaction
        table.add_row(
            str(told.number),
            phase.formula,
            f"{phase.space_group} {phase.space_group_number}",
            f"{1000 * told.formation:.0f}",
            "stable" if told.stable else f"{1000 * told.above:.1f}",
            "" if reaction is None else f"{1000 * reaction.energy_ev_per_atom:.0f}",
            phase.entry if phase.novelty == "known" else phase.novelty,
        )
    return table
