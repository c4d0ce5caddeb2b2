"""Relaxations for work in Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.face.keywords import says_what_it_knows
from csp.face.models import as_energy_model, the_model_itself
from csp.face.structures import AnyStructures, GivenStructures, read_structures
from csp.protocols import EnergyModel, Label
from csp.relaxation import relax as batched
from csp.relaxation.relax import RelaxationResult, Status, enthalpy
from csp.settings import SearchSettings

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

__all__ = ["Relaxed", "RelaxedMany", "relax"]

DEFAULT_MODEL: str = SearchSettings.model_fields["relaxer"].default
AT_ONCE = 64  # crystals; more at once take memory and no less time


@dataclass(frozen=True, slots=True, repr=False)
class Relaxed:
    """What became of one structure.

    Attributes:
        structure: Of the kind that was given, in its relaxed cell, its atoms in the order given.
        energy: eV per cell; NaN where there is none.
        enthalpy: E + PV, eV per cell.
        max_force: eV/Å, the largest of the forces on atoms and of virial / n_atoms; NaN where there is none.
        steps: Steps taken.
        status: How it ended (`csp.relaxation.relax.Status`).
        label: What the energy is.
    """

    structure: Any
    energy: float
    enthalpy: float
    max_force: float
    steps: int
    status: Status
    label: Label
    n_atoms: int = field(repr=False)

    @property
    def converged(self) -> bool:
        """Are all forces below the largest that was allowed?"""
        return self.status == Status.CONVERGED

    @property
    def energy_per_atom(self) -> float:
        """eV/atom."""
        return self.energy / self.n_atoms

    def __repr__(self) -> str:
        ended = self.status.replace("_", " ")
        return f"<{ended} after {self.steps} steps: {self.energy:.4f} eV, {self.energy_per_atom:.4f} eV/atom>"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class RelaxedMany(Sequence[Relaxed]):
    """What became of many structures, in the order in which they were given.

    Attributes:
        structures: As they were given: a list, or `Crystals`.
        result: All numbers as tensors.
        pressure: GPa.
    """

    structures: Any
    result: RelaxationResult
    pressure: float
    _members: list[Any]

    @property
    def energies(self) -> NDArray[np.float64]:
        """float64 [B]: eV per cell; NaN where there is none."""
        return self.result.energy.numpy()

    @property
    def enthalpies(self) -> NDArray[np.float64]:
        """float64 [B]: E + PV, eV per cell."""
        return enthalpy(self.result.energy, self.result.crystals.volumes, self.pressure).numpy()

    @property
    def energies_per_atom(self) -> NDArray[np.float64]:
        """float64 [B]: eV/atom."""
        return self.energies / self.result.crystals.n_atoms.numpy()

    @property
    def status(self) -> list[Status]:
        """[B]: how each ended."""
        return self.result.status

    @property
    def converged(self) -> NDArray[np.bool_]:
        """bool [B]."""
        return np.array([status == Status.CONVERGED for status in self.status], dtype=bool)

    @property
    def label(self) -> Label:
        """What the energies are."""
        return self.result.label

    def __len__(self) -> int:
        return len(self.status)

    @overload
    def __getitem__(self, index: int) -> Relaxed: ...

    @overload
    def __getitem__(self, index: slice) -> list[Relaxed]: ...

    def __getitem__(self, index: int | slice) -> Relaxed | list[Relaxed]:
        if isinstance(index, slice):
            return [self[k] for k in range(len(self))[index]]
        k = range(len(self))[index]
        return Relaxed(
            structure=self._members[k],
            energy=float(self.energies[k]),
            enthalpy=float(self.enthalpies[k]),
            max_force=float(self.result.max_force[k]),
            steps=int(self.result.steps[k]),
            status=self.status[k],
            label=self.label,
            n_atoms=int(self.result.crystals.n_atoms[k]),
        )

    def __iter__(self) -> Iterator[Relaxed]:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self)} relaxed, {int(self.converged.sum())} converged, energies {self.label}>"


@overload
def relax(
    structures: Structure | Atoms,
    model: Any = ...,
    *,
    pressure: float = ...,
    max_force: float = ...,
    max_steps: int = ...,
    keep_symmetry: bool = ...,
    device: str = ...,
) -> Relaxed: ...


@overload
def relax(  # type: ignore[overload-cannot-match]  # mypy is not told what pymatgen and ASE are
    structures: Sequence[Structure] | Sequence[Atoms] | Crystals,
    model: Any = ...,
    *,
    pressure: float = ...,
    max_force: float = ...,
    max_steps: int = ...,
    keep_symmetry: bool = ...,
    device: str = ...,
) -> RelaxedMany: ...


@says_what_it_knows
def relax(
    structures: AnyStructures,
    model: Any = DEFAULT_MODEL,
    *,
    pressure: float = 0.0,
    max_force: float = 0.05,
    max_steps: int = 200,
    keep_symmetry: bool = True,
    device: str = "auto",
) -> Relaxed | RelaxedMany:
    """Relax atoms and cells of structures, many of them at once.

    Args:
        structures: A structure of pymatgen, atoms of ASE, a list of either, or `csp.Crystals`.
        model: A name, a path, or an object, as `csp.load_model` takes them.
        pressure: GPa.
        max_force: eV/Å at which a relaxation has converged, of the forces on atoms and of virial / n_atoms.
        max_steps: Steps, at most.
        keep_symmetry: Keep the space group that each structure has within 0.01 Å. The end may then be a
            saddle, from which a lower symmetry leads down.
        device: Of a model by name.

    Returns:
        What became of the structure, or a sequence of what became of each, of the kind that was given.
        A relaxation that fails says so in its `status`; none raises.

    Raises:
        InputError: The structures or the model are not what is expected.
        MissingError: The model is not on this machine.
    """
    # what the settings of a search refuse
    SearchSettings.read(formula="H", pressure=pressure, max_force=max_force, max_steps=max_steps)
    given = read_structures(structures)
    energy_model = the_model_itself(as_energy_model(model, device))
    crystals = given.crystals.to("cpu")
    chunks = [crystals[k : k + AT_ONCE] for k in range(0, len(crystals), AT_ONCE)] or [crystals]
    parts = [
        _relax(
            chunk,
            energy_model,
            keep_symmetry,
            max_steps=max_steps,
            max_force=max_force,
            pressure=pressure,
        )
        for chunk in chunks
    ]
    result = parts[0]
    for part in parts[1:]:
        result = result.followed_by(part)
    found = _in_kind(given, result, pressure)
    return found[0] if given.single else found


def _relax(crystals: Crystals, model: EnergyModel, keep_symmetry: bool, **limits: Any) -> RelaxationResult:
    symmetry = operations(crystals).to(model.device) if keep_symmetry else None
    return batched.relax(crystals.to(model.device), model, symmetry=symmetry, **limits).to("cpu")


def _in_kind(given: GivenStructures, result: RelaxationResult, pressure: float) -> RelaxedMany:
    """The result with structures of the kind that was given, and NaN for energies that mean nothing."""
    means = torch.tensor([status.has_energy for status in result.status], dtype=torch.bool)
    result = replace(result, energy=torch.where(means, result.energy, torch.nan))
    members = given.moved(result.crystals, result.energy.tolist())
    return RelaxedMany(result.crystals if given.kind == "crystals" else members, result, pressure, members)
