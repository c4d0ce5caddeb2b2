"""Pairs of compositions of one ratio that crystallise alike, or do not.

A pair is similar if the answers of its compositions, their entries of the lowest formation energy, match
under pymatgen's anonymous `StructureMatcher`. Pairs come in fours: two compositions of each of two prototypes
of a ratio, which are two similar pairs within the prototypes and two others across. So both classes are of
one size and each composition is as often in the one as in the other: that some prototypes are frequent helps
nobody to classify (the bias of the first CSPML benchmark).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from csp.crystallography.symmetry import primitive
from csp.errors import InputError
from csp.files import write_text
from csp.library.library import Library
from csp.training.splits import composition_name, fold
from generators.templates.neighbour_loss import anonymous_compositions
from generators.templates.prototypes import PrototypeIndex

__all__ = ["Answers", "Pairs", "answers", "by_prototype", "folds", "fours", "judged", "read", "write"]

Ints = NDArray[np.int64]
Four = tuple[Ints, Ints]
"""Rows of two entries of one prototype, and of two of another."""

MIN_ENTRIES = 34  # of a ratio; 85 % of the library have more
SPREAD = 0.5  # a ratio of n answers is drawn with a probability proportional to n^SPREAD
TRIES = 20  # draws for each four that is wanted, before it is said that there are no more


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The answers of n compositions of one ratio: rows of the library and their prototypes, int [n]."""

    rows: Ints
    prototype: Ints

    def among(self, allowed: NDArray[np.bool_]) -> Answers:
        """allowed [N] by the rows of the library."""
        keep = allowed[self.rows]
        return Answers(self.rows[keep], self.prototype[keep])


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P pairs of compositions: rows of their answers in the library, int [P, 2]; similar, bool [P]."""

    rows: Ints
    similar: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.similar)


def folds(library: Library) -> Ints:
    """int [N]: the fold (`csp.training.splits`) of the composition of each row."""
    numbers, counts = library.compositions(np.arange(len(library.material_id)))
    kinds, kind = np.unique(np.hstack([numbers, counts]), axis=0, return_inverse=True)
    named = [composition_name(*np.hsplit(row, 2)) for row in kinds]
    return np.array([fold(name) for name in named])[kind.reshape(-1)]


def answers(library: Library, index: PrototypeIndex, energies: Mapping[str, float]) -> list[Answers]:
    """By ratio: the entry of the lowest known energy (eV/atom, by id) of each composition, where none is
    known its only entry; compositions with several entries and no energy have no answer."""
    energy = np.array([energies.get(name, np.inf) for name in library.material_id])
    found = []
    for anonymous in anonymous_compositions(library, MIN_ENTRIES):
        prototypes = index.of(anonymous)
        elements = library.elements(anonymous)
        _, kind, entries = np.unique(elements, axis=0, return_inverse=True, return_counts=True)
        order = np.lexsort((prototypes.rows, energy[prototypes.rows], kind.reshape(-1)))
        _, first = np.unique(kind.reshape(-1)[order], return_index=True)
        lowest = order[first]
        known = np.isfinite(energy[prototypes.rows[lowest]]) | (entries == 1)
        found.append(Answers(prototypes.rows[lowest[known]], prototypes.number[lowest[known]]))
    return found


def fours(among: Sequence[Answers], seed: int) -> Iterator[Four]:
    """Without end: a ratio, two of its prototypes, each by its number of answers, and two answers of each."""
    random = np.random.default_rng(seed)
    groups = []
    for some in among:
        members = [some.rows[some.prototype == p] for p in np.unique(some.prototype)]
        members = [rows for rows in members if len(rows) > 1]
        if len(members) > 1:
            groups.append(members)
    if not groups:
        raise InputError("No ratio has two prototypes with two answers each: there are no pairs to draw.")
    weight = np.array([float(sum(map(len, members))) for members in groups]) ** SPREAD
    sizes = [np.array([len(rows) for rows in members], np.float64) for members in groups]
    while True:
        k = int(random.choice(len(groups), p=weight / weight.sum()))
        a, b = random.choice(len(groups[k]), 2, replace=False, p=sizes[k] / sizes[k].sum())
        yield tuple(random.choice(groups[k][p], 2, replace=False) for p in (a, b))  # type: ignore[misc]


def by_prototype(some: Iterator[Four], n: int) -> Pairs:
    """n pairs, similar if they are of one prototype; they may repeat."""
    drawn = [next(some) for _ in range(-(-n // 4))]
    return Pairs(np.concatenate([_pairs(*four) for four in drawn])[:n], np.tile(_SIMILAR, len(drawn))[:n])


def judged(
    library: Library, some: Iterator[Four], n: int, say: Callable[[str], None] = lambda text: None
) -> tuple[Pairs, int]:
    """Up to n pairs, each once, that StructureMatcher takes for what their prototypes say; and how many
    fours are left out because it does not."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher, verdict = StructureMatcher(), dict[tuple[int, int], bool]()
    used, found, lost = set[tuple[int, int]](), list[Ints](), 0

    def similar(pair: tuple[int, int]) -> bool:
        if pair not in verdict:
            one, other = primitive(library.crystals(list(pair))).structures()
            verdict[pair] = matcher.fit_anonymous(one, other)
        return verdict[pair]

    for _ in range(TRIES * (-(-n // 4))):
        if 4 * len(found) >= n:
            break
        rows = _pairs(*next(some))
        keys = [(int(a), int(b)) for a, b in np.sort(rows, axis=1)]
        if used.intersection(keys):
            continue
        used.update(keys)
        if all(similar(key) == wanted for key, wanted in zip(keys, _SIMILAR, strict=True)):
            found.append(rows)
            if len(found) % 50 == 0:
                say(f"{4 * len(found):,} of {n:,} pairs")
        else:
            lost += 1
    return Pairs(np.concatenate([*found, np.zeros((0, 2), np.int64)]), np.tile(_SIMILAR, len(found))), lost


def write(path: Path, library: Library, pairs: Pairs) -> None:
    """A line for each pair: two ids, and 1 if they are similar or 0."""
    names = library.material_id[pairs.rows]
    lines = [f"{a} {b} {int(same)}" for (a, b), same in zip(names, pairs.similar, strict=True)]
    write_text(path, "\n".join(lines) + "\n")


def read(path: Path, library: Library, limit: int | None = None) -> Pairs:
    """The first pairs of a file.

    Raises:
        InputError: It is no such file, or the library lacks an entry of it.
    """
    row = {name: k for k, name in enumerate(library.material_id)}
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[:limit]]
        rows = [(row[a], row[b]) for a, b, _ in lines]
        similar = [bool(int(same)) for _, _, same in lines]
    except KeyError as error:
        raise InputError(f"The library has no entry {error} that {path} names.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"The pairs in {path} cannot be read: {error}.") from error
    return Pairs(np.array(rows, np.int64).reshape(-1, 2), np.array(similar, np.bool_))


_SIMILAR = np.array([True, True, False, False])


def _pairs(a: Ints, b: Ints) -> Ints:
    """int [4, 2]: within the one prototype, within the other, and two across."""
    return np.array([[a[0], a[1]], [b[0], b[1]], [a[0], b[0]], [a[1], b[1]]])
