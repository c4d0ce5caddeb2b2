"""Is a mode that is imaginary by interpolation so? Frequencies at its wave vector, from a cell that holds it.

Where force constants reach farther than half the supercell, frequencies between the wave vectors that it
holds are wrong, and acoustic branches dip below zero near Γ. A cell that holds the wave vector of the lowest
of them is long in one direction only, so that to compute it exactly costs less than a longer supercell.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from csp.lattice_dynamics.displacements import DISTANCE, LARGEST, Displaced, crystals_of
from csp.lattice_dynamics.following import commensurate_basis
from csp.lattice_dynamics.phonons import IMAGINARY, Harmonic, Phonons, Stability

__all__ = ["checked", "to_check"]

LONGEST = 6  # times the primitive cell, that hold the wave vector


def to_check(harmonic: Harmonic) -> Displaced | None:
    """The supercells that tell; None where there is no question, or they would be too large."""
    from phonopy import Phonopy

    phonons = harmonic.phonons
    if phonons.stability is not Stability.UNSURE:
        return None
    basis = commensurate_basis(held(np.array(phonons.lowest_q)))
    if phonons.n_atoms * round(abs(np.linalg.det(basis))) > LARGEST:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib's of its own future, which phonopy has
        phonopy = Phonopy(harmonic.phonopy.primitive, basis.T, primitive_matrix=np.eye(3), symprec=1e-4)
        phonopy.generate_displacements(distance=DISTANCE)
    cells = [phonopy.supercell, *(phonopy.supercells_with_displacements or [])]
    return Displaced(phonopy, crystals_of(cells), harmonic.displaced.space_group)


def held(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """The wave vector nearest to q, Γ left out, that a cell of few primitive ones holds; where all are far
    from q, which is next to Γ, one in about its direction.

    Args:
        q: [3], in reciprocal vectors of the primitive cell; not Γ.
    """
    q = q * max(1.0, 1.0 / (LONGEST * float(np.abs(q).max())))
    near = [np.rint(q * n) / n for n in range(2, LONGEST + 1)]
    return min((one for one in near if one.any()), key=lambda one: float(np.linalg.norm(one - q)))


def checked(phonons: Phonons, check: Harmonic) -> Phonons:
    """Phonons with what a check found: their lowest are those that were computed exactly.

    Args:
        check: Of the supercells of `to_check`.
    """
    lowest, q = check.lowest_exact
    if lowest > phonons.lowest_exact:
        lowest, q = phonons.lowest_exact, phonons.exact_q
    return replace(
        phonons,
        lowest=lowest,
        lowest_q=q,
        lowest_exact=lowest,
        exact_q=q,
        interpolated=phonons.lowest,
        free_energy=None if lowest < -IMAGINARY else phonons.free_energy,
    )
