"""Simulated patterns of held-out crystals: is the right crystal first among others of its composition?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.targets import Known, held_out
from benchmarks.xrd.decoys import Decoys
from benchmarks.xrd.spoilt import Scan, perfect, relaxed_like, scan, simulate
from csp.crystals import Crystals
from csp.diffraction.fit import Measured
from csp.diffraction.identify import Comparison, compare, fit_known
from csp.diffraction.pattern import Pattern
from csp.files import write_text
from csp.library.library import Library

__all__ = ["Case", "cases", "read_cases"]

MAX_ATOMS = 60  # in a target's cell
DECOYS = 24
DECOY_ATOMS = 100
FITTED = 12  # of the crystals; the others overlap too badly
IMPURITY_ATOMS = 40
NEAR = 1.1  # times the misfit of the right crystal
TWIN = 0.05  # of the intensity of a perfect pattern, by which the fits of twins differ from it at most


@dataclass(frozen=True, slots=True)
class Case:
    """What came of a target. Lists have an entry for each crystal, the right one first.

    Attributes:
        formula: Of the target.
        n_atoms: In its primitive cell.
        polymorphs: Decoys that are known crystals of the composition; the others are substituted ones.
        radiation, counts, below: How it was measured (`Scan`).
        impurities: Their shares of the intensity.
        told: Were they told to the fit?
        alone, misfit, overlap, missing, explained, r_wp: See `Comparison`.
        seconds: Processor time of all.
        twins: Decoys, of those that fit about as well as the right crystal or better, that even a perfect
            pattern does not tell from it.
    """

    formula: str
    n_atoms: int
    polymorphs: int
    radiation: str
    counts: float
    below: float
    impurities: list[float]
    told: bool
    alone: float
    misfit: list[float]
    overlap: list[float]
    missing: list[float]
    explained: list[float]
    r_wp: list[float]
    seconds: float
    twins: list[int] = field(default_factory=list)

    @property
    def compared(self) -> list[Comparison]:
        columns = zip(self.overlap, self.misfit, self.r_wp, self.explained, self.missing, strict=True)
        return [Comparison(o, None, m, r, e, s, self.alone) for o, m, r, e, s in columns]


def read_cases(path: Path) -> list[Case]:
    """Those that were done before."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [Case(**json.loads(line)) for line in lines]


def cases(
    library: Path, energies: Path, out: Path, n: int, entries: int, seed: int, say: Callable[[str], None]
) -> list[Case]:
    """The first n targets; those that `cases.jsonl` in the out folder has are not done again.

    Targets are compositions of the held-out fold of which the library has at least so many entries, in the
    order of a hash (`benchmarks.targets.held_out`); answers have at most `MAX_ATOMS` a cell.
    """
    whole = Library.open(library)
    done = read_cases(out / "cases.jsonl")
    hidden, known = held_out(whole, energies, seed, MAX_ATOMS, entries)
    decoys = Decoys.of(whole, hidden)
    for k, one in enumerate(islice(known, n)):
        if k < len(done):
            continue
        done.append(_case(whole, decoys, one, np.random.default_rng([seed, k])))
        write_text(out / "cases.jsonl", "".join(json.dumps(asdict(case)) + "\n" for case in done))
        say(f"{k + 1:4d}  {_told(done[-1])}")
    return done[:n]


def _case(whole: Library, decoys: Decoys, one: Known, rng: np.random.Generator) -> Case:
    started = time.process_time()
    others, polymorphs = decoys.beside(one, DECOYS, rng, DECOY_ATOMS)
    how = scan(rng)
    pattern, impurities, shares = _sample(whole, one, how, rng)
    told = bool(rng.random() < 0.5)
    measured = Measured.of(pattern)
    beside = fit_known(measured, [relaxed_like(c, rng) for c in impurities]) if told else None
    crystals = Crystals.cat([relaxed_like(one.crystal, rng), others])
    found = compare(measured, crystals, beside, most=FITTED)
    return Case(
        formula=one.target.formula,
        n_atoms=int(one.crystal.n_atoms[0]),
        polymorphs=polymorphs,
        radiation=how.radiation.name,
        counts=round(how.counts),
        below=round(how.below, 3),
        impurities=[round(share, 3) for share in shares],
        told=told,
        alone=round(found[0].alone, 1),
        **{
            name: [round(float(getattr(c, name)), 4) for c in found]
            for name in ("misfit", "overlap", "missing", "explained", "r_wp")
        },
        seconds=round(time.process_time() - started, 1),
        twins=_twins(one.crystal, crystals, [c.misfit for c in found], how),
    )


def _twins(right: Crystals, crystals: Crystals, misfit: list[float], how: Scan) -> list[int]:
    """See `Case.twins`."""
    near = [k for k in range(1, len(misfit)) if misfit[k] < NEAR * misfit[0]]
    if not near:
        return []
    measured = Measured.of(perfect(right, how))
    found = compare(measured, crystals[near])
    net = measured.pattern.intensity - measured.below
    alike = []
    for k, one in zip(near, found, strict=True):
        if one.fitted is not None:
            left = np.abs(measured.pattern.intensity - one.fitted.total).sum()
            alike += [k] if left < TWIN * net.sum() else []
    return alike


def _sample(
    whole: Library, one: Known, how: Scan, rng: np.random.Generator
) -> tuple[Pattern, list[Crystals], list[float]]:
    """A pattern of the crystal and none, one or two others of the library, these, and their shares."""
    rows = whole.all_rows()
    rows = rows[whole.n_atoms[rows] <= IMPURITY_ATOMS]
    n = int(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]))
    impurities = [whole.crystals([int(row)]) for row in rng.choice(rows, n, replace=False)]
    shares = rng.uniform(0.02, 0.3, n).tolist()
    phases = [(one.crystal, 1 - sum(shares)), *zip(impurities, shares, strict=True)]
    return simulate(one.target.formula, phases, how, rng), impurities, shares


def _told(case: Case) -> str:
    rank = 1 + sum(m < case.misfit[0] for m in case.misfit[1:])
    beside = " and ".join(f"{share:.0%}" for share in case.impurities) or "nothing"
    told = ", told" if case.told and case.impurities else ""
    return (
        f"{case.formula:20} {case.n_atoms:3d} atoms, {len(case.misfit) - 1:2d} decoys "
        f"({case.polymorphs} known), "
        f"{beside} beside it{told}: rank {rank}, misfit {case.misfit[0]:.2f}, "
        f"next {min(case.misfit[1:], default=1):.2f}, {case.seconds:.0f} s"
    )
