"""The one composition root: builds generators and models from settings and runs a search."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from csp.device import give_back_freed_memory, resolve_device
from csp.diffraction.read import read_pattern
from csp.diffraction.sample import Sample
from csp.errors import InputError
from csp.generating import generators_for, given_starts
from csp.library.compression import compression
from csp.library.given import named_phase
from csp.library.library import Library
from csp.library.on_demand import Found, library_for, reopened
from csp.library.volume import VolumePrior
from csp.protocols import EnergyModel, Generator
from csp.ranking.differences import DifferenceErrors
from csp.ranking.known import KnownCrystals
from csp.ranking.probability import AnswerProbability
from csp.ranking.references import References
from csp.report.citations import citations
from csp.report.files import write_report
from csp.report.notebook import NotebookCard
from csp.report.record import RunRecord, versions
from csp.search.funnel import Progress
from csp.search.history import Heard, Round
from csp.search.prediction import Prediction
from csp.search.search import Search, check_elements
from csp.search.stages import WRITE
from csp.settings import AUTO_LIBRARY, SearchSettings
from csp.store.store import Store
from csp.target import Target
from generators.random_symmetric.fixed_cell import check_cell
from surrogates.active_learning import ActiveLearner
from surrogates.labellers import load_labeller
from surrogates.zoo import AUTO, choose_relaxer, is_ours, load_model

__all__ = ["Given", "begun", "build", "predict"]


@dataclass(frozen=True, slots=True)
class Given:
    """Objects in the place of what the engine would make of the settings.

    Attributes:
        generators, models: By the names that the settings know them by, which are their own.
        library: None: the one that the settings name.
    """

    generators: Mapping[str, Generator] = field(default_factory=dict)
    models: Mapping[str, EnergyModel] = field(default_factory=dict)
    library: Library | None = None


NOTHING_GIVEN = Given()
# in the store, beside the versions that a search began with
RELAXER_WHY, LIBRARY_PLACE, LIBRARY_NOTE = "relaxer_why", "library_place", "library_note"
BEGAN_WITH_IT = "this search began with it"
# settings that a search which is done can still be asked for; the other numbers of a quick one tell it apart
AFTERWARDS = (
    *("hull", "offline", "order", "second_opinion", "top"),
    *("xrd", "wavelength", "impurities"),
    *("phonons", "phonon_length", "properties"),
    *("effort", "minutes", "until", "max_rounds"),
)


def build(
    settings: SearchSettings,
    target: Target,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = lambda stage, done, total: None,
    heard: Heard = lambda now, before: None,
    store_url: str | None = None,
    given: Given = NOTHING_GIVEN,
) -> tuple[Search, RunRecord]:
    """The search that these settings ask for, its store, and the record of what it runs with.

    Args:
        target: What the settings ask for (`SearchSettings.target`).
        heard: Called with each round of a deep search when it is closed, and the one before it.
        store_url: Database that holds the run under the path of its `out` folder; none: a file in `out`.

    Raises:
        InputError, MissingError: Before any work, for what is wrong or not there.
    """
    give_back_freed_memory()  # of an earlier search in this process
    run = str(out) if store_url else "run"
    stored = begun(store_url or out, run) if resume else None
    settings, why = _with_relaxer(settings, stored)
    found = _library(settings, target, given.library, stored, progress)
    library = found.library
    known = KnownCrystals(
        target, library, found.note, left_out=settings.exclude_composition, symprec=settings.symprec
    )
    if settings.exclude_composition:
        library = library.excluding(target)
    sample = _sample(settings, library)
    if settings.properties:
        from surrogates.properties.predicting import chosen

        chosen(settings.properties)  # what is wrong with a name is said before any work
    models = [
        given.models[name] if name in given.models else load_model(name, resolve_device(device))
        for name in settings.models
    ]
    for name, model in zip(settings.models, models, strict=True):
        if not model.elements.issuperset(target.numbers):
            advice = "`surrogate` none leaves it out" if name == settings.surrogate else _advice(target)
            check_elements(target, model, advice)
    second = _second(settings, target, device, given)
    learner, labelled = None, dict[str, str]()
    if settings.labeller != "none":
        labeller = load_labeller(settings.labeller, resolve_device(device))
        check_elements(target, labeller, "choose another `labeller`")
        learner, labelled = ActiveLearner(labeller, out / "labels"), {"labels": str(labeller.label)}
    volume = VolumePrior.load()
    check_cell(target, volume)
    volume_per_atom = volume.predict(target.numbers, target.counts) / target.n_atoms
    # a cell that is given is taken as it is under the pressure
    under = 0.0 if target.cell else target.pressure
    factor = compression(target.numbers, target.counts, volume_per_atom, under)
    starts = given_starts(settings, target, volume, factor)
    generators = [*generators_for(settings, library, volume, given.generators), *starts]
    checkpoints = {model.name: str(model.label) for model in models} | labelled
    record = RunRecord(
        settings=settings.model_dump(mode="json"),
        versions=versions(),
        checkpoints=checkpoints | ({second.name: str(second.label)} if second else {}),
        library={"name": library.name, "fingerprint": library.fingerprint, "entries": len(library)},
        device=str(models[-1].device),
        citations=citations(["engine", *_parts(settings), *sorted(set(library.origin[0].tolist()))]),
    )
    # What the ranking depends on; where the files lie and which device of a kind is used do not matter,
    # and a hull can be asked for later.
    decisive = {
        **{name: value for name, value in record.settings.items() if name not in AFTERWARDS},
        "cell": target.cell,
        "starts": [i for one in starts for i in one.ids(settings.candidates)] or None,  # as if never heard of
        "library": record.library,
        "checkpoints": checkpoints,
        "device": models[-1].device.type,
    }
    store = Store.begin(
        store_url or out,
        decisive,
        formula=target.formula,
        versions={
            **record.versions,
            RELAXER_WHY: why,
            LIBRARY_PLACE: found.place,
            LIBRARY_NOTE: found.note,
        },
        resume=resume,
        run=run,
    )
    references = _references(settings, target, library)
    if not references:
        progress("hull", 0, 0)  # so that the time left is told without it
    probability = _answer_probability(settings, target, library, models[-1])
    others = [None if learner else model.label for model in models[:-1]]
    if second is not None:
        others.append(second.label)
    uncalibrated = target.pressure or (learner and len(models) == 1)
    search = Search(
        settings,
        target,
        generators,
        models,
        volume_per_atom * factor,
        store,
        progress=progress,
        learner=learner,
        references=references,
        answer_probability=probability,
        compression=factor,
        relaxer_why=store.versions.get(RELAXER_WHY, BEGAN_WITH_IT),  # the same for whoever goes on with it
        second=second,
        difference_errors=None if uncalibrated else DifferenceErrors.load(models[-1].label, others),
        known=known,
        sample=sample,
        heard=heard,
    )
    return search, record


def _answer_probability(
    settings: SearchSettings, target: Target, library: Library, model: EnergyModel
) -> AnswerProbability | None:
    """None for searches unlike those of the fits: they had no pressure, no rounds, no starts of a
    person's, and a library without the target, which is no guess where it holds it."""
    if target.pressure or settings.effort == "deep" or settings.starts or len(library.own_rows(target)):
        return None
    return AnswerProbability.load(model.label, library.extract_of or len(library), settings.generators)


