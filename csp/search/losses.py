"""What a search lost, in sentences for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from csp.protocols import EnergyModel
from csp.relaxation.relax import RelaxationResult
from csp.search.holes import DEEP
from csp.store.store import Tally

__all__ = ["fallen_into_holes", "lost_in_relaxing", "not_built"]


def lost_in_relaxing(relaxed: RelaxationResult, model: str) -> list[str]:
    """Why there is little or nothing to rank, where most relaxations by the last model failed."""
    n, good = len(relaxed.status), len(relaxed.with_energy())
    if 2 * good > n:
        return []
    if not n:
        return [f"Nothing could be ranked: no candidate was left for {model} to relax."]
    why = Counter(str(status) for status in relaxed.status if not status.has_energy)
    counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in why.most_common())
    start = f"Of {n} crystals that {model} relaxed {good or 'none'} can be ranked"
    return [f"{start} ({counts}); it may not be fit for this composition or pressure."]


def fallen_into_holes(n: int, models: Sequence[EnergyModel]) -> list[str]:
    """What the last of these models is not believed."""
    if not n:
        return []
    first, last = models[0].name, models[-1].name
    what, them = ("crystal is", "it") if n == 1 else ("crystals are", "them")
    why = f"{last} has a hole there, {first} holds {them} for more than {DEEP:g} eV/atom higher"
    return [f"{n} {what} not ranked: {why}."]


def not_built(tallies: dict[str, Tally]) -> Iterator[str]:
    """What generators were asked for and could not make."""
    for generator, tally in tallies.items():
        for reason, count in sorted(tally.failed.items()):
            if reason == "exhausted":
                had = tally.requested - count
                yield f"{generator} had {had} candidates for this formula, {tally.requested} were asked for."
            else:
                yield f"{generator}: {count} of {tally.requested} candidates could not be built ({reason})."
