"""The exploration of a chemical system as a Prefect flow: one task a search, and a diagram that is renewed.

Which searches come next is decided by the flow from what is in the exploration's folder, in rounds of equal
size whatever works on them: workers share a round out, and the hull is that of one. A run that was killed, or
whose server was, goes on from the folder. `explore.fn(...)` is a plain function and needs no server.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from pydantic import ConfigDict, create_model

from csp.errors import InputError
from csp.settings import AUTO_LIBRARY, LibraryFile
from csp.systems.settings import ExploreSettings
from flows.artifacts import files_url, image_url
from flows.crashes import go_on, stop_crashing
from flows.form import Device, Folder, Runner, field_of, rest_of, shown
from flows.home import STORE_URL
from flows.markdown import cell, link, literal
from flows.predict import RESUMABLE
from flows.roots import folder_of_run, settings_within
from flows.sentences import says_why
from flows.turns import turn

if TYPE_CHECKING:
    from csp.systems.answer import Answer
    from csp.systems.exploration import Exploration
    from csp.systems.state import Searched, Step

__all__ = ["explore"]

FIRST = ("system", "searches", "minutes", "library")
ROWS = 200  # of a table that people see
FILES = (("Report", "report.html"), ("phases as CSV", "phases.csv"), ("entries for pymatgen", "entries.json"))

System = Annotated[str, field_of(ExploreSettings, "system")]
Searches = Annotated[int, field_of(ExploreSettings, "searches")]
Minutes = Annotated[float, field_of(ExploreSettings, "minutes")]
Library = Annotated[LibraryFile, field_of(ExploreSettings, "library")]

_Rest: Any = create_model(
    "_Rest", __config__=ConfigDict(frozen=True, extra="forbid"), **rest_of(ExploreSettings, FIRST)
)


class ExploreAdvanced(_Rest):
    """All settings but the first."""


DEFAULTS = ExploreAdvanced()
More = Annotated[
    ExploreAdvanced, shown("Advanced settings", "What the defaults are good for, most of the time")
]


@lru_cache(maxsize=1)
def _exploration(settings: ExploreSettings, out: Path, device: str) -> Exploration:
    """Models, library and references are loaded once a process."""
    from csp.systems.exploration import Exploration

    return Exploration.begin(settings, out, device=device, resume=True, store_url=os.environ.get(STORE_URL))


@task(task_run_name="{step.formula} {step.level}", **RESUMABLE)
def search(settings: ExploreSettings, out: Path, device: str, step: Step) -> Searched:
    """One search, begun or gone on with."""
    exploration = _exploration(settings, out, device)
    model = list(exploration.models.values())[-1]
    with turn(model.device):
        return exploration.search(step)


@flow(name="explore", flow_run_name="explore {system}", on_crashed=[go_on], persist_result=False)
@says_why
def explore(
    system: System,
    searches: Searches = 60,
    minutes: Minutes = 90.0,
    library: Library = AUTO_LIBRARY,
    advanced: More = DEFAULTS,
    device: Device = "auto",
    runner: Runner = "here",
    folder: Folder = None,
) -> dict[str, Any]:
    """Find the stable phases of a whole chemical system; returns the phases on the hull and near it."""
    settings = _settings(system, searches, minutes, library, advanced)
    name = settings.chemical_system().place
    if FlowRunContext.get() is None:
        return _plain(settings, (folder or Path("out") / name).absolute(), device)
    stop_crashing()
    place = f"{name}-{str(flow_run.id)[:8]}"
    out = folder_of_run(place, folder)
    log = get_run_logger()
    log.info("%s: results go to %s", name, out)
    exploration = _exploration(settings, out, device)
    log.info("%d compositions, %d searches made", len(exploration.compositions), exploration.made)
    _publish(exploration, place, "")
    ended = _rounds(exploration, runner, place)
    return _publish(exploration, place, ended)


def _settings(
    system: str, searches: int, minutes: float, library: Path | None, advanced: ExploreAdvanced
) -> ExploreSettings:
    """What the form asks for.

    Raises:
        InputError: One sentence, for the first thing that is wrong.
    """
    served = FlowRunContext.get() is not None
    if served and ":" in advanced.wish:  # whoever may submit is not to choose the code that runs
        raise InputError("A property by a Python function is for `csp explore`, not for runs of a server.")
    asked = ExploreSettings.read(
        system=system, searches=searches, minutes=minutes, library=library, **advanced.model_dump()
    )
    return settings_within(asked) if served else asked


def _plain(settings: ExploreSettings, out: Path, device: str) -> dict[str, Any]:
    from csp.systems.answer import Answer
    from csp.systems.files import write_answer

    exploration = _exploration(settings, out, device)
    answer = Answer(exploration, exploration.run())
    write_answer(answer)
    return _summary(answer)


def _rounds(exploration: Exploration, runner: str, place: str) -> str:
    """Search until the end; why it ended."""
    from flows.dask import cluster

    settings, out, device = exploration.settings, exploration.out, exploration.device
    deadline = time.monotonic() + 60 * settings.minutes
    with cluster(runner) if runner != "here" else nullcontext() as pool:
        while True:
            steps, ended = exploration.plan()
            if not steps:
                return ended
            if pool is not None and time.monotonic() < deadline:
                common = {"settings": settings, "out": out, "device": device}
                futures = [pool.submit(search, {**common, "step": step}, wait_for=[]) for step in steps]
                for future in futures:
                    _take(exploration, future.result())
                _publish(exploration, place, "")
                continue
            for step in steps:
                if time.monotonic() >= deadline:
                    return "time"
                _take(exploration, search(settings, out, device, step))
                _publish(exploration, place, "")


def _take(exploration: Exploration, searched: Searched) -> None:
    exploration.take(searched)
    found = searched.why_not or f"{searched.ranked} crystals"
    get_run_logger().info("%s %s: %s, %.0f s", searched.formula, searched.level, found, searched.seconds)


# -- what people see -----------------------------------------------------------------------------------------


def _publish(exploration: Exploration, place: str, ended: str) -> dict[str, Any]:
    """The files, and the artifacts as they are now, under keys that stay."""
    from csp.systems.answer import Answer
    from csp.systems.files import write_answer

    answer = Answer(exploration, ended)
    write_answer(answer)
    key, where = _key(exploration.system.place), files_url(place)
    create_markdown_artifact(
        _words(answer, where),
        key=f"explored-{key}",
        description=f"{exploration.system.name}: the answer so far",
    )
    create_table_artifact(
        _by_composition(exploration),
        key=f"searches-{key}",
        description=f"{exploration.made} of {exploration.settings.searches} searches, by composition",
    )
    picture = exploration.out / "diagram.png"
    if answer.diagram is not None:
        address = image_url(picture, where)
        create_image_artifact(
            f"{address}?{exploration.made}" if where else address,  # a browser keeps what has its address
            key=f"diagram-{key}",
            description=f"{exploration.system.name}: the phase diagram after {exploration.made} searches",
        )
    if answer.phases:
        create_table_artifact(
            _table(answer), key=f"phases-{key}", description="Phases on the hull and near it"
        )
    return _summary(answer)


def _words(answer: Answer, where: str) -> str:
    links = [" · ".join(link(words, f"{where}/{file}") for words, file in FILES), ""] if where else []
    doubts = [f"- {literal(sentence)}" for sentence in answer.doubts()]
    lines = [
        f"# {literal(answer.exploration.system.name)}",
        "",
        literal(" ".join(answer.sentences())),
        "",
        *links,
        literal(answer.progress()),
        *(["", "## Notes", "", *doubts] if doubts else []),
    ]
    return "\n".join(lines) + "\n"


def _table(answer: Answer) -> list[dict[str, Any]]:
    rows = []
    wish = answer.exploration.settings.wish
    wished = {id(one.phase): str(one) for one in answer.wished}
    for told in answer.phases[:ROWS]:
        phase, reaction = told.phase, told.reaction
        row = {
            "phase": phase.formula,
            "space group": f"{phase.space_group} ({phase.space_group_number})",
            "above the hull, meV/atom": round(1000 * told.above, 1),
            "formation, meV/atom": round(1000 * told.formation),
            "known as": phase.entry if phase.novelty == "known" else phase.novelty,
            "decomposes into": "" if reaction is None else reaction.into(phase.formula),
            **({wish: wished[id(phase)]} if wish else {}),
            "file": told.file,
        }
        rows.append({name: cell(value) for name, value in row.items()})
    return rows


def _by_composition(exploration: Exploration) -> list[dict[str, Any]]:
    """How far each composition has come; those that were searched first."""
    done: dict[str, list[str]] = {}
    for one in exploration.searches:
        done.setdefault(one.formula, []).append(f"{one.level}{': nothing' if one.why_not else ''}")
    rows = [
        {"composition": c.formula, "kind": c.kind, "searched": ", ".join(done.get(c.formula, ["not yet"]))}
        for c in exploration.compositions
    ]
    return sorted(rows, key=lambda row: row["searched"] == "not yet")[:ROWS]


def _summary(answer: Answer) -> dict[str, Any]:
    return {
        "system": answer.exploration.system.name,
        "answer": " ".join(answer.sentences()),
        "phases": [told.as_dict() for told in answer.phases],
    }


def _key(name: str) -> str:
    """Keys of artifacts are of small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
