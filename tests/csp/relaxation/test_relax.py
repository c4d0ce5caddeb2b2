"""Relaxation against ASE's optimiser, closed forms and its own batch."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from csp.crystallography.neighbours import crowding
from csp.crystallography.operations import operations
from csp.crystallography.surroundings import Surroundings
from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.protocols import Evaluation
from csp.relaxation.rattle import doubled, rattle
from csp.relaxation.relax import Status, relax
from tests.lennard_jones import LennardJones

EV_PER_A3_IN_GPA = 160.2176634
MODEL = LennardJones()


def starts() -> Crystals:
    """Binary and elemental cells off their minima, some without symmetry."""
    rng = np.random.default_rng(3)
    salt = bulk("NaCl", "rocksalt", a=5.9)
    cesium = bulk("CsCl", "cesiumchloride", a=4.3)
    copper = bulk("Cu", "fcc", a=3.5)
    shaken = bulk("Cu", "fcc", a=3.6, cubic=True)
    shaken.positions += rng.normal(0, 0.04, shaken.positions.shape)
    shaken.set_cell(shaken.cell.array @ (np.eye(3) + rng.normal(0, 0.01, (3, 3))), scale_atoms=True)
    return Crystals.from_atoms([salt, cesium, copper, shaken])


class OurCalculator(Calculator):
    """ASE's view of an energy model of ours, so that ASE's optimisers can run on it."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        result = MODEL.evaluate(Crystals.from_atoms([atoms]), forces=True)
        stress = result.stress[0].numpy()
        self.results = {
            "energy": float(result.energy),
            "forces": result.forces.numpy(),
            "stress": stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }


@pytest.mark.parametrize("pressure", [0.0, 5.0])
def test_same_minima_as_ase(pressure: float) -> None:
    ours = relax(starts(), MODEL, max_steps=500, max_force=3e-3, pressure=pressure)
    assert ours.status == [Status.CONVERGED] * 4
    for b, atoms in enumerate(starts().atoms()):
        atoms.calc = OurCalculator()
        filtered = FrechetCellFilter(atoms, scalar_pressure=pressure / EV_PER_A3_IN_GPA)
        FIRE(filtered, logfile=None).run(fmax=3e-3, steps=2000)
        volume = atoms.get_volume()
        enthalpy = atoms.get_potential_energy() + pressure / EV_PER_A3_IN_GPA * volume
        mine = float(ours.energy[b] + pressure / EV_PER_A3_IN_GPA * ours.crystals.volumes[b])
        assert mine == pytest.approx(enthalpy, abs=1e-4 * len(atoms))
        assert float(ours.crystals.volumes[b]) == pytest.approx(volume, rel=3e-3)


def test_residual_stress_is_the_pressure() -> None:
    pressure = 20.0
    ends = relax(starts(), MODEL, max_steps=500, max_force=1e-3, pressure=pressure)
    stress = MODEL.evaluate(ends.crystals, forces=True).stress * EV_PER_A3_IN_GPA
    expected = -pressure * torch.eye(3, dtype=torch.float64).expand(4, 3, 3)
    torch.testing.assert_close(stress, expected, atol=0.05, rtol=0)


def test_batch_gives_what_its_members_give_alone() -> None:
    together = relax(starts(), MODEL, max_steps=60)
    for b in range(4):
        alone = relax(starts()[b], MODEL, max_steps=60)
        assert alone.status[0] == together.status[b]
        assert int(alone.steps[0]) == int(together.steps[b])
        torch.testing.assert_close(alone.crystals.cell[0], together.crystals.cell[b], atol=1e-8, rtol=0)


def test_inputs_are_untouched_and_zero_steps_is_a_single_point() -> None:
    crystals = starts()
    before = (crystals.cell.clone(), crystals.frac.clone())
    ends = relax(crystals, MODEL, max_steps=0)
    assert torch.equal(crystals.cell, before[0])
    assert torch.equal(crystals.frac, before[1])
    torch.testing.assert_close(ends.energy, MODEL.evaluate(crystals).energy)
    assert ends.status[3] == Status.MAX_STEPS
    assert ends.steps.tolist() == [0, 0, 0, 0]


def test_symmetry_is_kept_when_asked() -> None:
    """Rutile-like cells under Lennard-Jones want to leave their group; kept operations hold them."""
    rutile = Atoms(
        "Ti2O4",
        scaled_positions=[
            [0, 0, 0], [.5, .5, .5], [.3, .3, 0], [.7, .7, 0], [.2, .8, .5], [.8, .2, .5],
        ],
        cell=[4.7, 4.7, 3.1], pbc=True,
    )  # fmt: skip
    crystals = Crystals.from_atoms([rutile, bulk("NaCl", "rocksalt", a=5.5)])
    assert space_groups(crystals) == [136, 225]
    ends = relax(crystals, MODEL, max_steps=150, symmetry=operations(crystals))
    assert space_groups(ends.crystals, 1e-3)[1] == 225
    kept = operations(ends.crystals, 1e-3)
    assert int(kept.n_operations[0]) >= 16


