"""The page of an exploration: the diagram, whose marks lead to the phases, tables, and a card for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from csp.report.card import Card
from csp.report.description import Description
from csp.report.page import plain_value, rendered
from csp.report.words import crystal_words, printed_formula
from csp.search.result import Result
from csp.systems.answer import Answer, Told
from csp.systems.picture import diagram_svg

__all__ = ["PhaseCard", "card_of", "render_exploration"]

CARDS = 40  # phases that the page draws; of the others it has the row of the table


@dataclass(frozen=True)
class PhaseCard(Card):
    """The card of a phase of a system, beside others of other formulas.

    Attributes:
        of_library: Is it the library's own crystal, which no search proposed?
    """

    of_library: bool = False

    @property
    def heading(self) -> str:
        return f"{printed_formula(self.formula)}, {crystal_words(self.result)}"

    @property
    def why(self) -> str:
        if self.of_library:
            return f"The library's own crystal {self.result.template_id}, relaxed as a reference of the hull."
        return super().why

    @property
    def done(self) -> str:
        return f"Relaxed by {self.models[-1]}." if self.of_library else super().done


def card_of(told: Told, answer: Answer, crystal: Description, files: dict[str, str]) -> PhaseCard:
    """Of a phase.

    Args:
        crystal: The phase, described.
        files: To save, by name.
    """
    return PhaseCard(
        told.phase.formula,
        _result(told, answer),
        crystal,
        tuple(answer.exploration.models),
        files,
        pressed=answer.exploration.settings.pressure != 0,
        of_library=not told.phase.found,
    )


def _result(told: Told, answer: Answer) -> Result:
    """A phase as a ranked crystal: its number as the rank, energies from the lowest of its formula."""
    phase = told.phase
    assert answer.diagram is not None
    above_lowest = phase.energy_ev_per_atom - answer.diagram.lowest[phase.formula].energy_ev_per_atom
    common: dict[str, Any] = {
        "rank": told.number,
        "file": told.file,
        "above_lowest_ev_per_atom": max(0.0, above_lowest),
        "above_lowest_sigma_ev_per_atom": None,
        "probability": None,
        "e_above_hull_ev_per_atom": told.above,
        "stability": _stability(told),
    }
    if phase.found:
        row = {name: value for name, value in phase.row.items() if name in Result.__slots__}
        return replace(TypeAdapter(Result).validate_python(row), **common)
    structure = phase.crystal.structures()[0]
    return Result(
        id=phase.crystal.ids()[0],
        n_atoms=phase.n_atoms,
        spacegroup=phase.space_group,
        spacegroup_number=phase.space_group_number,
        energy_ev_per_atom=phase.energy_ev_per_atom,
        enthalpy_ev_per_atom=phase.energy_ev_per_atom,
        sigma_ev_per_atom=None,
        density=float(structure.density),
        volume_per_atom=float(structure.volume / len(structure)),
        status="converged",
        generator="library",
        template_id=phase.entry,
        wyckoff="",
        n_duplicates=0,
        **common,
    )


def _stability(told: Told) -> str:
    reaction = told.reaction
    if reaction is None:
        return "an element on the hull"
    much = f"{abs(1000 * reaction.energy_ev_per_atom):.0f} meV/atom"
    words = reaction.words(told.phase.formula)
    if told.stable:
        return f"on the hull; {words} would cost {much}"
    return f"{much} above the hull: {words}"


def render_exploration(answer: Answer, cards: Sequence[PhaseCard]) -> str:
    """The page as HTML; equal answers give equal text, but for the seconds of searches.

    Args:
        cards: Of the first phases.
    """
    exploration = answer.exploration
    links = {
        id(one): f"#crystal-{told.number}" if told.number <= len(cards) else told.page
        for told in answer.phases
        if told.number <= len(cards) or told.page
        for one in told.same
    }
    svg = "" if answer.diagram is None else diagram_svg(exploration.system, answer.diagram, links)
    return rendered(
        "explore.html.jinja",
        cards,
        answer=answer,
        system=exploration.system,
        settings={name: plain_value(v) for name, v in exploration.settings.model_dump(mode="json").items()},
        models=list(exploration.models),
        relaxer_why=exploration.relaxer_why,
        labels=exploration.labels,
        searches=exploration.searches,
        figure=svg,
        drawn=len(cards),
        pressed=exploration.settings.pressure != 0,
        wish=exploration.settings.wish,
        told_of=lambda phase: next(one for one in answer.phases if one.phase is phase),
    )