def _sample(settings: SearchSettings, library: Library) -> Sample | None:
    """What the powder pattern is of, read before anything is searched; None: there is none.

    Raises:
        InputError, MissingError: For a file or a wavelength that is wrong, and impurities nobody knows.
    """
    if settings.xrd is None:
        return None
    pattern = read_pattern(settings.xrd, settings.wavelength)
    ask = not settings.offline
    return Sample(
        pattern, [(name, named_phase(name, library.whole, ask=ask)) for name in settings.impurities]
    )


def _library(
    settings: SearchSettings, target: Target, given: Library | None, stored: Store | None, progress: Progress
) -> Found:
    """The library that is given, or else the one that the settings ask for.

    Where they leave it open, a search that is gone on with keeps the one that it began with.
    """
    if given is not None:
        return Found(given)
    if settings.library != AUTO_LIBRARY:
        return Found(Library.open(settings.library))
    kept = stored.versions if stored else {}
    again = reopened(kept.get(LIBRARY_PLACE, ""), kept.get(LIBRARY_NOTE, ""))
    return again or library_for(target, ask=not settings.offline, progress=progress)


def _second(settings: SearchSettings, target: Target, device: str, given: Given) -> EnergyModel | None:
    """Who gives a second opinion; None: nobody.

    Raises:
        InputError: It is one of the models that search, or it lacks an element.
    """
    name = settings.second_opinion
    if name == "none":
        return None
    if name in settings.models:
        raise InputError(f"{name} searches already; name another potential as second opinion, or none.")
    second = given.models.get(name) or load_model(name, resolve_device(device))
    check_elements(target, second, "choose another `second_opinion`")
    return second


def _with_relaxer(settings: SearchSettings, stored: Store | None) -> tuple[SearchSettings, str]:
    """The settings with the name of the relaxer where they leave it open, and why it is that one.

    A search that is gone on with keeps the one that it began with, whatever can be had now.
    """
    if settings.relaxer != AUTO:
        return settings, "asked for"
    if stored is not None:
        name, why = stored.settings["relaxer"], BEGAN_WITH_IT
    else:
        name, why = choose_relaxer(may_fetch=not settings.offline)
    return settings.model_copy(update={"relaxer": name}), why


def begun(location: Path | str, run: str = "run") -> Store | None:
    """A run that can be gone on with, in its out folder or a database; None where there is none yet."""
    try:
        return Store.open(location, run)
    except InputError:
        return None


