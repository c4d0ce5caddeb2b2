"""Is a known crystal among the ranked ones of a finished run?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.cif import read_cif
from csp.matching.matcher import Matcher

__all__ = ["Match", "match", "read_run"]


@dataclass(frozen=True, slots=True)
class Match:
    """Where a crystal stands in a ranking; rank and what follows it are None where it is not there.

    Attributes:
        formula: The run's formula.
        n_ranked: Crystals that were compared.
        rank: Rank of the best-ranked match, counted from 1.
        file: Its CIF in the run's folder.
        rms: Root-mean-square displacement of the sites from the crystal's, in units of (V/N)^(1/3).
        volume_ratio: Found / given, per atom: a match means nothing about the volume.
        also: Further ranks that match.
    """

    formula: str
    n_ranked: int
    rank: int | None = None
    file: str | None = None
    rms: float | None = None
    volume_ratio: float | None = None
    also: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.rank is None:
            return f"Not among the {self.n_ranked} ranked crystals of {self.formula}."
        also = f"; so do the ranks {', '.join(map(str, self.also))}" if self.also else ""
        return (
            f"Rank {self.rank} of {self.n_ranked} ({self.file}) matches: RMS displacement {self.rms:.4f} "
            f"(V/N)^(1/3), volume {self.volume_ratio:.3f} times the given crystal's{also}."
        )


def match(cif: Path, run: Path, matcher: Matcher = Matcher.DEFAULT) -> Match:
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
    ranked, crystals = read_run(run)
    formula = ranked["formula"]
    _check_composition(truth, formula, cif)
    fitting = matcher.fits(truth, crystals).nonzero().flatten().tolist()
    if not fitting:
        return Match(formula, len(crystals))
    found = crystals[fitting[0]]
    best = ranked["results"][fitting[0]]
    return Match(
        formula=formula,
        n_ranked=len(crystals),
        rank=best["rank"],
        file=best["file"],
        rms=float(matcher.rms(truth, found)),
        volume_ratio=float(found.volumes / found.n_atoms * truth.n_atoms / truth.volumes),
        also=tuple(ranked["results"][k]["rank"] for k in fitting[1:]),
    )


def read_run(folder: Path) -> tuple[dict[str, Any], Crystals]:
    """`ranked.json` and the crystals of its results, in their order."""
    from ase.io import read

    if not (folder / "ranked.json").is_file():
        raise InputError(f"{folder} holds no finished prediction: there is no ranked.json in it.")
    try:
        ranked = json.loads((folder / "ranked.json").read_text(encoding="utf-8"))
        frames = read(folder / "structures.extxyz", index=":") if ranked["results"] else []
        if [atoms.info["rank"] for atoms in frames] != [result["rank"] for result in ranked["results"]]:
            raise ValueError("ranked.json and structures.extxyz disagree")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"The prediction in {folder} is damaged: {error}.") from error
    return ranked, Crystals.from_atoms(frames)


def _check_composition(truth: Crystals, formula: str, path: Path) -> None:
    from pymatgen.core import Composition

    [structure] = truth.structures()
    own = structure.composition.reduced_composition
    if own != Composition(formula).reduced_composition:
        raise InputError(f"{path} is {own.reduced_formula}, the prediction is of {formula}.")
