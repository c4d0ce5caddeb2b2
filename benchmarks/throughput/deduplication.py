"""Duplicates a second, against pymatgen: `python -m benchmarks.throughput.deduplication`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from benchmarks.machine import threads
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.fingerprints import unique
from csp.matching.matcher import Matcher
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from generators.templates.template import TemplateGenerator

T = TypeVar("T")

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = ["DedupRate", "dedup_rate", "mixed_candidates", "reference_groups"]

COPY_NOISE = (0.0, 0.01, 0.05, 0.1)  # Å, of the copies in a sample
SHARE_COPIES = 0.5


@dataclass(frozen=True, slots=True)
class DedupRate:
    """Grouping n candidates of one composition; CPU seconds of one core (wall seconds on a GPU).

    Attributes:
        seconds: Of `Matcher.group`.
        reference_seconds: Of `StructureMatcher.group_structures`: its reductions and its comparisons, which
            the groups tell exactly, each counted with the mean time of a random sample.
        reference_error: Standard error of that, seconds.
        ratio: `reference_seconds` / `seconds`.
        unique_seconds: Of `csp.matching.fingerprints.unique`, the fingerprints alone.
        checked: Of the candidates grouped by StructureMatcher itself as well: how many, how many of them got
            another group, the seconds of both, and their ratio.
    """

    formula: str
    n: int
    n_groups: int
    comparisons: int
    seconds: float
    reference_seconds: float
    reference_error: float
    ratio: float
    unique_seconds: float
    checked: int
    checked_different: int
    checked_seconds: float
    checked_reference_seconds: float
    checked_ratio: float


def dedup_rate(
    n: int = 10_000,
    *,
    formula: str = "CaCO3",
    library: Path | None = None,
    n_checked: int = 1000,
    n_timed: int = 1000,
    seed: int = 0,
    device: str = "cpu",
) -> DedupRate:
    """Group n mixed candidates; `n_timed` reductions and comparisons of pymatgen are timed to know
    what all would take it, and the first `n_checked` candidates are grouped by pymatgen itself."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    with threads(1):
        crystals = mixed_candidates(n, formula=formula, library=library, seed=seed).to(device)
        matcher = Matcher.DEFAULT
        matcher.group(crystals[:64])
        seconds, group = _timed(clock, lambda: matcher.group(crystals).cpu().numpy())
        unique_seconds, _ = _timed(clock, lambda: unique(crystals))
        reference, error = _reference_seconds(crystals, group, n_timed, np.random.default_rng(seed))
        first = crystals[:n_checked]
        checked_seconds, mine = _timed(clock, lambda: matcher.group(first).cpu().numpy())
        checked_reference, theirs = _timed(time.process_time, lambda: reference_groups(first.structures()))
    return DedupRate(
        formula=formula,
        n=n,
        n_groups=len(np.unique(group)),
        comparisons=int(_comparisons(group).sum()),
        seconds=seconds,
        reference_seconds=reference,
        reference_error=error,
        ratio=reference / seconds,
        unique_seconds=unique_seconds,
        checked=len(first),
        checked_different=int((mine != theirs).sum()),
        checked_seconds=checked_seconds,
        checked_reference_seconds=checked_reference,
        checked_ratio=checked_reference / checked_seconds,
    )


def mixed_candidates(
    n: int, *, formula: str = "CaCO3", library: Path | None = None, seed: int = 0
) -> Crystals:
    """n candidates of both generators in random order, half of them copies of others in another
    place, shaken by up to 0.1 Å."""
    target = Target.parse(formula, max_atoms=20)
    known = Library.open(library).excluding(target)
    volume = VolumePrior.load()
    n_distinct = n - int(n * SHARE_COPIES)
    templates = TemplateGenerator(known, volume).propose(target, n_distinct // 2, seed=seed).crystals
    random = RandomGenerator(known, volume).propose(target, n_distinct, seed=seed).crystals
    distinct = Crystals.cat([templates, random[: n_distinct - len(templates)]])
    generator = np.random.default_rng(seed)
    copies = distinct[generator.integers(len(distinct), size=n - len(distinct))]
    noise = torch.as_tensor(generator.choice(COPY_NOISE, len(copies)) / math.sqrt(3))
    moves = torch.as_tensor(generator.normal(size=copies.frac.shape)) * noise[copies.batch, None]
    shift = torch.as_tensor(generator.random((len(copies), 3)))[copies.batch]
    frac = (
        copies.frac + torch.einsum("ai,aij->aj", moves, torch.linalg.inv(copies.cell)[copies.batch]) + shift
    )
    copies = copies.with_geometry(copies.cell, frac)
    return Crystals.cat([distinct, copies])[generator.permutation(n)]


def reference_groups(structures: list[Structure]) -> np.ndarray:
    """int [B]: the first member of each structure's group, by StructureMatcher."""
    from pymatgen.core.structure_matcher import StructureMatcher

    place = {id(structure): k for k, structure in enumerate(structures)}
    first = np.zeros(len(structures), dtype=int)
    for group in StructureMatcher().group_structures(structures):
        members = [place[id(structure)] for structure in group]
        first[members] = members[0]
    return first


def _comparisons(group: np.ndarray) -> np.ndarray:
    """int [G]: how many candidates StructureMatcher compares with each leader, which are all that the
    leaders before it left over."""
    leaders = np.unique(group)
    return len(group) - np.searchsorted(np.sort(group), leaders) - 1


def _reference_seconds(
    crystals: Crystals, group: np.ndarray, n_timed: int, generator: np.random.Generator
) -> tuple[float, float]:
    """CPU seconds StructureMatcher needs to group, and their standard error."""
    from pymatgen.core.structure_matcher import StructureMatcher

    matcher, structures = StructureMatcher(), crystals.structures()
    leaders, counts = np.unique(group), _comparisons(group)

    def reduced(k: int) -> Structure:
        return matcher._get_reduced_structure(structures[k])

    def fit(one: Structure, other: Structure) -> bool:
        return matcher.fit(one, other, skip_structure_reduction=True)

    alone = generator.choice(len(structures), min(n_timed, len(structures)), replace=False)
    reductions = [_timed(time.process_time, partial(reduced, k))[0] for k in alone]
    comparisons = []
    for leader in generator.choice(leaders, n_timed, p=counts / counts.sum()):
        left = np.flatnonzero(group >= leader)
        other = generator.choice(left[left != leader])
        comparisons.append(_timed(time.process_time, partial(fit, reduced(leader), reduced(other)))[0])
    totals = [(len(structures), reductions), (int(counts.sum()), comparisons)]
    mean = sum(n * float(np.mean(times)) for n, times in totals)
    variance = sum((n * float(np.std(times))) ** 2 / len(times) for n, times in totals)
    return mean, math.sqrt(variance)


def _timed(clock: Callable[[], float], work: Callable[[], T]) -> tuple[float, T]:
    start = clock()
    result = work()
    return clock() - start, result


if __name__ == "__main__":
    print(asdict(dedup_rate()))
