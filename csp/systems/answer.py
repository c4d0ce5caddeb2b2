"""What an exploration says: the phases on the hull and near it, and what is not known."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from csp.systems.diagram import Diagram, Reaction
from csp.systems.exploration import ENDINGS, Exploration
from csp.systems.known import Knowledge
from csp.systems.phases import SystemPhase, distinct
from csp.systems.wish import Wish, Wished

__all__ = ["Answer", "Told"]

DECIMALS = 6
MOST = 200  # phases above the hull that are told


@dataclass(frozen=True, slots=True)
class Told:
    """A phase and its place in the diagram.

    Attributes:
        number: In the tables and on the page, from 1.
        same: Relaxations of this crystal, the library's own and those of searches, the lowest first.
        above: eV/atom above the hull; 0 on it.
        formation: eV/atom, from the elements.
        reaction: What it decomposes into, or would without itself; None for an element that is stable.
        potentials: Of a stable phase, see `Diagram.potentials`.
        page: Where that search's page shows it, from the exploration's folder; "": no search found it.
    """

    number: int
    same: Sequence[SystemPhase]
    stable: bool
    above: float
    formation: float
    reaction: Reaction | None
    potentials: dict[str, tuple[float | None, float]]
    page: str

    @property
    def phase(self) -> SystemPhase:
        """The lowest of them."""
        return self.same[0]

    @property
    def found(self) -> SystemPhase | None:
        """As a search found it; None: none did."""
        return next((one for one in self.same if one.found), None)

    @property
    def file(self) -> str:
        """Its CIF, in the exploration's folder."""
        return f"structures/{self.number:03d}-{self.phase.formula}.cif"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        phase, reaction = self.phase, self.reaction
        return {
            "number": self.number,
            "formula": phase.formula,
            "stable": self.stable,
            "space_group": phase.space_group,
            "space_group_number": phase.space_group_number,
            "n_atoms": phase.n_atoms,
            "energy_ev_per_atom": round(phase.energy_ev_per_atom, DECIMALS),
            "sigma_ev_per_atom": phase.sigma_ev_per_atom,
            "formation_ev_per_atom": round(self.formation, DECIMALS),
            "above_hull_ev_per_atom": round(self.above, DECIMALS),
            "novelty": phase.novelty,
            "entry": phase.entry,
            "search": self.found.search if self.found else "",
            "rank": self.found.rank if self.found else 0,
            "reaction": "" if reaction is None else reaction.words(phase.formula),
            "reaction_ev_per_atom": reaction and round(reaction.energy_ev_per_atom, DECIMALS),
            "chemical_potentials_ev": {
                element: [None if low is None else round(low, DECIMALS), round(high, DECIMALS)]
                for element, (low, high) in self.potentials.items()
            },
            "file": self.file,
        }


