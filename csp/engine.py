"""The one composition root: builds generators and models from settings and runs a search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from csp.device import resolve_device
from csp.library.compression import compression
from csp.library.library import Library
from csp.library.on_demand import Found, library_of_run, pin
from csp.library.volume import VolumePrior
from csp.protocols import Generator
from csp.ranking.known import KnownCrystals
from csp.ranking.probability import AnswerProbability
from csp.ranking.references import References
from csp.report.citations import citations
from csp.report.files import write_report
from csp.report.record import RunRecord, versions
from csp.search.funnel import Progress
from csp.search.prediction import Prediction
from csp.search.search import Search, check_elements
from csp.settings import AUTO_LIBRARY, SearchSettings
from csp.store.store import Store
from csp.target import Target
from generators.random_symmetric.fixed_cell import check_cell
from generators.random_symmetric.generator import RandomGenerator
from generators.space_group.generator import SpaceGroupGenerator
from generators.templates.metric_learning import MetricLearningGenerator
from generators.templates.template import TemplateGenerator
from surrogates.active_learning import ActiveLearner
from surrogates.labellers import load_labeller
from surrogates.zoo import is_ours, load_model

__all__ = ["build", "predict"]

GENERATORS: dict[str, Callable[[Library, VolumePrior], Generator]] = {
    "template": TemplateGenerator,
    "metric_learning": MetricLearningGenerator,
    "space_group": SpaceGroupGenerator,
    "random": RandomGenerator,
}


AFTERWARDS = ("hull", "order", "top", "offline")  # settings that a search which is done can still be asked for


def build(
    settings: SearchSettings,
    target: Target,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = lambda stage, done, total: None,
    store_url: str | None = None,
) -> tuple[Search, RunRecord]:
    """The search that these settings ask for, its store, and the record of what it runs with.

    Args:
        target: What the settings ask for (`SearchSettings.target`).
        store_url: Database that holds the run under the path of its `out` folder; none: a file in `out`.

    Raises:
        InputError, MissingError: Before any work, for what is wrong or not there.
    """
    found = _library(settings, target, out, resume, progress)
    library, note = found.library, found.note
    if settings.exclude_composition:
        library = library.excluding(target)
    models = [load_model(name, resolve_device(device)) for name in settings.models]
    for name, model in zip(settings.models, models, strict=True):
        if not model.elements.issuperset(target.numbers):
            advice = "--surrogate none leaves it out" if name == settings.surrogate else _advice(target)
            check_elements(target, model, advice)
    learner, labelled = None, dict[str, str]()
    if settings.labeller != "none":
        labeller = load_labeller(settings.labeller, resolve_device(device))
        check_elements(target, labeller, "choose another --labeller")
        learner, labelled = ActiveLearner(labeller, out / "labels"), {"labels": str(labeller.label)}
    volume = VolumePrior.load()
    check_cell(target, volume)
    record = RunRecord(
        settings=settings.model_dump(mode="json"),
        versions=versions(),
        checkpoints={model.name: str(model.label) for model in models} | labelled,
        library={
            "name": library.name,
            "fingerprint": library.fingerprint,
            "entries": len(library),
            **({"note": note} if note else {}),
        },
        device=str(models[-1].device),
        citations=citations(["engine", *_parts(settings), *sorted(set(library.origin[0].tolist()))]),
    )
    # What the ranking depends on; where the files lie and which device of a kind is used do not matter,
    # and a hull can be asked for later.
    decisive = {
        **{name: value for name, value in record.settings.items() if name not in AFTERWARDS},
        "cell": target.cell,
        "library": {name: value for name, value in record.library.items() if name != "note"},
        "checkpoints": record.checkpoints,
        "device": models[-1].device.type,
    }
    store = Store.begin(
        store_url or out,
        decisive,
        formula=target.formula,
        versions=record.versions,
        resume=resume,
        run=str(out) if store_url else "run",
    )
    if settings.library == AUTO_LIBRARY:
        pin(found, out)
    generators = [GENERATORS[name](library, volume) for name in settings.generators]
    volume_per_atom = volume.predict(target.numbers, target.counts) / target.n_atoms
    # a cell that is given is taken as it is under the pressure
    under = 0.0 if target.cell else target.pressure
    factor = compression(target.numbers, target.counts, volume_per_atom, under)
    references = References.of(target, library) if settings.hull else None
    probability = None if target.pressure else AnswerProbability.load(
        models[-1].label, library.extract_of or len(library)
    )
    search = Search(
        settings,
        target,
        generators,
        models,
        volume_per_atom * factor,
        store,
        progress,
        learner,
        references,
        probability,
        factor,
        (note,) if note else (),
        KnownCrystals(target, library),
    )
    return search, record


def _library(
    settings: SearchSettings, target: Target, out: Path, resume: bool, progress: Progress
) -> Found:
    """The library that the settings ask for."""
    if settings.library != AUTO_LIBRARY:
        return Found(Library.open(settings.library), "", settings.library)
    return library_of_run(target, out, resume=resume, ask=not settings.offline, progress=progress)


def _parts(settings: SearchSettings) -> list[str]:
    """What has energies, as `csp.report.citations` knows it."""
    models = ["ours" if is_ours(name) else name for name in settings.models]
    return models if settings.labeller == "none" else [*models, settings.labeller]


def _advice(target: Target) -> str:
    """Which potential knows all elements of the target."""
    if load_model("chgnet").elements.issuperset(target.numbers):
        return "--relaxer chgnet does"
    return "nor does any potential that the engine has by name (they end at Pu and leave out Po to Ra)"


def predict(
    settings: SearchSettings,
    target: Target,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Prediction:
    """Search, and write the results into `out`. When interrupted, what is done is written first."""
    clock = _Clock(progress)
    search, record = build(settings, target, out, device=device, resume=resume, progress=clock)
    try:
        prediction = search.run()
    except KeyboardInterrupt:
        prediction = search.conclude()
        prediction.warnings.append("Interrupted: this ranks what was relaxed so far; --resume goes on.")
        write_report(prediction, out, replace(record, timings=clock.seconds), symprec=settings.symprec)
        raise
    clock.stop()
    write_report(prediction, out, replace(record, timings=clock.seconds), symprec=settings.symprec)
    return prediction


class _Clock:
    """Passes progress on and adds up the seconds of each stage."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.stage, self.since = "load", time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            self.stop()
            self.stage = stage
        self.progress(stage, done, total)

    def stop(self) -> None:
        now = time.perf_counter()
        self.seconds[self.stage] = round(self.seconds.get(self.stage, 0.0) + now - self.since, 3)
        self.since = now
