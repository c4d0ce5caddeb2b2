"""The card of a ranked crystal in a notebook: the same that the page has."""

from __future__ import annotations

import html
from dataclasses import dataclass

from csp.report.card import Card
from csp.report.description import describe
from csp.report.page import card_page
from csp.search.prediction import RankedCrystal

__all__ = ["NotebookCard"]

HEIGHT = 900  # pixels


@dataclass(frozen=True, slots=True)
class NotebookCard:
    """Draws the crystals of a prediction, each in a frame of its own.

    Attributes:
        symprec: Å.
        pressed: Under pressure?
    """

    formula: str
    models: tuple[str, ...]
    symprec: float
    pressed: bool

    def __call__(self, crystal: RankedCrystal) -> str:
        """The frame as HTML; what is in it is a page that loads nothing."""
        described = describe(crystal.crystal, self.symprec)
        page = card_page(Card(self.formula, crystal.result, described, self.models, {}, pressed=self.pressed))
        return (
            f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" '
            f'title="{html.escape(repr(crystal))}" '
            f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
        )