def test_every_end_has_a_status() -> None:
    class Odd(LennardJones):
        """Knows neither krypton nor what to do with xenon."""

        elements = LennardJones.elements - {36}

        def evaluate(
            self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
        ) -> Evaluation:
            assert 36 not in crystals.numbers
            result = super().evaluate(crystals, forces=forces)
            bad = (crystals.numbers == 54).double()
            result.energy[crystals.batch[bad.bool()]] = torch.nan
            return result

    far = Atoms("He2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[1.0, 1.0, 1.0], pbc=True)
    crystals = Crystals.from_atoms([bulk("Kr", "fcc", a=5.6), bulk("Xe", "fcc", a=6.2), bulk("Cu"), far])
    ends = relax(crystals, Odd(), max_steps=300)
    assert ends.status[:3] == [Status.UNSUPPORTED_ELEMENT, Status.NONFINITE, Status.CONVERGED]
    assert ends.status[3] == Status.EXPLODED
    assert torch.isnan(ends.energy[:2]).all()
    torch.testing.assert_close(ends.crystals.cell[0], crystals.cell[0])


def test_empty_batch() -> None:
    assert relax(Crystals.empty(), MODEL).status == []


def test_doubled_cells_hold_the_same_crystal() -> None:
    crystal = starts()[3]
    for q in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)]:
        big = doubled(crystal, q)
        assert float(big.volumes) == pytest.approx(2 * float(crystal.volumes))
        torch.testing.assert_close(
            MODEL.evaluate(big).energy, 2 * MODEL.evaluate(crystal).energy, atol=1e-9, rtol=0
        )
        basis = torch.linalg.solve(crystal.cell[0].T, big.cell[0].T).T
        phases = basis @ torch.tensor(q, dtype=torch.float64)
        assert torch.equal(phases.round() % 2, torch.zeros(3, dtype=torch.float64))


def test_one_start_for_each_star_of_a_cubic_crystal() -> None:
    """X, M and R of a simple cubic lattice; only the own cell where doubling would be too large."""
    cubic = Crystals.from_atoms([bulk("CsCl", "cesiumchloride", a=4.1)])
    found = rattle(cubic, operations(cubic), seed=0)
    assert sorted(sum(q) for q in found.q) == [0, 1, 2, 3]
    assert found.parent == [0, 0, 0, 0]
    small = rattle(cubic, operations(cubic), seed=0, largest_doubled=2)
    assert small.q == [(0, 0, 0)]


def test_rattled_crystals_leave_the_saddle() -> None:
    """Rocksalt is no minimum of this pair potential, only of its own symmetry."""
    salt = Crystals.from_atoms([bulk("NaCl", "rocksalt", a=5.5)])
    kept = relax(salt, MODEL, symmetry=operations(salt), max_steps=300, max_force=0.01)
    assert kept.status == [Status.CONVERGED]
    starts = rattle(kept.crystals, operations(kept.crystals), seed=1).crystals
    freed = relax(starts, MODEL, max_steps=400, max_force=0.01)
    per_atom = freed.energy / freed.crystals.n_atoms
    assert float(per_atom.min()) < float(kept.energy[0]) / 2 - 0.02


def test_atoms_that_fall_into_each_other_are_no_crystal() -> None:
    """By hand: in sodium Na-Na may come to half the sum of radii (1.66 Å), in a salt, as Na-Cl, to 0.6."""
    sodium = bulk("Na", "sc", a=1.0)

    def near(atoms: Atoms, distance: float, pressure: float = 0.0) -> float:
        scaled = atoms.copy()
        scaled.set_cell(distance * np.asarray(atoms.cell), scale_atoms=True)
        return float(crowding(Crystals.from_atoms([scaled]), pressure))

    assert near(sodium, 1.7) == 1.0
    assert near(sodium, 1.577) == pytest.approx(1.577 / (0.5 * 3.32), rel=1e-3)
    salt = bulk("NaCl", "rocksalt", a=2.0)  # Na-Cl at 1
    assert near(salt, 1.7) == 1.0
    assert near(salt, 1.5) == pytest.approx(1.5 / (0.6 * 2.68), rel=1e-3)
    assert near(salt, 1.7, pressure=50.0) == pytest.approx(1.7 / (0.63 * 2.68), abs=0.01)
    assert near(salt, 1.7, pressure=300.0) == pytest.approx(1.7 / (0.66 * 2.68), rel=1e-3)  # collapsed
    assert near(salt, 2.09, pressure=300.0) == 1.0  # B2 NaCl at 300 GPa
    assert near(sodium, 1.7, pressure=300.0) == 1.0
    diamond = bulk("Na", "diamond", a=1.0).repeat(2)  # NaTl's: both elements on diamonds, side by side
    other = diamond.copy()
    other.numbers[:] = 17
    other.positions += 0.5 * np.ones(3)
    zintl = diamond + other
    zintl.set_cell(zintl.cell / np.sqrt(0.1875), scale_atoms=True)  # Na-Na and Na-Cl at 1
    assert near(zintl, 1.80, pressure=300.0) == pytest.approx(1.80 / (0.6 * 3.32), rel=1e-3)
    assert near(bulk("KCl", "rocksalt", a=2.0), 1.95, pressure=300.0) == 1.0  # 0.64


def test_a_collapsing_relaxation_stops_early_and_says_so() -> None:
    class Attracting(LennardJones):
        def evaluate(
            self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
        ) -> Evaluation:
            pull = torch.eye(3, dtype=torch.float64).repeat(len(crystals), 1, 1)
            return Evaluation(self.label, crystals.volumes, torch.zeros_like(crystals.frac), pull)

    crystals = Crystals.from_atoms([bulk("NaCl", "rocksalt", a=a) for a in (4.2, 5.64)])
    found = relax(crystals, Attracting(), max_steps=500)
    assert found.status[0] == Status.COLLAPSED
    assert not any(status.has_energy for status in found.status)
    assert int(found.steps.max()) < 100
