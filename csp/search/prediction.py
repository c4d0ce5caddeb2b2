"""What a search ends with: the ranked crystals and how it came to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

from csp.crystals import Crystals
from csp.errors import ContractError, MissingError
from csp.protocols import Label
from csp.ranking.hull import Hull
from csp.search.ranked_crystal import RankedCrystal
from csp.search.ranking_table import RankingTable, ranking_table
from csp.search.result import Result, Unranked, Variant, cif_path
from csp.target import Target

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Prediction", "RankedCrystal", "Result", "Unranked", "Variant", "cif_path"]

IN_TERMINAL, IN_NOTEBOOK = 10, 20  # crystals that are shown without being asked for


@dataclass(frozen=True, slots=True, repr=False)
class Prediction(Sequence[RankedCrystal]):
    """The ranking of one target, best first: a sequence of `RankedCrystal`s.

    found[0] is the best, found[:5] are the five best, and a notebook shows the ranking as a table.

    Attributes:
        target: What was asked for.
        label: The one label of all energies; None only when nothing could be ranked.
        results: R ranked crystals, ranks 1 … R.
        crystals: The same R crystals as relaxed.
        funnel: Crystals left after each stage, in order: proposed, built, plausible, unique, labelled (with
            a labeller), pre_relaxed, relaxed, refined (with two models), converged, ranked.
        unranked: What was relaxed in vain.
        failed: Stage → status → relaxations that ended without an energy.
        relaxer_why: Why the last model is that one, a clause for people.
        warnings: Sentences for people.
        order: What the ranks are by, "probability" or "energy".
        decomposition: What the convex hull at this composition is made of: formula → share of the atoms;
            empty where there is no hull.
        hull: The convex hull of the library's crystals; None where there is none.
        card: Draws one of its crystals as HTML for a notebook; None: they are shown as text.
        known_before: What the library knew of the target, a sentence; "" if it was not asked.
        models: Names of the energy models, in the order of their work: the first screened and relaxed, the
            last, if another, refined; its energies rank.
    """

    target: Target
    label: Label | None
    results: list[Result]
    crystals: Crystals
    funnel: dict[str, int]
    unranked: list[Unranked] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    models: tuple[str, ...] = ()
    order: str = "energy"
    known_before: str = ""
    failed: dict[str, dict[str, int]] = field(default_factory=dict)
    relaxer_why: str = ""
    decomposition: dict[str, float] = field(default_factory=dict)
    hull: Hull | None = None
    card: Callable[[RankedCrystal], str] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if len(self.results) != len(self.crystals):
            raise ContractError(f"{len(self.results)} results came with {len(self.crystals)} crystals.")
        if [r.rank for r in self.results] != list(range(1, len(self.results) + 1)):
            raise ContractError("The ranks of a prediction are not 1, 2, 3, … in order.")
        if self.results and self.label is None:
            raise ContractError("Ranked energies need a label.")

    @property
    def mostly_failed(self) -> bool:
        """Is there nothing to rank, or did most relaxations by the last model end without an energy?"""
        stage, count = ("refine", "refined") if "refined" in self.funnel else ("relax", "relaxed")
        lost = sum(self.failed.get(stage, {}).values())
        return not self.results or 2 * lost >= self.funnel.get(count, 0) > 0

    @property
    def who_did_what(self) -> str:
        """For people: "xs screened and relaxed, chgnet refined"; empty if not known."""
        did = ("screened and relaxed", "refined")
        return ", ".join(f"{name} {what}" for name, what in zip(self.models, did, strict=False))

    @property
    def ordered_by(self) -> str:
        """What the ranks are by: "probability", "energy" or, under pressure, "enthalpy"."""
        return "enthalpy" if self.order == "energy" and self.target.pressure else self.order

    @property
    def has_hull(self) -> bool:
        """Is it known how far the results are above the convex hull?"""
        return any(result.e_above_hull_ev_per_atom is not None for result in self.results)

    @property
    def has_probability(self) -> bool:
        """Is it known how probable the results are to be the ground truth?"""
        return any(result.probability is not None for result in self.results)

    @property
    def probability_of_none(self) -> float:
        """That the ground truth is none of the results, where probabilities are known."""
        return 1.0 - sum(result.probability or 0.0 for result in self.results)

    # -- for work in Python -------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> RankedCrystal: ...

    @overload
    def __getitem__(self, index: slice) -> list[RankedCrystal]: ...

    def __getitem__(self, index: int | slice) -> RankedCrystal | list[RankedCrystal]:
        """The crystal at a place, rank 1 at place 0, or those of a slice as a list."""
        if isinstance(index, slice):
            return [self[k] for k in range(len(self))[index]]
        return RankedCrystal(self.results[index], self.crystals[index], self.card)

    def __iter__(self) -> Iterator[RankedCrystal]:
        return (self[k] for k in range(len(self)))

    def to_frame(self) -> pd.DataFrame:
        """The ranking as a pandas table: a row for each crystal by its rank, columns as in `ranked.csv`.

        Raises:
            MissingError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingError("Tables need pandas: pip install 'csp-engine[notebook]'.") from error
        rows = [result.as_dict() for result in self.results]
        return pd.DataFrame(rows, columns=list(Result.__slots__)).set_index("rank")

    def table(self, top: int | None = None) -> RankingTable:
        """The first `top` of the ranking, or all of it, as a table of text."""
        return ranking_table(
            self.results,
            len(self) if top is None else top,
            title=f"{self.target.formula} · {self.label or 'nothing could be ranked'}",
            pressed=self.target.pressure != 0,
            order=self.ordered_by,
            notes=[self.who_did_what] if self.models else [],
        )

    def __repr__(self) -> str:
        return self.table(IN_TERMINAL).text()

    def _repr_html_(self) -> str:
        """For notebooks."""
        return self.table(IN_NOTEBOOK).html()
