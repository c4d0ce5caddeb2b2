"""What an exploration knows: crystals of the library and of searches by the label of their energies, and from
them the outlook of each composition."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from csp.crystallography.symmetry import reported_space_groups, space_group_symbol
from csp.formula import reduced_formula
from csp.protocols import EnergyModel
from csp.ranking.references import References
from csp.relaxation.relax import enthalpy
from csp.report.results import RankedRun
from csp.systems.acquisition import LEVELS, MISSED, Level, Outlook, prior, spread
from csp.systems.compositions import Composition
from csp.systems.diagram import Diagram
from csp.systems.phases import SystemPhase
from csp.systems.state import Searched

__all__ = ["Knowledge", "library_phases", "searched_phases"]

SYMPREC = 0.1  # Å, as searches report
KEPT = 0.15  # eV/atom above the lowest of its composition: what is higher is no phase of a diagram
SIGMA = 0.05  # eV/atom, of a model that does not tell its own
BY_NAME = {level.name: level for level in LEVELS}


@dataclass(frozen=True)
class Knowledge:
    """All that is known when the next searches are chosen.

    Attributes:
        elements: Of the system.
        compositions: That may be searched, the likeliest first; elements without a reference before them.
        levels: Of the searches.
        labels: Of quick searches, and of the others; equal where one model does all.
        library: The library's crystals, by label.
        searches: That were made, in their order.
        phases: What a search found.
    """

    elements: tuple[str, ...]
    compositions: Sequence[Composition]
    levels: tuple[Level, ...]
    labels: tuple[str, str]
    library: Mapping[str, Sequence[SystemPhase]]
    searches: Sequence[Searched]
    phases: Callable[[Searched], Sequence[SystemPhase]]
    _diagrams: dict[str, Diagram | None] = field(default_factory=dict, repr=False)

    def diagram(self, label: str | None = None) -> Diagram | None:
        """Of all crystals of a label (None: of the label that ranks); None where an element is missing."""
        label = label or self.labels[1]
        if label not in self._diagrams:
            crystals = self.crystals(label)
            lacking = Diagram.lacking(self.elements, crystals)
            self._diagrams[label] = None if lacking else Diagram(self.elements, crystals)
        return self._diagrams[label]

    def crystals(self, label: str) -> list[SystemPhase]:
        """All crystals of a label, each search's once."""
        latest = {one.folder: one for one in self.searches if one.label == label}
        found = [phase for one in latest.values() for phase in self.phases(one)]
        return [*self.library.get(label, ()), *found]

    def done(self, formula: str) -> dict[str, Searched]:
        """The searches of a composition by their level."""
        return {one.level: one for one in self.searches if one.formula == formula}

    def distance(self, formula: str, label: str) -> float | None:
        """eV/atom above the hull of the lowest crystal known of a composition; None: none is known."""
        diagram = self.diagram(label)
        if diagram is None or formula not in diagram.lowest:
            return None
        return diagram.above(diagram.lowest[formula])

    # -- what comes next ------------------------------------------------------------------------------

    def next_level(self, formula: str) -> Level | None:
        """The level of the next search of a composition; None: there is none, or one failed."""
        done = self.done(formula)
        if any(one.why_not for one in done.values()):
            return None
        deepest = max((self._place(name) for name in done if self._place(name) is not None), default=-1)
        if deepest < 0 and len(self.levels) > 1 and self._known_by_ranking_model(formula):
            deepest = 0  # a quick search would say less than is known
        return self.levels[deepest + 1] if deepest + 1 < len(self.levels) else None

    def _place(self, name: str) -> int:
        names = [level.name for level in self.levels]
        return names.index(name) if name in names else len(names) - 1

    def _known_by_ranking_model(self, formula: str) -> bool:
        two = self.labels[0] != self.labels[1]
        return two and any(phase.formula == formula for phase in self.library.get(self.labels[1], ()))

    def outlook(self, composition: Composition) -> Outlook:
        """What is known of a composition before its next search."""
        formula, (quick, ranking) = composition.formula, self.labels
        by_ranking, by_quick = self.distance(formula, ranking), self.distance(formula, quick)
        if by_ranking is not None:
            return Outlook(by_ranking, 0.0, self._missed(formula))
        if by_quick is not None:
            told = self.diagram(quick).lowest[formula].sigma_ev_per_atom  # type: ignore[union-attr]
            return Outlook(by_quick, spread(told or SIGMA, self._differences), self._missed(formula))
        mean, sigma = prior(composition.kind, self._seen(composition))
        return Outlook(mean, sigma, 0.0)

    def _missed(self, formula: str) -> float:
        """Probability that the searches so far have not found the lowest."""
        done = [one for one in self.done(formula).values() if not one.why_not]
        told = [BY_NAME[one.level].missed if one.missed is None else one.missed for one in done]
        return min(told, default=MISSED)

    @cached_property
    def _differences(self) -> list[float]:
        """By how much the model that ranks was off the first, eV/atom, where both are known."""
        quick, ranking = self.labels
        pairs = [
            (self.distance(c.formula, ranking), self.distance(c.formula, quick)) for c in self.compositions
        ]
        return [a - b for a, b in pairs if a is not None and b is not None]

    def _seen(self, like: Composition) -> list[float]:
        """Distances of what was searched of the same kind."""
        searched = {one.formula for one in self.searches}
        found = []
        for one in self.compositions:
            if one.kind == like.kind and one.formula in searched:
                known = [self.distance(one.formula, label) for label in reversed(self.labels)]
                found += [d for d in known if d is not None][:1]
        return found


