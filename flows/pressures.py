"""A formula at several pressures as a Prefect flow: a search at each, then all crystals at all of them.

`predict_pressures.fn(...)` is a plain function and needs no server. A run that was killed goes on from its
folder, which has one for each pressure.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.utilities.annotations import quote
from pydantic import ConfigDict, create_model

from csp.errors import InputError
from csp.files import replacing
from csp.settings import AUTO_LIBRARY, DEFAULT_GENERATORS, SearchSettings
from flows.artifacts import files_url, image_url
from flows.ask import name_of
from flows.crashes import go_on, stop_crashing
from flows.form import (
    FIRST,
    Candidates,
    Device,
    Folder,
    Formula,
    Generators,
    Labeller,
    Library,
    Runner,
    check_library,
    rest_of,
    settings_of,
    shown,
)
from flows.home import STORE_URL
from flows.markdown import link, literal
from flows.predict import RESUMABLE, folder_for, searched, searched_plainly
from flows.progress import Reporter
from flows.sentences import says_why
from flows.turns import turn

if TYPE_CHECKING:
    from csp.search.prediction import Prediction
    from csp.search.under_pressure import UnderPressure

__all__ = ["predict_pressures"]

MOST = 20  # pressures

Pressures = Annotated[
    list[Annotated[float, *SearchSettings.model_fields["pressure"].metadata]],
    shown(
        "Pressures",
        "GPa, two or more: a prediction at each, all crystals relaxed at all, and where one gives way to "
        "another",
        min_length=2,
        max_length=MOST,
    ),
]

_Rest: Any = create_model(
    "_Rest",
    __config__=ConfigDict(frozen=True, extra="forbid"),
    **rest_of(SearchSettings, (*FIRST, "pressure")),
)


class PressuresAdvanced(_Rest):
    """All settings but the first and the pressure."""


DEFAULTS = PressuresAdvanced()
More = Annotated[
    PressuresAdvanced, shown("Advanced settings", "What the defaults are good for, most of the time")
]


def _name() -> str:
    return name_of(flow_run.parameters)


@flow(name="predict-pressures", flow_run_name=_name, on_crashed=[go_on], persist_result=False)
@says_why
def predict_pressures(
    formula: Formula,
    pressures: Pressures,
    candidates: Candidates = 500,
    generators: Generators = DEFAULT_GENERATORS,
    labeller: Labeller = "none",
    library: Library = AUTO_LIBRARY,
    advanced: More = DEFAULTS,
    device: Device = "auto",
    runner: Runner = "here",
    folder: Folder = None,
) -> dict[str, Any]:
    """Predict the crystals of a formula at several pressures; returns what gives way to what, and where."""
    settings, target = settings_of(formula, candidates, generators, labeller, library, advanced)
    at = settings.at(pressures)
    if len(at) < 2:
        raise InputError("names one pressure; name two or more, or ask for `predict`.", setting="pressures")
    check_library(settings)
    if FlowRunContext.get() is None:
        out = (folder or Path("out") / f"{target.name}-pressures").absolute()
        plain = [searched_plainly(one, _folder(out, one), device) for one in at]
        return _summary(compare.fn(at, plain, out, device))
    stop_crashing()
    out, place = folder_for(target, folder)
    predictions = []
    for one in at:
        get_run_logger().info("At %g GPa:", one.pressure)
        predictions.append(searched(one, _folder(out, one), device, runner)[0])
    unseen = cast("list[Prediction]", quote(predictions))  # Prefect is not to look through all crystals
    found = compare(at, unseen, out, device)
    _publish(found, out, place)
    return _summary(found)


def _folder(out: Path, settings: SearchSettings) -> Path:
    from csp.report.pressures import folder_of

    return folder_of(out, settings.pressure)


@task(task_run_name="compare", **RESUMABLE)
def compare(at: list[SearchSettings], predictions: list[Prediction], out: Path, device: str) -> UnderPressure:
    """All crystals relaxed at all pressures, the files written into the out folder."""
    from csp.device import resolve_device
    from csp.pressures import compare as relaxed_at_all
    from csp.report.pressures import write_pressures

    with turn(resolve_device(device)):
        found = relaxed_at_all(
            at,
            predictions,
            out,
            device=device,
            progress=_reporter(at[0].target().formula) if FlowRunContext.get() else _silent,
            store_url=os.environ.get(STORE_URL),
        )
    write_pressures(found, out)
    return found


def _reporter(formula: str) -> Reporter:
    from csp.pressures import COMPARING
    from csp.search.pace import Pace

    return Reporter(f"progress-{formula.lower()}", Pace({COMPARING: 100.0}, {COMPARING: COMPARING}))


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody looks."""


def _publish(found: UnderPressure, out: Path, place: str) -> None:
    from csp.report.pressures import enthalpies_picture

    key, where = found.formula.lower(), files_url(place)
    create_markdown_artifact(
        _words(found, out, where), key=f"pressures-{key}", description=f"{found.formula} under pressure"
    )
    picture = out / "pressures.png"
    with replacing(picture) as partial:
        partial.write_bytes(enthalpies_picture(found, "png"))
    create_image_artifact(
        image_url(picture, where), key=f"enthalpies-{key}", description=f"{found.formula}: enthalpies"
    )


def _words(found: UnderPressure, out: Path, where: str) -> str:
    files = [("Report", "pressures.html"), ("all numbers as JSON", "pressures.json")]
    files += [(f"at {one.name}", f"{one.name}/report.html") for one in _folders(found, out)]
    links = [" · ".join(link(words, f"{where}/{file}") for words, file in files), ""] if where else []
    answer = [f"- {literal(sentence)}" for sentence in found.answer()]
    doubts = [f"- {literal(sentence)}" for sentence in found.warnings]
    lines = [f"# {found.formula} under pressure", "", *links, *answer]
    return "\n".join([*lines, *(["", "## Notes", "", *doubts] if doubts else [])]) + "\n"


def _folders(found: UnderPressure, out: Path) -> list[Path]:
    from csp.report.pressures import folder_of

    return [folder_of(out, gpa) for gpa in found.pressures]


def _summary(found: UnderPressure) -> dict[str, Any]:
    return {
        "formula": found.formula,
        "pressures_gpa": found.pressures,
        "answer": " ".join(found.answer()),
        "transitions_gpa": [round(one.pressure, 2) for one in found.enthalpies.transitions()],
        "warnings": found.warnings,
    }
