"""Did a search relax a crystal to the ground truth within its time, when, and how low did it come?"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.baselines.record import Relaxed
from csp.crystallography.neighbours import crowding
from csp.crystals import Crystals
from csp.matching.matcher import Matcher

__all__ = ["SAME", "Outcome", "judge"]

SAME = 0.001  # eV/atom, within which two relaxations may end at the same crystal


class Outcome(BaseModel):
    """One search for one formula.

    Attributes:
        name: Of the target.
        n_atoms: In the primitive cell of the ground truth.
        found: Was a crystal relaxed to the ground truth (`StructureMatcher`, its own tolerances)?
        first_hit_s: Core seconds from the start of the program to the first such crystal.
        relaxed: Crystals with an energy that means something.
        converged: Of these.
        collapsed: With atoms closer than in any real crystal; they are counted nowhere else.
        lowest_above_truth: Of all relaxed, eV/atom by the same potential.
        hit_above_lowest: Of the lowest that is the ground truth; 0: it leads the energies.
        core_seconds: That cores worked for the program.
        wall_seconds: That passed.
        failed: Why the program ended before its time, "" where it did not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    name: str
    formula: str
    n_atoms: int
    found: bool
    first_hit_s: float | None
    relaxed: int
    converged: int
    collapsed: int
    lowest_above_truth: float | None
    hit_above_lowest: float | None
    core_seconds: float
    wall_seconds: float
    failed: str

    def line(self) -> str:
        """For the terminal."""
        place = f"found after {self.first_hit_s:.0f} s" if self.first_hit_s is not None else "not found"
        if self.lowest_above_truth is not None:
            place += f", lowest {1000 * self.lowest_above_truth:+.0f} meV/atom from the truth"
        return f"{self.formula:12} {self.arm:10} {place}, {self.relaxed} relaxed" + (
            f"; {self.failed}" if self.failed else ""
        )


def judge(relaxed: Relaxed, truth: Crystals, truth_energy: float | None, most: float) -> dict[str, object]:
    """What an outcome tells of the crystals that were relaxed in the first `most` core seconds.

    Args:
        truth: One crystal.
        truth_energy: Its own, relaxed by the same potential, eV/atom; None: it has none.
    """
    in_time = relaxed.take(relaxed.seconds <= most)
    sound = (crowding(in_time.crystals) >= 1).numpy()
    kept = in_time.take(sound)
    hits = Matcher.DEFAULT.fits(truth, kept.crystals).numpy() if len(kept.crystals) else np.zeros(0, np.bool_)
    lowest = float(kept.energy.min()) if len(kept.energy) else None
    return {
        "found": bool(hits.any()),
        "first_hit_s": float(kept.seconds[hits].min()) if hits.any() else None,
        "relaxed": len(kept.energy),
        "converged": int(kept.converged.sum()),
        "collapsed": int((~sound).sum()),
        "lowest_above_truth": _rounded(lowest, truth_energy),
        "hit_above_lowest": _rounded(float(kept.energy[hits].min()), lowest) if hits.any() else None,
    }


def _rounded(energy: float | None, reference: float | None) -> float | None:
    return None if energy is None or reference is None else round(energy - reference, 5)
