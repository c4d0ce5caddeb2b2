"""An exploration in its out folder: rounds of searches, each where the hull is expected to be lowered most.

state.json            settings and searches, written whole after each
searches/Li3PS4       a search as `csp predict` leaves it; Li3PS4-quick a quick one
explore.json, …       the answer so far (`csp.systems.answer`)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from csp.device import resolve_device
from csp.engine import Given, predict
from csp.errors import CspError, InputError
from csp.protocols import EnergyModel
from csp.ranking.references import References
from csp.search.funnel import Progress
from csp.search.prediction import Prediction
from csp.search.search import check_elements
from csp.systems.acquisition import LEVELS
from csp.systems.compositions import Composition, compositions
from csp.systems.known import Knowledge, library_phases, searched_phases
from csp.systems.libraries import SystemLibrary
from csp.systems.phases import SystemPhase
from csp.systems.settings import ExploreSettings
from csp.systems.state import FILE, Searched, Step, read_state, write_state
from csp.systems.system import ChemicalSystem
from csp.target import Target
from surrogates.zoo import AUTO, choose_relaxer, load_model

__all__ = ["ENDINGS", "Exploration"]

ROUND = 4  # searches that are chosen at once, whatever works on them: as many workers, the same choice
FREE = (
    "searches",
    "minutes",
    "least_gain",
    "within",
    "wish",
    "depth",
    "spread",
    "earlier",
    "max_atoms",
    "offline",
)
"""Settings that an exploration can be gone on with under others: no search that is made depends on them."""

ENDINGS = {
    "searches": "as many searches as asked for are made",
    "time": "the time is over",
    "settled": "no further search is expected to change the hull by as much as asked for",
    "exhausted": "every composition has been searched as deeply as asked for",
}


def _untold(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Exploration:
    """Of one system, in one folder.

    Attributes:
        settings: What is asked for; the relaxer by its name.
        system: The same, read.
        out: Folder, absolute.
        searches: That were made so far, those of earlier explorations first.
        planned: The round at work: whoever goes on with it makes the rest of it.
        relaxer_why: Why the relaxer is that one, a clause for people.
        store_url: Database that holds the searches; None: each is in its folder.
        device: For the models.
    """

    settings: ExploreSettings
    system: ChemicalSystem
    out: Path
    searches: list[Searched] = field(default_factory=list)
    planned: list[Step] = field(default_factory=list)
    relaxer_why: str = ""
    store_url: str | None = None
    device: str = "auto"

    @classmethod
    def begin(
        cls,
        settings: ExploreSettings,
        out: Path,
        *,
        device: str = "auto",
        resume: bool = False,
        store_url: str | None = None,
    ) -> Exploration:
        """Start, or go on with what is in the folder.

        Raises:
            InputError: Before any work, for what is wrong: of the system, the folder, the settings.
            MissingError: A model, a library or an earlier exploration is not there.
        """
        out, system = out.absolute(), settings.chemical_system()
        kept = read_state(out)
        if kept is not None and not resume:
            raise InputError(
                f"{out} already holds an exploration of {kept[0].get('system')}; `resume` goes on with it, "
                "or choose another `out`."
            )
        why = "asked for"
        if settings.relaxer == AUTO:
            name = kept[0]["relaxer"] if kept else ""
            name, why = (name, "it began with it") if name else choose_relaxer(may_fetch=not settings.offline)
            settings = settings.model_copy(update={"relaxer": name})
        if kept is not None and (other := _changed(kept[0], settings)):
            raise InputError(f"The exploration in {out} was started with another {', '.join(other)}.")
        planned = kept[2] if kept else []
        earlier = [one for folder in settings.earlier for one in _earlier(folder)]
        made = [one for one in kept[1] if not Path(one.folder).is_absolute()] if kept else []
        exploration = cls(settings, system, out, [*earlier, *made], planned, why, store_url, device)
        if all(one.formula in system.elements for one in exploration.compositions):
            raise InputError(
                f"{system.name} has no compound with at most {settings.max_atoms} atoms in a formula unit; "
                "raise `max_atoms`."
            )
        if kept is None and not earlier:
            exploration._check_budget()
        for model in exploration.models.values():
            check_elements(system.target, model, "choose another model, or none")
        if kept is None:  # where there is one, its own run may be writing it
            exploration._keep()
        return exploration

    def _check_budget(self) -> None:
        """Elements without a crystal are searched first, by each model.

        Raises:
            InputError: No search would be left for a compound.
        """
        settings = self.settings
        lacking = [one.formula for one in self.compositions if one.formula in self.system.elements]
        each = 2 if settings.two_models and settings.spread == "gain" and len(settings.levels) > 1 else 1
        least = each * len(lacking) + 1
        if settings.searches < least:
            raise InputError(
                f"must be at least {least}: the library has no crystal of {', '.join(lacking)}, which "
                f"are searched first (got {settings.searches}).",
                setting="searches",
            )

    # -- what it works with -----------------------------------------------------------------------------

    @cached_property
    def library(self) -> SystemLibrary:
        """Known crystals."""
        return SystemLibrary(self.settings, self.system)

    @cached_property
    def models(self) -> dict[str, EnergyModel]:
        """By name, that of quick searches first, that of the others last."""
        names = [name for name in (self.settings.surrogate, self.settings.relaxer) if name != "none"]
        return {name: load_model(name, resolve_device(self.device)) for name in dict.fromkeys(names)}

    @property
    def labels(self) -> tuple[str, str]:
        """Of quick searches and of the others."""
        models = list(self.models.values())
        return str(models[0].label), str(models[-1].label)

    @cached_property
    def references(self) -> References:
        """The library's crystals of the system and of all sub-systems."""
        library = self.library.known
        if library.is_embedded:
            return References.none(self.system.target, "the embedded prototypes are no known phases")
        return References.of(self.system.target, library, partial=True)

    @cached_property
    def compositions(self) -> list[Composition]:
        """That may be searched: elements that the library has no crystal of, then compounds."""
        found = compositions(self.system, self.library.known, self.settings.max_atoms)
        there = set(self.references.formulas)
        lacking = [Composition(e, "balanced", 1, 0) for e in self.system.elements if e not in there]
        return [*lacking, *found]

    @cached_property
    def _library_phases(self) -> dict[str, list[SystemPhase]]:
        return {}

    def known_by(self, model: EnergyModel, progress: Progress = _untold) -> list[SystemPhase]:
        """The references as a model relaxes them."""
        label = str(model.label)
        if label not in self._library_phases:
            found = library_phases(
                self.references,
                model,
                self.settings.pressure,
                lambda done, total: progress("hull", done, total),
            )
            self._library_phases[label] = found
        return self._library_phases[label]

    def knowledge(self, progress: Progress = _untold) -> Knowledge:
        """What is known now."""
        return Knowledge(
            self.system.elements,
            self.compositions,
            self.settings.levels,
            self.labels,
            {str(model.label): self.known_by(model, progress) for model in self.models.values()},
            tuple(self.searches),
            lambda searched: searched_phases(self.out, searched),
        )

    # -- rounds ---------------------------------------------------------------------------------------------

    @property
    def made(self) -> int:
        """Searches of this exploration, without those of earlier ones."""
        return sum(not Path(one.folder).is_absolute() for one in self.searches)

    def plan(self, progress: Progress = _untold) -> tuple[list[Step], str]:
        """The searches of the next round, and where there are none why: a key of `ENDINGS`."""
        left = self.settings.searches - self.made
        if left <= 0:
            return [], "searches"
        if pending := [step for step in self.planned if not self._is_made(step)]:
            return pending[:left], ""
        steps = self._evenly() if self.settings.spread == "even" else self._by_gain(progress)
        if not steps:
            return [], "exhausted"
        worth = [s for s in steps if s.gain is None or 1000 * s.gain >= self.settings.least_gain]
        if not worth:
            return [], "settled"
        self.planned[:] = worth[:ROUND]
        self._keep()
        return self.planned[:left], ""

    def _is_made(self, step: Step) -> bool:
        return any((one.formula, one.level) == (step.formula, step.level) for one in self.searches)

    def _by_gain(self, progress: Progress) -> list[Step]:
        """All that can be done next, what is expected to gain most for its cost first."""
        knowledge = self.knowledge(progress)
        found: list[tuple[float, int, Step]] = []
        for k, composition in enumerate(self.compositions):
            formula = composition.formula
            level = knowledge.next_level(formula)
            if level is None:
                continue
            needed = formula in self.system.elements and not self._has(formula, level.name, knowledge)
            gain = None if needed else knowledge.outlook(composition).gain
            worth = float("inf") if gain is None else gain / level.cost
            found.append((-worth, k, Step(formula=formula, level=level.name, gain=gain)))
        return [step for _, _, step in sorted(found, key=lambda one: one[:2])]

    def _has(self, element: str, level: str, knowledge: Knowledge) -> bool:
        """Is there a crystal of an element with the energies of that level?"""
        label = self.labels[0 if level == "quick" else 1]
        return any(phase.formula == element for phase in knowledge.crystals(label))

    def _evenly(self) -> list[Step]:
        """All compositions at one level, the likeliest first and those of the library last, before any at the
        next; none by another model than that of the hull."""
        done = {(one.formula, one.level) for one in self.searches}
        known = set(self.references.formulas)
        order = sorted(self.compositions, key=lambda one: one.formula in known)
        levels = [level for level in self.settings.levels if level.name != "quick"]
        if not (self.settings.two_models and levels):
            levels = list(self.settings.levels)
        steps = [(c.formula, level.name) for level in levels for c in order]
        return [Step(formula=f, level=level) for f, level in steps if (f, level) not in done]

    def search(self, step: Step, *, progress: Progress = _untold) -> Searched:
        """Make a search, or go on with it. That nothing is found is an outcome."""
        level = next(level for level in LEVELS if level.name == step.level)
        target = Target.parse(step.formula, max_atoms=10**6)
        left_out = self.library.is_left_out(target)
        settings = self.settings.search(step.formula, level, exclude=left_out)
        started, why_not, prediction = time.perf_counter(), "", None
        try:
            prediction = predict(
                settings,
                settings.target(),
                self.out / step.folder,
                device=self.device,
                resume=True,
                progress=progress,
                given=Given(models=self.models, library=self.library.of(target)),
                store_url=self.store_url,
            )
        except CspError as error:
            why_not = str(error)
        return self._searched(step, prediction, time.perf_counter() - started, why_not)

    def _searched(self, step: Step, found: Prediction | None, seconds: float, why_not: str) -> Searched:
        if found is not None and not found.results:
            why_not = "nothing could be ranked"
        history = None if found is None else found.history
        return Searched(
            formula=step.formula,
            level=step.level,
            gain=step.gain,
            folder=step.folder,
            label="" if found is None or found.label is None else str(found.label),
            ranked=0 if found is None else len(found.results),
            missed=None if history is None else round(1.0 - history.probability, 4),
            seconds=round(seconds, 1),
            why_not=why_not,
        )

    def take(self, searched: Searched) -> None:
        """Note a search; one that is noted already is not noted twice."""
        if not self._is_made(Step(formula=searched.formula, level=searched.level)):
            self.searches.append(searched)
        self._keep()

    def _keep(self) -> None:
        write_state(self.out, self.settings.model_dump(mode="json"), self.searches, self.planned)

    def run(
        self,
        *,
        progress: Progress = _untold,
        heard: Callable[[Searched, Exploration], None] = lambda searched, exploration: None,
    ) -> str:
        """Search until the end.

        Args:
            progress: Of the search at work.
            heard: Called after each search.

        Returns:
            Why it ended, a key of `ENDINGS`.
        """
        deadline = time.monotonic() + 60 * self.settings.minutes
        while True:
            steps, ended = self.plan(progress)
            if not steps:
                return ended
            for step in steps:
                if time.monotonic() >= deadline:
                    return "time"
                searched = self.search(step, progress=progress)
                self.take(searched)
                heard(searched, self)


def _changed(before: dict[str, Any], settings: ExploreSettings) -> list[str]:
    """The settings that searches depend on and that differ."""
    now = settings.model_dump(mode="json")
    return [name for name, value in now.items() if name not in FREE and before.get(name) != value]


def _earlier(folder: Path) -> Sequence[Searched]:
    """The searches of another exploration, by their whole paths.

    Raises:
        InputError: There is none in the folder.
    """
    kept = read_state(folder)
    if kept is None:
        raise InputError(f"{folder} holds no exploration: there is no {FILE} in it.")
    return [one.model_copy(update={"folder": str((folder / one.folder).absolute())}) for one in kept[1]]