def _parts(settings: SearchSettings) -> list[str]:
    """What has energies, as `csp.report.citations` knows it."""
    second = [] if settings.second_opinion == "none" else [settings.second_opinion]
    models = ["ours" if is_ours(name) else name for name in (*settings.models, *second)]
    phonons = ["phonons"] if settings.phonons else []
    return [*models, *([] if settings.labeller == "none" else [settings.labeller]), *phonons]


def _advice(target: Target) -> str:
    """Which potential knows all elements of the target."""
    if load_model("chgnet").elements.issuperset(target.numbers):
        return "`relaxer` chgnet does"
    return "nor does any potential that the engine has by name (they end at Pu and leave out Po to Ra)"


def predict(
    settings: SearchSettings,
    target: Target,
    out: Path | None,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = lambda stage, done, total: None,
    heard: Heard = lambda now, before: None,
    given: Given = NOTHING_GIVEN,
    say: Callable[[str], None] = lambda sentence: None,
    store_url: str | None = None,
) -> Prediction:
    """Search, and write the results into `out`. When interrupted, what can be ranked is written first.

    Args:
        out: None: nothing is kept but what is returned.
        heard: Called with each round of a deep search when it is closed, and the one before it.
        say: Told what people should know before anything is relaxed.
        store_url: As of `build`.
    """
    if out is None:
        with TemporaryDirectory(prefix="csp-") as folder:
            search, _ = build(
                settings, target, Path(folder), device=device, progress=progress, heard=heard, given=given
            )
            _forewarn(search, say)
            return _with_cards(foretold(search.run(), settings), settings)
    clock = _Clock(progress, heard)
    search, record = build(
        settings,
        target,
        out,
        device=device,
        resume=resume,
        progress=clock,
        heard=clock.hear,
        given=given,
        store_url=store_url,
    )
    _forewarn(search, say)
    try:
        prediction = foretold(search.run(), settings)
    except KeyboardInterrupt:
        if (prediction := search.conclude()).results:
            prediction.warnings.append(
                "Interrupted: this ranks what was relaxed so far; the run can be resumed."
            )
            prediction = foretold(prediction, settings)
            write_report(prediction, out, replace(record, timings=clock.seconds), symprec=settings.symprec)
        raise
    clock.stop()
    progress(WRITE.name, 0, 1)
    write_report(prediction, out, replace(record, timings=clock.seconds), symprec=settings.symprec)
    progress(WRITE.name, 1, 1)
    return _with_cards(prediction, settings)


def foretold(prediction: Prediction, settings: SearchSettings) -> Prediction:
    """With the properties of the ranked crystals, where the settings ask for some."""
    if not settings.properties or not prediction.results:
        return prediction
    from surrogates.properties.predicting import chosen, of_crystals

    models = chosen(settings.properties)
    rows = of_crystals(models, prediction.crystals, contributions=True)
    results = [
        replace(result, properties=tuple(value for value in row if value is not None))
        for result, row in zip(prediction.results, rows, strict=True)
    ]
    unknown = [model.card.name for m, model in enumerate(models) if any(row[m] is None for row in rows)]
    warnings = [f"{name} has not learned all elements of {prediction.target.formula}." for name in unknown]
    return replace(prediction, results=results, warnings=[*prediction.warnings, *warnings])


def _with_cards(prediction: Prediction, settings: SearchSettings) -> Prediction:
    """With crystals that a notebook can draw."""
    target = prediction.target
    card = NotebookCard(target.formula, prediction.models, settings.symprec, target.pressure != 0)
    return replace(prediction, card=card)


def _references(settings: SearchSettings, target: Target, library: Library) -> References | None:
    """What energies above the hull are counted from; None: they are not asked for."""
    if not settings.hull:
        return None
    if library.is_embedded:
        why = "the embedded prototypes are examples of structures, not what a crystal could decompose into"
        return References.none(target, f"{why}; `csp library pull` gets a database")
    if settings.labeller != "none" and settings.relaxer == "none":
        return References.none(
            target, "energies learned from labels of one composition have none with others"
        )
    return References.of(target, library)


def _forewarn(search: Search, say: Callable[[str], None]) -> None:
    for sentence in search.references.forewarning if search.references else []:
        say(sentence)


class _Clock:
    """Passes progress on, adds up the seconds of each stage, and notes when each round was closed."""

    def __init__(self, progress: Progress, heard: Heard) -> None:
        self.progress, self.heard = progress, heard
        self.begun = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.stage, self.since = "load", time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage and total:
            self.stop()
            self.stage = stage
        self.progress(stage, done, total)

    def hear(self, now: Round, before: Round | None) -> None:
        self.seconds[f"round {now.number}"] = round(time.perf_counter() - self.begun, 3)
        self.heard(now, before)

    def stop(self) -> None:
        now = time.perf_counter()
        self.seconds[self.stage] = round(self.seconds.get(self.stage, 0.0) + now - self.since, 3)
        self.since = now
