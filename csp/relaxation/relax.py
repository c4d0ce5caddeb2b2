"""Batched relaxation of atoms and cell over any energy model.

L-BFGS with a memory of its own for each crystal, so that a batch gives what its members would give alone.
The coordinate of the cell is the logarithm of the deformation (as in ASE's FrechetCellFilter) times a
length that makes strains about as stiff as bonds whatever the number of atoms. Convergence looks at the
forces on the atoms and at the virial divided by n_atoms.

Of 166 candidates for 14 held-out compositions of the library, relaxed by our surrogate with their
symmetry kept, 163 converge within 60 steps, with 2,304 evaluations of energies and forces; FIRE (Bitzek et
al., Phys. Rev. Lett. 97, 170201 (2006)) brings 156 there with 3,829.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from csp.crystallography.neighbours import crowding
from csp.crystallography.operations import SymmetryOperations, operations
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.protocols import EnergyModel, Label
from csp.relaxation.lbfgs import LBFGS

__all__ = ["GPA", "RelaxationResult", "Status", "enthalpy", "relax", "relax_symmetric"]

GPA = 1e9 * 1e-30 / 1.602176634e-19  # eV/Å³; 0.00624150907, exact in the SI of 2019

MAX_DISPLACEMENT = 0.2  # Å, any atom in one step
MAX_STRAIN = 0.05  # any row in one step
COLLAPSING = 0.7  # of the closest that atoms of real crystals come: no way leads back from there
DENSEST = 0.8  # Å³ per atom; hydrogen at 1 TPa has more
AT_ONCE = 64  # crystals in a chunk of `relax_symmetric`
SKIN = 0.5  # Å; pairs this far beyond a model's cutoff are kept from step to step
CELL_LENGTH = 0.7  # of (V/N)^(1/3) √N; 1.0 needs more evaluations


class Status(StrEnum):
    """How a relaxation ended."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    EXPLODED = "exploded"  # cell grew or shrank beyond belief
    COLLAPSED = "collapsed"  # two atoms are closer than in any real crystal
    HOLE = "hole"  # another model holds it for far higher, see `csp.search.holes`
    UNSUPPORTED_ELEMENT = "unsupported_element"
    NONFINITE = "nonfinite"  # the model gave NaN or infinity

    @property
    def has_energy(self) -> bool:
        """Does the energy of such a crystal mean something, so that it can be ranked?"""
        return self in (Status.CONVERGED, Status.MAX_STEPS)


@dataclass(frozen=True, slots=True)
class RelaxationResult:
    """B relaxed crystals, in the order of their starts.

    Attributes:
        crystals: As the relaxations left them.
        label: What the energies are energies of.
        energy: float64 [B], eV per cell, NaN where there is none.
        max_force: float64 [B], eV/Å, the largest of the forces on atoms and of virial / n_atoms.
        steps: int64 [B], steps taken.
        status: [B], how each relaxation ended.
    """

    crystals: Crystals
    label: Label
    energy: Tensor
    max_force: Tensor
    steps: Tensor
    status: list[Status]

    def with_energy(self) -> list[int]:
        """The places of those that have an energy."""
        return [k for k, status in enumerate(self.status) if status.has_energy]

    def take(self, index: list[int]) -> RelaxationResult:
        """The chosen crystals, in this order."""
        return RelaxationResult(
            self.crystals[index],
            self.label,
            self.energy[index],
            self.max_force[index],
            self.steps[index],
            [self.status[k] for k in index],
        )

    def to(self, device: torch.device | str) -> RelaxationResult:
        """The same on another device."""
        return RelaxationResult(
            self.crystals.to(device),
            self.label,
            self.energy.to(device),
            self.max_force.to(device),
            self.steps.to(device),
            self.status,
        )

    def followed_by(self, other: RelaxationResult) -> RelaxationResult:
        """All crystals of both.

        Raises:
            LabelError: If they are of different labels.
        """
        return RelaxationResult(
            Crystals.cat([self.crystals, other.crystals]),
            Label.same([self.label, other.label]),
            torch.cat([self.energy, other.energy]),
            torch.cat([self.max_force, other.max_force]),
            torch.cat([self.steps, other.steps]),
            self.status + other.status,
        )


