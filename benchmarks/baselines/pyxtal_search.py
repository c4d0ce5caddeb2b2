"""Random symmetric crystals of PyXtal, relaxed through ASE: `python -m benchmarks.baselines.pyxtal_search
GaAs --relaxer chgnet --out OUT`.

For each crystal the number of formula units and the space group are drawn evenly, PyXtal does the rest by its
defaults (Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021)); what cannot be is drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from benchmarks.baselines.by_ase import search
from csp.errors import MissingError
from csp.target import Target

__all__ = ["crystals"]


def crystals(target: Target, seed: int) -> Iterator[Atoms]:
    """Crystals without end, each in a cell of as many atoms as was drawn.

    Raises:
        MissingError: PyXtal is not installed.
    """
    try:
        from pyxtal import pyxtal
        from pyxtal.msg import Error
    except ImportError as error:
        raise MissingError("This search is PyXtal's: pip install 'csp-engine[benchmarks]'.") from error
    rng = np.random.default_rng(seed)
    symbols = [chemical_symbols[number] for number in target.numbers]
    while True:
        units, group = int(rng.choice(target.formula_units)), int(rng.integers(1, 231))
        numbers = [units * count for count in target.counts]  # in the primitive cell
        crystal = pyxtal()
        try:
            crystal.from_random(3, group, symbols, numbers, conventional=False, random_state=rng)
        except (Error, RuntimeError):  # so many atoms do not fit this group; drawn anew
            continue
        if crystal.valid:
            structure = crystal.to_pymatgen()
            if len(structure) != sum(numbers):
                structure = structure.get_primitive_structure()
            yield structure.to_ase_atoms()


if __name__ == "__main__":
    search(crystals)
