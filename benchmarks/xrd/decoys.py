"""Crystals of a composition that a pattern is to tell from the right one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.targets import Known
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.fingerprints import unique
from csp.matching.matcher import Matcher
from generators.templates.template import TemplateGenerator

__all__ = ["Decoys"]

PROPOSED = 80  # by the template generator for each composition, until enough of them are distinct
VOLUME = 0.025  # standard deviation of ln V of decoys, from the right crystal's; 0.1 at most


@dataclass(frozen=True)
class Decoys:
    """What stands beside the right crystal.

    Attributes:
        whole: A library; its other crystals of the composition come first.
        generator: Fills up with other compositions' crystals, the elements put in.
    """

    whole: Library
    generator: TemplateGenerator

    @classmethod
    def of(cls, whole: Library, hidden: Library) -> Decoys:
        return cls(whole, TemplateGenerator(hidden, VolumePrior.load()))

    def beside(self, known: Known, n: int, rng: np.random.Generator, most_atoms: int) -> tuple[Crystals, int]:
        """At most n distinct crystals that pymatgen's default StructureMatcher tells from the right one, with
        its volume per atom to within a few per cent; how many of them are known polymorphs."""
        rows = self.whole.own_rows(known.target)
        polymorphs = self.whole.crystals(rows[self.whole.n_atoms[rows] <= most_atoms])
        proposed = self.generator.propose(known.target, PROPOSED, seed=0).crystals
        everything = Crystals.cat([polymorphs, proposed[proposed.n_atoms <= most_atoms]])
        per_atom = float(known.crystal.volumes[0] / known.crystal.n_atoms[0])
        everything = everything.scaled_to(per_atom * everything.n_atoms)
        first = unique(everything)
        apart = ~torch.as_tensor(Matcher.DEFAULT.fits(known.crystal, everything))
        kept = (first == torch.arange(len(first))) & apart
        chosen = kept.nonzero().flatten()[:n]
        spoilt = np.clip(rng.normal(0, VOLUME, len(chosen)), -0.1, 0.1)
        decoys = everything[chosen]
        return decoys.scaled_to(decoys.volumes * torch.from_numpy(np.exp(spoilt))), int(
            (chosen < len(polymorphs)).sum()
        )
