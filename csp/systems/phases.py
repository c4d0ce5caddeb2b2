"""The crystals that a system's hull is made of, from the library and from searches, under one label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from csp.crystals import Crystals

__all__ = ["SystemPhase", "distinct", "lowest"]

SAME = 0.002  # eV/atom; by less two relaxations of one crystal differ


@dataclass(frozen=True, slots=True, eq=False)
class SystemPhase:
    """One crystal of a system.

    Attributes:
        formula: Reduced, as `Target.formula` writes it.
        energy_ev_per_atom: Energy, or enthalpy under pressure; its meaning is `label`.
        label: Of the energy.
        space_group: Hermann-Mauguin symbol; "" where it is not known.
        space_group_number: 0 where it is not known.
        entry: The library's entry that it is; "" if it is none.
        novelty: "known", "known type" or "new".
        search: Folder of the search that found it, relative to the exploration's; "" for the library's own.
        rank: In that search; 0 for the library's own.
        sigma_ev_per_atom: One standard deviation of the energy; None where the model has none.
        crystal: As relaxed, a batch of one.
        row: Of `ranked.json`, of what a search found; empty for the library's own.
    """

    formula: str
    energy_ev_per_atom: float
    label: str
    space_group: str
    space_group_number: int
    entry: str
    novelty: str
    search: str
    rank: int
    sigma_ev_per_atom: float | None
    crystal: Crystals
    row: dict[str, Any]

    @property
    def n_atoms(self) -> int:
        """In the cell as relaxed."""
        return int(self.crystal.n_atoms[0])

    @property
    def found(self) -> bool:
        """Did a search find it?"""
        return bool(self.search)

    @property
    def entries(self) -> frozenset[str]:
        """All entries of the library that it is; a library has some crystals more than once."""
        return frozenset(one["id"] for one in self.row.get("known_as") or ()) | {self.entry} - {""}

    @property
    def name(self) -> str:
        """Formula, space group and the entry that it is."""
        return " ".join(filter(None, (self.formula, self.space_group, self.entry and f"({self.entry})")))


def distinct(phases: Iterable[SystemPhase]) -> list[list[SystemPhase]]:
    """Crystals that are the same entry of the library, and of the same energy, together: the library's own
    and what searches found of it. Of one search all are different.

    Args:
        phases: Of one label; groups, and crystals in them, keep their order.
    """
    groups: list[list[SystemPhase]] = []
    of_entry: dict[str, list[list[SystemPhase]]] = {}
    for phase in phases:
        near = (group for entry in sorted(phase.entries) for group in of_entry.get(entry, ()))
        group = next((group for group in near if _one_crystal(group, phase)), None)
        if group is None:
            group = []
            groups.append(group)
        group.append(phase)
        for entry in phase.entries:
            of_entry.setdefault(entry, []).append(group)
    return groups


def _one_crystal(group: Sequence[SystemPhase], phase: SystemPhase) -> bool:
    same_energy = abs(group[0].energy_ev_per_atom - phase.energy_ev_per_atom) <= SAME
    return same_energy and not (phase.found and any(one.search == phase.search for one in group))


def lowest(phases: Iterable[SystemPhase]) -> dict[str, SystemPhase]:
    """The lowest crystal of each formula; of equal ones that of the library."""
    best: dict[str, SystemPhase] = {}
    for phase in _in_order(phases):
        best.setdefault(phase.formula, phase)
    return best


def _in_order(phases: Iterable[SystemPhase]) -> Sequence[SystemPhase]:
    return sorted(phases, key=lambda p: (round(p.energy_ev_per_atom, 6), p.found, p.search, p.rank, p.entry))
