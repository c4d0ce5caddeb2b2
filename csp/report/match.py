"""Is a known crystal among the ranked ones of a finished run?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from csp.crystallography.symmetry import reported_space_groups, space_group_symbol
from csp.crystals import Crystals
from csp.errors import InputError
from csp.formula import in_order, read_formula
from csp.library.cif import read_cif
from csp.matching.matcher import Matcher
from csp.report.results import RankedRun
from csp.settings import SearchSettings

__all__ = ["Match", "Matching", "match"]

DEFAULT_SYMPREC: float = SearchSettings.model_fields["symprec"].default
HEAD = ("rank", "space group", "RMS", "volume", "file")


@dataclass(frozen=True, slots=True)
class Match:
    """A ranked crystal that matches the given one.

    Attributes:
        rank: Counted from 1.
        file: Its CIF in the run's folder.
        space_group: Its number; 0 where the analysis fails.
        rms: Root-mean-square displacement of the sites from the crystal's, in units of (V/N)^(1/3).
        volume_ratio: Found / given, per atom: a match means nothing about the volume.
    """

    rank: int
    file: str
    space_group: int
    rms: float
    volume_ratio: float


@dataclass(frozen=True, slots=True)
class Matching:
    """Where a crystal stands in a ranking.

    Attributes:
        formula: The run's formula.
        n_ranked: Crystals that were compared.
        space_group: The given crystal's number; 0 where the analysis fails.
        symprec: Å, of all these space groups: the run's.
        matches: Best-ranked first; none: the crystal is not there.
    """

    formula: str
    n_ranked: int
    space_group: int
    symprec: float
    matches: tuple[Match, ...] = ()

    @property
    def rank(self) -> int | None:
        """Of the best-ranked match; None: the crystal is not among the ranked ones."""
        return self.matches[0].rank if self.matches else None

    def __str__(self) -> str:
        given = f"The given crystal is {_group(self.space_group)} within {self.symprec:g} Å."
        if not self.matches:
            return f"{given} It is not among the {self.n_ranked} ranked crystals of {self.formula}."
        rows = [
            (str(m.rank), _group(m.space_group), f"{m.rms:.4f}", f"{m.volume_ratio:.3f}", m.file)
            for m in self.matches
        ]
        widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in (HEAD, *rows)
        ]
        return "\n".join(
            [
                f"{given} Of {self.n_ranked} ranked crystals of {self.formula} it matches:",
                "",
                *lines,
                "",
                "RMS displacement of the sites in (V/N)^(1/3); volume per atom, the given crystal's being 1.",
                *([why] if (why := self._other_group()) else []),
            ]
        )

    def _other_group(self) -> str:
        """What is to be known of a first match that has another space group."""
        first = self.matches[0]
        if first.space_group == self.space_group:
            return ""
        same = next((m.rank for m in self.matches if m.space_group == self.space_group), None)
        where = (
            "no match has the given one" if same is None else f"the first match with the given one is {same}"
        )
        return (
            f"Rank {first.rank} has another space group than the given crystal, {_group(first.space_group)}: "
            f"it matches within the tolerances alone, and {where}."
        )


def match(cif: Path, run: Path, matcher: Matcher = Matcher.DEFAULT) -> Matching:
    """Look for the crystal of a CIF in the ranking that `csp predict` left in the folder `run`.

    Args:
        cif: The crystal to look for.
        run: The folder; its crystals as relaxed are compared (`structures.extxyz`).
        matcher: The tolerances, pymatgen's default ones.

    Raises:
        InputError: For a CIF that is not one ordered crystal, a folder without a finished prediction, and a
            crystal of another composition.
    """
    truth = read_cif(cif)
    ranked = RankedRun.read(run)
    _check_composition(truth, ranked.formula, cif)
    crystals = ranked.crystals()
    fitting = matcher.fits(truth, crystals).nonzero().flatten().tolist()
    symprec = _symprec(run)
    given, *groups = reported_space_groups(Crystals.cat([truth, crystals[fitting]]), symprec)
    volumes = (crystals.volumes / crystals.n_atoms) / (truth.volumes / truth.n_atoms)
    rms = matcher.rms(truth, crystals[fitting]).tolist()
    matches = [
        Match(ranked.results[k]["rank"], ranked.results[k]["file"], group, shift, float(volumes[k]))
        for k, group, shift in zip(fitting, groups, rms, strict=True)
    ]
    return Matching(ranked.formula, len(crystals), given, symprec, tuple(matches))


def _group(number: int) -> str:
    return f"{space_group_symbol(number)} ({number})" if number else "of no space group"


def _symprec(run: Path) -> float:
    """Å: the tolerance with which the run reported space groups."""
    try:
        return float(json.loads((run / "run.json").read_text(encoding="utf-8"))["settings"]["symprec"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_SYMPREC


def _check_composition(truth: Crystals, formula: str, path: Path) -> None:
    numbers = truth.structures()[0].composition.get_el_amt_dict()
    own = in_order({symbol: round(amount) for symbol, amount in numbers.items()})
    if read_formula(own).counts != read_formula(formula).counts:
        raise InputError(f"{path} is {read_formula(own)}, the prediction is of {formula}.")
