"""From forces to phonons: frequencies along a path and on a mesh, their lowest, the free energy.

Force constants are made to obey the acoustic sum rule; how far they missed it before is told. Frequencies are
exact at the wave vectors that the supercell holds and interpolated between them. There is no splitting of
longitudinal and transverse optical modes at Γ: potentials know no Born charges.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from csp.lattice_dynamics.displacements import Displaced

if TYPE_CHECKING:
    from phonopy import Phonopy

__all__ = ["IMAGINARY", "TEMPERATURES", "Bands", "Harmonic", "Phonons", "Stability"]

IMAGINARY = 0.1  # THz; lower in size a negative frequency is an error of forces
BETWEEN = 0.3  # THz; the same between the wave vectors that the supercell holds
MESH = 50.0  # Å: the mesh is as fine as that of a crystal whose supercell has this length
STEP = 0.03  # 1/Å between wave vectors of the path
TEMPERATURES = tuple(float(t) for t in range(0, 1501, 50))
"""K, at which the free energy is told."""
KJ_PER_MOL = 1.602176634e-19 * 6.02214076e23 / 1000  # in an eV, exact in the SI of 2019

Floats = NDArray[np.float64]


class Stability(StrEnum):
    """What the phonons say of a crystal."""

    STABLE = "stable"
    UNSTABLE = "unstable"  # imaginary at a wave vector that the supercell holds
    UNSURE = "unsure"  # imaginary only between them, and that was not checked


@dataclass(frozen=True, slots=True)
class Bands:
    """Frequencies along a path.

    Attributes:
        distance: [P], 1/Å, along the path.
        frequency: P lists of the frequencies, THz, lowest first; imaginary ones are negative.
        names: (place in `distance`, name) of the points with one, "Γ".
    """

    distance: list[float]
    frequency: list[list[float]]
    names: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Phonons:
    """The harmonic phonons of one crystal; frequencies in THz, imaginary ones negative.

    Attributes:
        space_group: Its number; 1 where the analysis fails.
        n_atoms: In the primitive cell.
        multiples: Of the conventional cell's vectors in the supercell.
        supercell_atoms: In the supercell.
        displacements: Supercells with an atom displaced.
        lowest: Over path, mesh and the wave vectors that the supercell holds; once checked, of exact ones.
        lowest_q: Where, in reciprocal vectors of the primitive cell.
        lowest_exact: Over the wave vectors that the supercell holds, the three translations left out.
        exact_q: Where.
        acoustic: The largest in size of the three translations at Γ before the sum rule: the error of forces.
        bands: Along a path of high symmetry (seekpath: Hinuma et al., Comput. Mater. Sci. 128, 140 (2017)).
        dos: (frequencies, density), states per THz and primitive cell.
        free_energy: eV/atom of the harmonic oscillators at `TEMPERATURES`, the volume kept; at 0 K the
            zero-point energy. None where modes are imaginary.
        phonopy_yaml: Cells, displacements and forces, as phonopy reads them.
        interpolated: The lowest by interpolation, near which an exact frequency was computed
            (`csp.lattice_dynamics.checking`), which is among the others then; None: that was not needed.
    """

    space_group: int
    n_atoms: int
    multiples: tuple[int, int, int]
    supercell_atoms: int
    displacements: int
    lowest: float
    lowest_q: tuple[float, float, float]
    lowest_exact: float
    exact_q: tuple[float, float, float]
    acoustic: float
    bands: Bands
    dos: tuple[list[float], list[float]]
    free_energy: tuple[float, ...] | None
    phonopy_yaml: str
    interpolated: float | None = None

    @property
    def stability(self) -> Stability:
        """Is it stable against small displacements?"""
        if self.lowest_exact < -IMAGINARY:
            return Stability.UNSTABLE
        return Stability.UNSURE if self.lowest < -BETWEEN else Stability.STABLE

    def free_energy_at(self, kelvin: float) -> float | None:
        """eV/atom, at one of `TEMPERATURES`."""
        return None if self.free_energy is None else self.free_energy[TEMPERATURES.index(kelvin)]

    def as_dict(self) -> dict[str, Any]:
        """JSON values, without the forces."""
        told = {**asdict(self), "stability": str(self.stability), "temperatures": TEMPERATURES}
        return {name: value for name, value in told.items() if name != "phonopy_yaml"}


@dataclass(frozen=True, eq=False)
class Harmonic:
    """The force constants of one crystal.

    Attributes:
        displaced: Its supercells.
        forces: Of each atom, eV/Å, [n, 3] of each supercell, the one without displacement first.
    """

    displaced: Displaced
    forces: Sequence[Floats]

    @cached_property
    def _made(self) -> tuple[Phonopy, float]:
        """With force constants, and the largest acoustic frequency at Γ before the sum rule."""
        phonopy = self.displaced.phonopy
        at_rest, *moved = self.forces
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of phonopy's own future
            phonopy.forces = np.array([one - at_rest for one in moved])
            phonopy.produce_force_constants(show_drift=False)
            at_gamma = np.sort(np.abs(self._frequencies(phonopy, [[0.0, 0.0, 0.0]])[0]))
            # twice: the second keeps what the first has left of the others
            phonopy.symmetrize_force_constants(level=2, show_drift=False)
        return phonopy, float(at_gamma[:3].max())

    @property
    def phonopy(self) -> Phonopy:
        """With force constants that obey the sum rule."""
        return self._made[0]

    @staticmethod
    def _frequencies(phonopy: Phonopy, q: Any) -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(phonopy.run_qpoints(np.asarray(q, dtype=np.float64)).frequencies)

    @cached_property
    def commensurate(self) -> Floats:
        """[N, 3]: the wave vectors that the supercell holds, Γ first, in reciprocal vectors of the primitive
        cell, components within (−½, ½]."""
        from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

        phonopy = self.displaced.phonopy
        matrix = np.linalg.inv(phonopy.primitive_matrix) @ phonopy.supercell_matrix
        points = np.asarray(get_commensurate_points(np.rint(matrix).astype(int)))
        points = points - np.ceil(points - 0.5 - 1e-9)
        return points[np.argsort(np.abs(points).sum(axis=1), kind="stable")] + 0.0

    @cached_property
    def _exact(self) -> Floats:
        """[N]: the lowest frequency of each wave vector that the supercell holds."""
        exact = self._frequencies(self.phonopy, self.commensurate)
        translations = np.argsort(np.abs(exact[0]))[:3]
        exact[0, translations] = np.inf  # they are no vibrations
        return np.asarray(exact.min(1))

    @property
    def lowest_exact(self) -> tuple[float, tuple[float, float, float]]:
        """THz, and where; 0 of a crystal that has no vibrations there."""
        k = int(self._exact.argmin())
        lowest = float(self._exact[k])
        return lowest if np.isfinite(lowest) else 0.0, _point(self.commensurate[k])

    @cached_property
    def phonons(self) -> Phonons:
        """All that is told of them."""
        phonopy, acoustic = self._made
        exact, (lowest_exact, exact_q) = self._exact, self.lowest_exact
        bands, q_of_path = self._bands(phonopy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mesh = phonopy.run_mesh(MESH, is_gamma_center=True)
        points = [self.commensurate, q_of_path, np.asarray(mesh.qpoints)]
        lows = [exact, np.array([f[0] for f in bands.frequency]), np.asarray(mesh.frequencies).min(1)]
        everywhere, where = np.concatenate(lows), np.concatenate(points)
        lowest = int(everywhere.argmin())
        primitive = len(phonopy.primitive)
        found = Phonons(
            space_group=self.displaced.space_group,
            n_atoms=primitive,
            multiples=tuple(int(n) for n in np.diag(phonopy.supercell_matrix)),  # type: ignore[arg-type]
            supercell_atoms=len(phonopy.supercell),
            displacements=len(self.forces) - 1,
            lowest=float(everywhere[lowest]),
            lowest_q=_point(where[lowest]),
            lowest_exact=lowest_exact,
            exact_q=exact_q,
            acoustic=acoustic,
            bands=bands,
            dos=self._dos(phonopy),
            free_energy=None,
            phonopy_yaml=str(phonopy.to_phonopy_yaml()),
        )
        if found.stability is Stability.UNSTABLE:
            return found
        return replace(found, free_energy=self._free_energy(phonopy))

    @staticmethod
    def _free_energy(phonopy: Phonopy) -> tuple[float, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            thermal = phonopy.run_thermal_properties(temperatures=TEMPERATURES, exclude_gamma_acoustic=True)
        per_cell = np.asarray(thermal.free_energy) / KJ_PER_MOL
        return tuple((per_cell / len(phonopy.primitive)).tolist())

    @staticmethod
    def _dos(phonopy: Phonopy) -> tuple[list[float], list[float]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = phonopy.run_total_dos()
        return np.asarray(found.frequency_points).tolist(), np.asarray(found.dos).tolist()

    @classmethod
    def _bands(cls, phonopy: Phonopy) -> tuple[Bands, Floats]:
        """Along the path of high symmetry, and the wave vectors of it."""
        import seekpath

        cell = phonopy.primitive
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = seekpath.get_explicit_k_path_orig_cell(
                (cell.cell, cell.scaled_positions, cell.numbers), reference_distance=STEP, symprec=1e-4
            )
        q = np.asarray(path["explicit_kpoints_rel"])
        names = [(k, _name(name)) for k, name in enumerate(path["explicit_kpoints_labels"]) if name]
        distance = np.asarray(path["explicit_kpoints_linearcoord"]).tolist()
        return Bands(distance, cls._frequencies(phonopy, q).tolist(), names), q


def _point(q: Floats) -> tuple[float, float, float]:
    a, b, c = (round(float(x), 6) + 0.0 for x in q)
    return a, b, c


def _name(name: str) -> str:
    """Such as "Γ" or "H₂"."""
    greek = {"GAMMA": "Γ", "DELTA": "Δ", "LAMBDA": "Λ", "SIGMA": "Σ"}
    letter, _, number = name.partition("_")
    return greek.get(letter, letter) + number.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