@dataclass(frozen=True)
class Answer:
    """Of an exploration as far as it is.

    Attributes:
        exploration: Whose answer it is.
        ended: A key of `ENDINGS`; "": it goes on.
    """

    exploration: Exploration
    ended: str = ""

    @cached_property
    def knowledge(self) -> Knowledge:
        return self.exploration.knowledge()

    @cached_property
    def diagram(self) -> Diagram | None:
        """By the model that ranks; None where a crystal of an element is missing."""
        return self.knowledge.diagram()

    @cached_property
    def phases(self) -> list[Told]:
        """Those on the hull, then those near it; one that the library has and a search found is told once."""
        diagram = self.diagram
        if diagram is None:
            return []
        stable = diagram.stable
        near = diagram.near(self.exploration.settings.within / 1000)
        groups = distinct([*stable, *near])[: len(stable) + MOST]
        return [
            self._told(number, same, number <= len(stable)) for number, same in enumerate(groups, start=1)
        ]

    def _told(self, number: int, same: Sequence[SystemPhase], stable: bool) -> Told:
        assert self.diagram is not None
        phase = same[0]
        return Told(
            number,
            same,
            stable,
            self.diagram.above(phase),
            self.diagram.formation(phase),
            self.diagram.reaction(phase),
            self.diagram.potentials(phase) if stable else {},
            next((self._page(one) for one in same if one.found), ""),
        )

    def _page(self, found: SystemPhase) -> str:
        place = found.search
        if Path(place).is_absolute():  # of an earlier exploration
            place = os.path.relpath(place, self.exploration.out)
        return f"{place}/report.html#crystal-{found.rank}"

    @property
    def stable(self) -> list[Told]:
        """On the hull."""
        return [one for one in self.phases if one.stable]

    @cached_property
    def promising(self) -> list[tuple[SystemPhase, float]]:
        """Lowest crystals of quick searches within reach of the hull by the model of those, eV/atom above it,
        of compositions of which the model that ranks has none."""
        quick, ranking = self.exploration.labels
        screened = self.knowledge.diagram(quick)
        if quick == ranking or screened is None:
            return []
        examined = {} if self.diagram is None else self.diagram.lowest
        found = [(p, screened.above(p)) for f, p in screened.lowest.items() if f not in examined]
        within = self.exploration.settings.within / 1000
        return sorted(((p, d) for p, d in found if d <= within), key=lambda pair: (pair[1], pair[0].formula))

    @cached_property
    def wished(self) -> list[Wished]:
        """Phases within reach of the hull by how much they are what is wished for."""
        text = self.exploration.settings.wish
        return Wish.parse(text).order([one.phase for one in self.phases]) if text else []

    # -- in words ---------------------------------------------------------------------------------------

    def sentences(self) -> list[str]:
        """The answer: what is stable, how much of it is new, what is near."""
        exploration = self.exploration
        if self.diagram is None:
            lacking = Diagram.lacking(
                exploration.system.elements, self.knowledge.crystals(exploration.labels[1])
            )
            return [f"There is no hull: no crystal of {', '.join(lacking)} is known or was found yet."]
        compounds = [one for one in self.stable if one.phase.formula not in exploration.system.elements]
        new = [one for one in compounds if one.phase.novelty != "known"]
        near = len(self.phases) - len(self.stable)
        formulas = ", ".join(one.phase.formula for one in compounds)
        count = f"{len(compounds)} compound{'s' if len(compounds) != 1 else ''}"
        lie = "lie" if len(compounds) != 1 else "lies"
        said = [
            f"{count} of {'-'.join(exploration.system.elements)} {lie} on the hull"
            f"{f': {formulas}' if formulas else ''}."
        ]
        if compounds:
            said.append(
                "All of them are known."
                if not new
                else f"Of {', '.join(one.phase.formula for one in new)} the library has no such crystal."
            )
        said.append(f"{near} further crystals lie within {exploration.settings.within:g} meV/atom above it.")
        return said

    def progress(self) -> str:
        """What was done, in one sentence."""
        exploration = self.exploration
        levels = [level.name for level in exploration.settings.levels]
        counted = [(name, sum(one.level == name for one in exploration.searches)) for name in levels]
        by_level = ", ".join(f"{n} {name}" for name, n in counted if n)
        made = len(exploration.searches)
        looked_at = len({one.formula for one in exploration.searches})
        end = f" It ended because {ENDINGS[self.ended]}." if self.ended else ""
        return (
            f"{made} search{'es' if made != 1 else ''}{f' ({by_level})' if by_level else ''} of "
            f"{looked_at} of "
            f"{len(exploration.compositions)} compositions.{end}"
        )

    def doubts(self) -> list[str]:
        """What people should know."""
        exploration, said = self.exploration, list[str]()
        references = exploration.references
        said += [exploration.library.note] if exploration.library.note else []
        said += [references.why_not] if references.why_not else [*references.missing, *references.left_out]
        if exploration.settings.exclude:
            left_out = ", ".join(exploration.settings.exclude)
            said.append(
                f"Left out of the library: {left_out}; what was found of it is compared with it all the same."
            )
        if self.promising:
            listed = ", ".join(f"{p.formula} ({1000 * d:.0f})" for p, d in self.promising)
            said.append(
                "By quick searches alone, whose energies are of another model, these lie near the hull "
                f"(meV/atom) and may be on it: {listed}."
            )
        failed = [one for one in exploration.searches if one.why_not]
        said += [f"The {one.level} search of {one.formula} gave nothing: {one.why_not}" for one in failed]
        unsearched = len(exploration.compositions) - len({one.formula for one in exploration.searches})
        if unsearched > 0:
            said.append(
                f"{unsearched} compositions have not been searched; a larger budget goes on with them."
            )
        return [sentence if sentence.endswith(".") else f"{sentence}." for sentence in said]

    # -- as data ------------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """As in `explore.json`."""
        exploration = self.exploration
        return {
            "schema": 1,
            "system": exploration.system.name,
            "elements": list(exploration.system.elements),
            "label": exploration.labels[1],
            "models": list(exploration.models),
            "pressure_gpa": exploration.settings.pressure,
            "ended": self.ended,
            "answer": " ".join(self.sentences()),
            "progress": self.progress(),
            "notes": self.doubts(),
            "phases": [one.as_dict() for one in self.phases],
            "promising": [
                {"formula": p.formula, "label": p.label, "above_hull_ev_per_atom": round(d, DECIMALS)}
                for p, d in self.promising
            ],
            "wish": exploration.settings.wish,
            "wished": [
                {
                    "number": next(t.number for t in self.phases if t.phase is one.phase),
                    "formula": one.phase.formula,
                    "value": one.value,
                    "sigma": one.sigma,
                    "unit": one.unit,
                    "outside": one.outside,
                    "why_not": one.why_not,
                }
                for one in self.wished
            ],
            "searches": [one.model_dump(mode="json") for one in exploration.searches],
            "compositions": [
                {"formula": c.formula, "kind": c.kind, "of_ratio": c.of_ratio}
                for c in exploration.compositions
            ],
            "settings": exploration.settings.model_dump(mode="json"),
        }