def enthalpy(energy: Tensor, volume: Tensor, pressure: float) -> Tensor:
    """H = E + PV.

    Args:
        energy: float [B], eV per cell.
        volume: float [B], Å³ per cell.
        pressure: GPa.

    Returns:
        float [B], eV per cell.
    """
    return energy + pressure * GPA * volume


def relax(
    crystals: Crystals,
    model: EnergyModel,
    *,
    max_steps: int = 200,
    max_force: float = 0.05,
    pressure: float = 0.0,
    symmetry: SymmetryOperations | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> RelaxationResult:
    """Minimise the enthalpy E + PV of each crystal over its atoms and its cell.

    Finished crystals leave the batch. Every crystal gets a `Status`; none raises.

    Args:
        crystals: The starts.
        model: Gives energies, forces and stress.
        max_steps: Steps, at most.
        max_force: eV/Å; converged when no atomic force and no row of virial / n_atoms is longer.
        pressure: GPa.
        symmetry: Operations of `crystals`; forces and stress are projected on them in every step, so that the
            space group is kept (the result may be a saddle of the free surface).
        on_step: Called after each step with (crystals still moving, steps taken).
    """
    current = crystals.to(dtype=torch.float64)
    current = current if symmetry is None else symmetry.symmetrize(current)
    n = len(current)
    energy = torch.full((n,), torch.nan, dtype=torch.float64, device=current.device)
    worst = energy.clone()
    steps = torch.zeros(n, dtype=torch.int64, device=current.device)
    supported = _supported(current, model)
    status = [Status.MAX_STEPS if ok else Status.UNSUPPORTED_ELEMENT for ok in supported.tolist()]
    cell, frac = current.cell.clone(), current.frac.clone()

    alive = supported.nonzero().flatten()  # indices into the batch of those still moving
    moving = current[alive]
    surroundings = Surroundings.of(moving, None if symmetry is None else symmetry[alive], SKIN)
    optimiser, length = _optimiser(moving)
    start_volume = moving.volumes
    for step in range(max_steps + 1):
        if len(alive) == 0:
            break
        result = model.evaluate(moving, forces=True, surroundings=surroundings)
        assert result.forces is not None
        assert result.stress is not None
        force = result.forces
        volume = moving.volumes
        external = pressure * GPA * torch.eye(3, dtype=torch.float64, device=moving.device)
        virial = -volume[:, None, None] * (result.stress + external)
        force, virial = surroundings.orbits.project(force, virial)
        virial = 0.5 * (virial + virial.transpose(1, 2))
        residual = _largest(force, virial / moving.n_atoms[:, None, None], moving.batch)
        finite = torch.isfinite(result.energy) & torch.isfinite(residual)
        sane = (volume > start_volume / 4) & (volume < start_volume * 4) & (volume > DENSEST * moving.n_atoms)
        near = crowding(moving, pressure, surroundings.neighbours)
        last = torch.full_like(finite, fill_value=step == max_steps)
        ended = (residual < max_force) | ~finite | ~sane | (near < COLLAPSING) | last
        energy[alive] = torch.where(finite, result.energy, torch.nan)
        worst[alive] = residual
        steps[alive] = step
        if bool(ended.any()):
            for k in ended.nonzero().flatten().tolist():
                status[int(alive[k])] = _status(
                    finite=bool(finite[k]),
                    sane=bool(sane[k]),
                    crowded=bool(near[k] < 1),
                    converged=bool(residual[k] < max_force),
                )
            stay = ~ended
            atoms = stay[moving.batch]
            _write_back(cell, frac, current, moving, alive)
            optimiser, moving, alive, length = optimiser.keep(stay), moving[stay], alive[stay], length[stay]
            start_volume, force, virial = start_volume[stay], force[atoms], virial[stay]
            surroundings = surroundings[stay]
        if len(alive):
            on_cell = virial / length[:, None, None]
            displacement = optimiser.step(torch.cat([force, on_cell.reshape(-1, 3)]))
            strain = displacement[len(force) :].reshape(-1, 3, 3) / length[:, None, None]
            moving = _moved(moving, displacement[: len(force)], strain)
        if on_step is not None:
            on_step(len(alive), step)
    return RelaxationResult(
        current.with_geometry(cell, frac).wrapped(), model.label, energy, worst, steps, status
    )


def relax_symmetric(starts: Crystals, model: EnergyModel, steps: int) -> tuple[Crystals, Tensor, list[int]]:
    """Relax on the model's device for at most so many steps, keeping the symmetry, a chunk at a time.

    Returns:
        The relaxed crystals, their energies (float64 [B'], eV per cell) and which of the starts they are of,
        on the CPU; those that failed are left out.
    """
    parts = [
        relax(part.to(model.device), model, max_steps=steps, symmetry=operations(part).to(model.device))
        for part in (starts[k : k + AT_ONCE] for k in range(0, len(starts), AT_ONCE))
    ]
    good = [k for k, status in enumerate(s for part in parts for s in part.status) if status.has_energy]
    crystals = Crystals.cat([Crystals.empty(), *(part.crystals.to("cpu") for part in parts)])
    energy = torch.cat([torch.zeros(0, dtype=torch.float64), *(part.energy.cpu() for part in parts)])
    return crystals[good], energy[good], good


def _status(*, finite: bool, sane: bool, crowded: bool, converged: bool) -> Status:
    if not finite:
        return Status.NONFINITE
    if crowded:
        return Status.COLLAPSED
    if not sane:
        return Status.EXPLODED
    return Status.CONVERGED if converged else Status.MAX_STEPS


def _supported(crystals: Crystals, model: EnergyModel) -> Tensor:
    """bool [B]: are all elements known to the model?"""
    known = torch.zeros(128, dtype=torch.bool, device=crystals.device)
    known[torch.tensor(sorted(model.elements), dtype=torch.int64, device=crystals.device)] = True
    bad = (~known[crystals.numbers]).to(torch.int64)
    return (
        torch.zeros(len(crystals), dtype=torch.int64, device=crystals.device).index_add(
            0, crystals.batch, bad
        )
        == 0
    )


def _largest(force: Tensor, cell_force: Tensor, batch: Tensor) -> Tensor:
    """float [B]: the longest force on an atom or row of the cell force."""
    on_cell = cell_force.norm(dim=2).amax(1)
    return on_cell.scatter_reduce(0, batch, force.norm(dim=1), "amax")


def _write_back(cell: Tensor, frac: Tensor, whole: Crystals, part: Crystals, index: Tensor) -> None:
    """Put the geometry of the crystals `index` of the batch back in its place."""
    member = torch.zeros(len(whole), dtype=torch.bool, device=whole.device)
    member[index] = True
    cell[index] = part.cell
    frac[member[whole.batch]] = part.frac


def _optimiser(crystals: Crystals) -> tuple[LBFGS, Tensor]:
    """For the coordinates of atoms, A rows, and cells, 3B rows; and the lengths [B], Å, that turn strains
    into coordinates."""
    n_atoms, n = crystals.n_atoms, len(crystals)
    length = CELL_LENGTH * n_atoms.double().sqrt() * (crystals.volumes / n_atoms) ** (1 / 3)
    of_cells = torch.arange(n, device=crystals.device).repeat_interleave(3)
    longest = torch.cat(
        [length.new_full((len(crystals.batch),), MAX_DISPLACEMENT), (MAX_STRAIN * length)[of_cells]]
    )
    return LBFGS.start(torch.cat([crystals.batch, of_cells]), longest, n), length


def _moved(crystals: Crystals, displacement: Tensor, strain: Tensor) -> Crystals:
    """Atoms displaced by [A, 3], Å, and cells deformed by the exponential of the strains [B, 3, 3]."""
    inverse = torch.linalg.inv(crystals.cell)[crystals.batch]
    frac = crystals.frac + torch.einsum("ai,aij->aj", displacement, inverse)
    return crystals.with_geometry(crystals.cell @ torch.linalg.matrix_exp(strain), frac)
