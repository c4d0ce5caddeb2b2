"""What a search ends with: the ranked crystals and how it came to them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from csp.crystals import Crystals
from csp.errors import ContractError
from csp.protocols import Label
from csp.ranking.known import KnownAs
from csp.target import Target

__all__ = ["Prediction", "Result", "Unranked", "cif_path"]


def cif_path(rank: int) -> str:
    """The place of a ranked crystal's CIF in the out folder."""
    return f"structures/{rank:03d}.cif"


@dataclass(frozen=True, slots=True)
class Result:
    """One ranked crystal. The fields, in this order, are the keys of `ranked.json` and `ranked.csv`.

    id                    hash of the relaxed crystal (`Crystals.ids`)
    file                  its CIF, relative to the out folder (`cif_path`)
    n_atoms               atoms in the relaxed cell, on which volume and energies per atom stand
    spacegroup, spacegroup_number   of the relaxed crystal, Hermann-Mauguin and International Tables; "" and
                          0 where the analysis fails
    energy_ev_per_atom    E; its meaning is the prediction's label
    enthalpy_ev_per_atom  H = E + PV at the target's pressure; what the ranking is by
    sigma_ev_per_atom     one standard deviation of the energy, None where the model has none
    density               g/cm³
    volume_per_atom       Å³
    status                how its relaxation ended (`csp.relaxation.relax.Status`)
    generator, template_id, wyckoff   where the candidate came from (`csp.protocols.Provenance`)
    proposed_by           all generators that proposed it or a duplicate of it, separated by spaces
    n_duplicates          other relaxed crystals that are this one again
    above_lowest_ev_per_atom   energy, or enthalpy under pressure, above the lowest of all that were ranked,
                          which may be too improbable to be among the results
    lowered_ev_per_atom   what the free relaxation after rattling gained over the symmetry-keeping one,
                          ≥ 0; None where it was not tried
    e_above_hull_ev_per_atom   above what the library's phases have at this composition
                          (`csp.ranking.references`), in energy, or in enthalpy under pressure; negative
                          where it would be more stable; None where it was not asked for or a reference is
                          missing
    rank_energy           the rank by energy, or by enthalpy under pressure
    rank_probability      the rank by probability, None where it is not known
    probability           of being the ground truth (`csp.ranking.probability`), None if not calibrated
    known_as              entries of the library of this composition that it is, by StructureMatcher
    prototype             AFLOW label of its structure type, with the common name where there is one
    same_type_as          an entry of another composition with its structure; "" where there is none, and where it
                          is known itself
    novelty               "known", "known type" or "new"; "" where it was not compared
    """

    rank: int
    id: str
    file: str
    n_atoms: int
    spacegroup: str
    spacegroup_number: int
    energy_ev_per_atom: float
    enthalpy_ev_per_atom: float
    sigma_ev_per_atom: float | None
    density: float
    volume_per_atom: float
    status: str
    generator: str
    template_id: str
    wyckoff: str
    n_duplicates: int
    above_lowest_ev_per_atom: float
    lowered_ev_per_atom: float | None = None
    e_above_hull_ev_per_atom: float | None = None
    rank_energy: int | None = None
    rank_probability: int | None = None
    probability: float | None = None
    proposed_by: str = ""
    known_as: tuple[KnownAs, ...] = ()
    prototype: str = ""
    same_type_as: str = ""
    novelty: str = ""

    @property
    def above_lowest(self) -> float:
        """meV/atom."""
        return 1000 * self.above_lowest_ev_per_atom

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "known_as": [entry.as_dict() for entry in self.known_as]}


@dataclass(frozen=True, slots=True)
class Unranked:
    """A crystal that was chosen for relaxation but has no place in the ranking, and why."""

    id: str
    status: str
    generator: str
    template_id: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The ranking of one target, best first.

    label      the one label of all energies; None only when nothing could be ranked
    results    R ranked crystals, ranks 1 … R
    crystals   the same R crystals as relaxed
    funnel     crystals left after each stage, in order: proposed, built, plausible, unique, relaxed,
               converged, ranked
    unranked   what was relaxed in vain
    failed     stage → status → relaxations that ended without an energy
    warnings   sentences for people
    order      what the ranks are by, "probability" or "energy"
    known_before   what the library knew of the target, a sentence; "" if it was not asked
    models     names of the energy models, in the order of their work: the first screened and relaxed, the
               last, if another, refined; its energies rank
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