def library_phases(
    references: References, model: EnergyModel, pressure: float, tell: Callable[[int, int], None]
) -> list[SystemPhase]:
    """The references of a system, relaxed by a model; what was relaxed before is read."""
    found: list[SystemPhase] = []
    for k in range(len(references)):
        tell(k, len(references))
        ids, relaxed = references.relax([k], model, pressure=pressure)
        good = relaxed.with_energy()
        crystals = relaxed.crystals[good]
        per_atom = enthalpy(relaxed.energy[good], crystals.volumes, pressure) / crystals.n_atoms
        groups = reported_space_groups(crystals, SYMPREC)
        for place, (row, energy, group) in enumerate(zip(good, per_atom.tolist(), groups, strict=True)):
            found.append(
                SystemPhase(
                    formula=references.formulas[k],
                    energy_ev_per_atom=energy,
                    label=str(model.label),
                    space_group=space_group_symbol(group) if group else "",
                    space_group_number=group,
                    entry=references.names.get(ids[row], "a library entry"),
                    novelty="known",
                    search="",
                    rank=0,
                    sigma_ev_per_atom=None,
                    crystal=crystals[place],
                    row={},
                )
            )
    tell(len(references), len(references))
    return found


def searched_phases(folder: Path, searched: Searched) -> list[SystemPhase]:
    """What a search found, the low ones.

    Args:
        folder: Of the exploration.
        searched: One of its searches.
    """
    if searched.why_not:
        return []
    path = folder / searched.folder / "ranked.json"
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _read_phases(folder, searched.folder, searched.label, stamp)


@lru_cache(maxsize=2048)
def _read_phases(folder: Path, place: str, label: str, stamp: int) -> list[SystemPhase]:
    """Of a ranking as it was at that time."""
    run = RankedRun.read(folder / place)
    crystals, found = run.crystals(), []
    lowest = min((row["enthalpy_ev_per_atom"] for row in run.results), default=0.0)
    for k, row in enumerate(run.results):
        if row["enthalpy_ev_per_atom"] > lowest + KEPT:
            continue
        entries = row.get("known_as") or []
        found.append(
            SystemPhase(
                formula=reduced_formula(crystals[k].numbers.tolist()),
                energy_ev_per_atom=row["enthalpy_ev_per_atom"],
                label=label,
                space_group=row["spacegroup"],
                space_group_number=row["spacegroup_number"],
                entry=entries[0]["id"] if entries else "",
                novelty=row["novelty"] or "not compared",
                search=place,
                rank=row["rank"],
                sigma_ev_per_atom=row["sigma_ev_per_atom"],
                crystal=crystals[k],
                row=json.loads(json.dumps(row)),
            )
        )
    return found
