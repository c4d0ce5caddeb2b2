"""How much work a benchmark spends on one target."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["BUDGETS", "Budget", "budget_table"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Settings of `csp.settings.SearchSettings` that cost time.

    Attributes:
        candidates: Proposed by each generator.
        screened: Distinct candidates given a single-point energy.
        relaxed: How many of these are relaxed, by the surrogate if there is one.
        refined: How many of these the relaxer relaxes on, if there is a surrogate.
        max_steps: Steps of a relaxation.
        rattled: Best crystals that are rattled and relaxed without symmetry.
        max_atoms: Atoms in the primitive cell.
    """

    candidates: int
    screened: int
    relaxed: int
    refined: int
    max_steps: int
    rattled: int
    max_atoms: int

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


BUDGETS = {
    "small": Budget(
        candidates=256, screened=768, relaxed=36, refined=12, max_steps=30, rattled=1, max_atoms=40
    ),
    "standard": Budget(
        candidates=500, screened=1500, relaxed=160, refined=40, max_steps=60, rattled=2, max_atoms=120
    ),
    "full": Budget(
        candidates=10240, screened=30720, relaxed=500, refined=100, max_steps=200, rattled=5, max_atoms=120
    ),
}


def budget_table() -> str:
    """The budgets as a Markdown table."""
    names = [field.name for field in fields(Budget)]
    lines = ["| budget | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    lines += [
        f"| {name} | " + " | ".join(f"{value:,}" for value in budget.as_dict().values()) + " |"
        for name, budget in BUDGETS.items()
    ]
    return "\n".join(lines) + "\n"
