"""What decorated skeletons add: is the truth among the template proposals, and of its own ratio or another?

Of each target the own composition is left out of the library. Nothing is relaxed; crystals are compared under
the default tolerances.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.ground_truth import Truth
from csp.files import write_json
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.matcher import Matcher
from csp.target import Target
from generators.templates.template import TemplateGenerator

__all__ = ["Sought", "measure", "seek", "summary"]

MAX_ATOMS = 100


@dataclass(frozen=True, slots=True)
class Sought:
    """One target.

    Attributes:
        formula: Of it.
        of_ratio: Proposals of its own ratio; the others are decorated skeletons.
        proposed: Of all.
        rank: Place of the first that is the truth, None if none is.
        entry: The library's entry that it was made from, "" if none was.
        seconds: Of the proposing, of one thread.
    """

    formula: str
    of_ratio: int
    proposed: int
    rank: int | None
    entry: str
    seconds: float

    @property
    def decorated(self) -> bool:
        """Is it a decorated skeleton that is the truth?"""
        return self.rank is not None and self.rank > self.of_ratio


def measure(
    truths: Sequence[Truth], library: Library, out: Path, *, among: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Look for each truth among so many proposals; write `skeletons.json` and `summary.json` after each.

    Returns:
        The summary.
    """
    found: list[Sought] = []
    told: dict[str, Any] = {}
    for k, truth in enumerate(truths, start=1):
        found.append(seek(truth, library, among))
        one = found[-1]
        where = f"{one.rank or '-':>4}  {one.entry if one.decorated else ''}"
        say(f"{k:4d}/{len(truths)}  {one.formula:20} {one.of_ratio:4d} of its ratio  {where}")
        told = {"library": library.fingerprint, "among": among, **summary(found)}
        write_json(out / "skeletons.json", {"targets": [asdict(one) for one in found]})
        write_json(out / "summary.json", told)
    return told


def seek(truth: Truth, library: Library, among: int) -> Sought:
    """Look for one truth among the first proposals."""
    target = Target.parse(truth.formula, max_atoms=max(MAX_ATOMS, int(truth.crystal.n_atoms[0])))
    generator = TemplateGenerator(library.excluding(target), VolumePrior.load())
    begin = time.process_time()
    made = generator.propose(target, among, seed=0)
    seconds = round(time.process_time() - begin, 2)
    hits = Matcher.DEFAULT.fits(truth.crystal, made.crystals).nonzero().flatten().tolist()
    first = made.provenance[hits[0]] if hits else None
    return Sought(
        target.formula,
        generator.of_ratio(target, among),
        len(made.crystals),
        first.index + 1 if first else None,
        first.template_id if first else "",
        seconds,
    )


def summary(found: Iterable[Sought]) -> dict[str, Any]:
    """Flat counts: how many are found by entries of their own ratio, and how many more by skeletons."""
    listed = list(found)
    return {
        "n": len(listed),
        "found_of_ratio": sum(one.rank is not None and not one.decorated for one in listed),
        "found_decorated": sum(one.decorated for one in listed),
        "with_room_for_skeletons": sum(one.proposed > one.of_ratio for one in listed),
        "seconds_mean": round(sum(one.seconds for one in listed) / max(len(listed), 1), 2),
        "seconds_most": max((one.seconds for one in listed), default=0.0),
    }
