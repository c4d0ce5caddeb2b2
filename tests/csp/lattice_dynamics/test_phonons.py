"""Phonons of springs between nearest neighbours of a face-centred lattice, which are known in closed form.

D(q) = k/m Σ n nᵀ (1 − cos q·R) over the twelve neighbours R with directions n.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.data import atomic_masses

from csp.crystals import Crystals
from csp.lattice_dynamics.checking import checked, held, to_check
from csp.lattice_dynamics.displacements import Displaced, displaced, multiples, symmetric_start
from csp.lattice_dynamics.evidence import evidence
from csp.lattice_dynamics.phonons import TEMPERATURES, Harmonic, Phonons, Stability
from tests.springs import Springs

A, K = 4.05, 1.5  # Å, eV/Å²
NEAREST = np.array([v for v in itertools.product((-1, 0, 1), repeat=3) if np.abs(v).sum() == 2]) * A / 2
# rad/s of sqrt(k/m)
UNIT = math.sqrt(K * 1.602176634e-19 / 1e-20 / (atomic_masses[13] * 1.66053906660e-27))
HBAR, KB = 6.582119569e-16, 8.617333262e-5  # eV s, eV/K


def frequencies(q: np.ndarray) -> np.ndarray:
    """[N, 3], THz, at Cartesian wave vectors [N, 3], 1/Å."""
    n = NEAREST / np.linalg.norm(NEAREST, axis=1)[:, None]
    weights = 1 - np.cos(q @ NEAREST.T)
    matrices = np.einsum("nr,ra,rb->nab", weights, n, n)
    return np.sqrt(np.abs(np.linalg.eigvalsh(matrices))) * UNIT / (2e12 * math.pi)


def einstein(omega: np.ndarray, kelvin: float) -> np.ndarray:
    """eV: kT ln(2 sinh(ħω / 2kT)), of an oscillator of ω, rad/s; at 0 K its zero-point energy."""
    quantum = HBAR * omega
    if kelvin == 0:
        return quantum / 2
    x = quantum / (2 * KB * kelvin)
    return KB * kelvin * (x + np.log1p(-np.exp(-2 * x)))


@pytest.fixture(scope="module")
def harmonic() -> Harmonic:
    crystal = symmetric_start(Crystals.from_atoms([bulk("Al", "fcc", a=A)]), 0.01)
    cells = displaced(crystal, 8.0)
    assert cells is not None
    return of_springs(cells)


def of_springs(cells: Displaced, sign: int = 1) -> Harmonic:
    forces = Springs(K, A / math.sqrt(2)).evaluate(cells.crystals, forces=True).forces
    assert forces is not None
    return Harmonic(cells, [sign * one.numpy() for one in forces.split(cells.crystals.n_atoms.tolist())])


@pytest.fixture(scope="module")
def phonons(harmonic: Harmonic) -> Phonons:
    return harmonic.phonons


def test_one_displacement_is_enough_for_a_crystal_of_one_cubic_site(phonons: Phonons) -> None:
    assert (phonons.displacements, phonons.multiples, phonons.supercell_atoms) == (1, (2, 2, 2), 32)
    assert (phonons.space_group, phonons.n_atoms) == (225, 1)


def test_frequencies_are_those_of_the_closed_form(phonons: Phonons) -> None:
    at = {name: phonons.bands.frequency[k] for k, name in phonons.bands.names}
    unit = UNIT / (2e12 * math.pi)
    assert at["X"] == pytest.approx([2 * unit, 2 * unit, math.sqrt(8) * unit], rel=2e-4)
    assert at["L"] == pytest.approx([math.sqrt(2) * unit, math.sqrt(2) * unit, math.sqrt(8) * unit], rel=2e-4)
    assert at["Γ"] == pytest.approx([0, 0, 0], abs=1e-3)


def test_the_whole_path_is_that_of_the_closed_form(phonons: Phonons) -> None:
    """From Γ to X, where the first segment of the path goes."""
    names = dict(phonons.bands.names)
    end = next(k for k, name in names.items() if name == "X")
    q = np.zeros((end + 1, 3))
    q[:, 0] = np.linspace(0, 2 * math.pi / A, end + 1)
    # springs reach the nearest neighbours alone, so that interpolation in a supercell of 2 × 2 × 2 is exact
    assert np.array(phonons.bands.frequency[: end + 1]) == pytest.approx(frequencies(q), rel=1e-3, abs=2e-3)


def test_the_acoustic_modes_vanish_at_gamma_before_the_sum_rule_is_imposed(phonons: Phonons) -> None:
    assert phonons.acoustic < 0.1
    assert phonons.stability is Stability.STABLE
    assert abs(phonons.lowest) < 1e-3
    assert phonons.lowest_exact == pytest.approx(math.sqrt(2) * UNIT / (2e12 * math.pi), rel=1e-3)


def test_the_free_energy_is_that_of_einstein_oscillators_of_all_wave_vectors(phonons: Phonons) -> None:
    grid = (np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"), -1).reshape(-1, 3) + 0.5) / 24
    reciprocal = 2 * math.pi * np.linalg.inv(bulk("Al", "fcc", a=A).cell.array).T
    omega = frequencies(grid @ reciprocal) * 2e12 * math.pi
    assert phonons.free_energy is not None
    for kelvin in (0.0, 300.0, 1000.0):
        expected = float(einstein(omega, kelvin).sum(axis=1).mean())
        assert phonons.free_energy_at(kelvin) == pytest.approx(expected, abs=3e-4)
    assert list(TEMPERATURES) == sorted(TEMPERATURES)
    assert np.all(np.diff(phonons.free_energy) < 0)  # −S is never positive


def test_the_density_of_states_holds_three_modes_an_atom(phonons: Phonons) -> None:
    assert np.trapezoid(phonons.dos[1], phonons.dos[0]) == pytest.approx(3, rel=0.02)


def test_phonopy_reads_the_forces_again(phonons: Phonons, harmonic: Harmonic, tmp_path: object) -> None:
    import phonopy

    path = f"{tmp_path}/phonopy.yaml"
    with open(path, "w", encoding="utf-8") as file:
        file.write(phonons.phonopy_yaml)
    again = phonopy.load(path, log_level=0, produce_fc=True, symmetrize_fc=True)
    assert np.asarray(again.run_qpoints([[0.5, 0.5, 0]]).frequencies)[0] == pytest.approx(
        np.asarray(harmonic.phonopy.run_qpoints([[0.5, 0.5, 0]]).frequencies)[0], abs=1e-3
    )


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [((3.9, 3.9, 3.9), (2, 2, 2)), ((3.2, 5.2, 11.0), (4, 2, 1)), ((10.0, 9.9, 2.5), (1, 2, 4))],
)
def test_supercells_hold_even_multiples_of_short_vectors(
    lengths: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    assert multiples(np.diag(lengths), 10.0) == expected


def test_a_supercell_of_more_than_a_thousand_atoms_is_not_made() -> None:
    crystal = Crystals.from_atoms([bulk("Al", "fcc", a=A, cubic=True)])
    assert displaced(crystal, 40.0) is None


def test_what_is_imaginary_by_interpolation_is_computed_at_its_wave_vector(harmonic: Harmonic) -> None:
    """With springs that push in place of pulling all squares of frequencies change their sign."""
    assert to_check(harmonic) is None
    doubtful = Harmonic(harmonic.displaced, harmonic.forces)
    near = replace(harmonic.phonons, lowest=-1.0, lowest_q=(0.0, 0.19, 0.21))
    vars(doubtful)["phonons"] = near
    assert near.stability is Stability.UNSURE
    cells = to_check(doubtful)
    assert cells is not None
    assert cells.crystals.n_atoms.unique().tolist() == [5]
    exact = of_springs(cells)
    places = exact.commensurate[1:]  # of fifths, without Γ
    assert np.allclose(places * 5, np.rint(places * 5))
    reciprocal = 2 * np.pi * np.linalg.inv(exact.phonopy.primitive.cell).T
    expected = frequencies(places @ reciprocal)
    assert exact.lowest_exact[0] == pytest.approx(expected.min(), rel=1e-3)
    told = checked(near, exact)
    assert (told.stability, told.interpolated) == (Stability.STABLE, -1.0)
    assert told.lowest == min(near.lowest_exact, exact.lowest_exact[0])
    assert told.free_energy == near.free_energy
    pushed = checked(near, of_springs(cells, -1))
    assert pushed.lowest == pytest.approx(-expected.max(), rel=1e-3)
    assert (pushed.stability, pushed.free_energy) == (Stability.UNSTABLE, None)


@pytest.mark.parametrize(
    ("q", "near"),
    [
        ((0.0, 0.19, 0.21), (0, 1 / 5, 1 / 5)),
        ((0.5, 0.34, 0.0), (1 / 2, 1 / 3, 0)),
        ((0.02, 0.0, -0.01), (1 / 6, 0, 0)),
        ((-0.03, 0.03, 0.03), (-1 / 6, 1 / 6, 1 / 6)),
    ],
)
def test_wave_vectors_next_to_gamma_are_checked_in_their_direction(
    q: tuple[float, ...], near: tuple[float, ...]
) -> None:
    assert held(np.array(q)) == pytest.approx(np.array(near))


def test_free_energies_order_crystals_anew(phonons: Phonons) -> None:
    """The stiffer crystal, lower at 0 K, is the higher one when it is warm."""
    from dataclasses import replace

    assert phonons.free_energy is not None
    soft = replace(
        phonons,
        free_energy=tuple(f - 2e-5 * t for f, t in zip(phonons.free_energy, TEMPERATURES, strict=True)),
    )
    told = evidence([phonons, soft, None], [-1.0, -0.99, -1.1])
    assert [one.get("rank_300k") for one in told] == [1, 2, None]
    assert [one.get("rank_1000k") for one in told] == [2, 1, None]
    assert told[2] == {}
    assert told[0]["free_energy_300k_ev_per_atom"] == -1.0 + (phonons.free_energy_at(300.0) or 0)
    assert evidence([], [-1.0]) == [{}]
