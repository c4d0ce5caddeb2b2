"""Relaxation of one crystal after the other through ASE, as other programs do it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS

from benchmarks.baselines.record import Record, asked
from benchmarks.core_time import core_seconds
from csp.crystallography.neighbours import crowding
from csp.crystals import Crystals
from csp.target import Target
from surrogates.ase_calculator import ASECalculator
from surrogates.zoo import load_model

__all__ = ["MAX_FORCE", "MAX_STEPS", "ByASE", "relaxer", "search"]

MAX_FORCE = 0.05  # eV/Å, also of the cell's degrees of freedom; the engine's default
MAX_STEPS = 200
HOPELESS = 1000.0  # eV/atom
GREATEST_CHANGE = 8.0  # of the volume; what goes beyond has come apart or collapsed


class ByASE:
    """Positions and cell by ASE's L-BFGS and `FrechetCellFilter`; what has an energy in the end is noted."""

    def __init__(self, model: str, record: Record) -> None:
        self.calculator = ASECalculator(load_model(model, "cpu"))
        self.record = record

    def relax(self, atoms: Atoms) -> tuple[Atoms, float, bool]:
        """The relaxed crystal, its energy in eV per cell, NaN if it came apart, and whether it converged."""
        relaxed = Atoms(atoms.get_chemical_symbols(), atoms.get_positions(), cell=atoms.get_cell(), pbc=True)
        relaxed.calc = self.calculator
        before, energy, converged = relaxed.get_volume(), math.nan, False
        steps = LBFGS(FrechetCellFilter(relaxed), logfile=None).irun(fmax=MAX_FORCE, steps=MAX_STEPS)
        try:
            for forces_are_small in steps:
                converged = bool(forces_are_small)
                energy = relaxed.get_potential_energy()
                change = relaxed.get_volume() / before
                if not (math.isfinite(energy) and 1 / GREATEST_CHANGE < change < GREATEST_CHANGE):
                    return relaxed, math.nan, False
        except (np.linalg.LinAlgError, ValueError):  # the cell has no logarithm any more
            return relaxed, math.nan, False
        relaxed.wrap()
        self.record.add(Crystals.from_atoms([relaxed]), [energy / len(relaxed)], [converged])
        return relaxed, energy, converged

    def relax_for_cryspy(self, atoms: Atoms) -> tuple[Atoms, float, bool]:
        """`relax`, as CrySPY's `optimize_structure` has to be: its evolution (1.5.0) ends at the first
        structure without a finite energy. One that came apart or collapsed gets an energy that
        none survives."""
        relaxed, energy, converged = self.relax(atoms)
        if math.isfinite(energy) and float(crowding(Crystals.from_atoms([relaxed]))[0]) >= 1:
            return relaxed, energy, converged
        return atoms, HOPELESS * len(atoms), False


@cache
def relaxer(model: str, record: Record) -> ByASE:
    """One for a process and those that it forks: weights are read once."""
    return ByASE(model, record)


def search(crystals: Callable[[Target, int], Iterator[Atoms]]) -> None:
    """The program of a search: relax what is drawn, for the target, seed and minutes of the command line."""
    ask = asked()
    relaxer = ByASE(ask.relaxer, ask.record)
    for atoms in crystals(ask.target, ask.seed):
        if core_seconds() > 60 * ask.minutes:
            break
        relaxer.relax(atoms)
