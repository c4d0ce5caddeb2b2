"""Potentials of other packages as energy models: any ASE calculator, any model of torch-sim."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import Evaluation, Label

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator
    from torch_sim.models.interface import ModelInterface

__all__ = ["ALL_ELEMENTS", "ASEModel", "TorchSimModel", "check_known_elements", "identity"]

ALL_ELEMENTS = frozenset(range(1, 119))
# What goes through at once, by type of device: atoms, or atoms × atoms per Å³ (torch-sim's two measures).
ATOMS_AT_ONCE = {"cpu": 400.0, "cuda": 20_000.0}
DENSITY_AT_ONCE = {"cpu": 30.0, "cuda": 1_500.0}


class ASEModel:
    """Any ASE calculator as an `EnergyModel`, one crystal after the other.

    Args:
        calculator: Gives energies and, for relaxations, forces and stress.
        label: What its energies are. Only energies of equal labels are compared, and a search can only be
            resumed with a model of the same label; none: made of the class, the version of its package and a
            hash of its weights and parameters (`identity`).
        elements: Atomic numbers that it knows; a search passes it no others. None: all of them.
        name: What it is called in the record of a search; none: its class.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        calculator: BaseCalculator,
        label: Label | None = None,
        elements: Collection[int] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.name = name or type(calculator).__name__
        self.label = label or Label(self.name, "none", identity(calculator))
        self.elements = ALL_ELEMENTS if elements is None else frozenset(elements)
        self._calculator = calculator

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        """See `EnergyModel`. Whatever the calculator raises is passed on."""
        check_known_elements(self.name, self.elements, crystals)
        energy = torch.zeros(len(crystals), dtype=torch.float64)
        force = torch.zeros((len(crystals.numbers), 3), dtype=torch.float64) if forces else None
        stress = torch.zeros((len(crystals), 3, 3), dtype=torch.float64) if forces else None
        offsets = crystals.offsets.tolist()
        for b, atoms in enumerate(crystals.atoms()):
            atoms.calc = self._calculator
            if force is not None and stress is not None:  # first, for they bring the energy along
                force[offsets[b] : offsets[b + 1]] = torch.as_tensor(atoms.get_forces(), dtype=torch.float64)
                stress[b] = torch.as_tensor(atoms.get_stress(voigt=False), dtype=torch.float64)
            energy[b] = float(atoms.get_potential_energy())
        home = crystals.device
        if force is None or stress is None:
            return Evaluation(self.label, energy.to(home))
        return Evaluation(self.label, energy.to(home), force.to(home), stress.to(home))


class TorchSimModel:
    """Any model of torch-sim (a `torch_sim.models.interface.ModelInterface`) as an `EnergyModel`.

    Args: as of `ASEModel`; `device` and precision are the model's own.

    Raises:
        InputError: The model gives no forces or no stress, without which nothing can be relaxed.
    """

    def __init__(
        self,
        model: ModelInterface,
        label: Label | None = None,
        elements: Collection[int] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.name = name or type(model).__name__
        for wanted in ("compute_forces", "compute_stress"):
            if not getattr(model, wanted):
                raise InputError(
                    f"{self.name} must be made with {wanted}=True; without it nothing can be relaxed."
                )
        self.label = label or Label(self.name, "none", identity(model))
        self.elements = ALL_ELEMENTS if elements is None else frozenset(elements)
        self.device = torch.device(model.device)
        self._model = model

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        """See `EnergyModel`. Whatever the model raises is passed on."""
        check_known_elements(self.name, self.elements, crystals)
        home, there = crystals.device, crystals.to(self.device)
        parts = [self._chunk(chunk) for chunk in self._chunks(there)]
        energy = torch.cat([there.cell.new_zeros(0, dtype=torch.float64), *(p["energy"] for p in parts)])
        if not forces:
            return Evaluation(self.label, energy.to(home))
        zeros = torch.zeros((0, 3), dtype=torch.float64, device=self.device)
        force = torch.cat([zeros, *(p["forces"] for p in parts)])
        stress = torch.cat([zeros.reshape(0, 3, 3), *(p["stress"] for p in parts)])
        return Evaluation(self.label, energy.to(home), force.to(home), stress.to(home))

    def _chunk(self, crystals: Crystals) -> dict[str, Tensor]:
        """energy [B], forces [A, 3] and stress [B, 3, 3], float64. torch-sim's cells have their vectors as
        columns, and its stress has our sign."""
        import torch_sim
        from ase.data import atomic_masses

        dtype = self._model.dtype
        state = torch_sim.SimState(
            positions=crystals.wrapped().positions.to(dtype),
            masses=torch.as_tensor(atomic_masses, device=self.device)[crystals.numbers].to(dtype),
            cell=crystals.cell.mT.to(dtype).contiguous(),
            pbc=True,
            atomic_numbers=crystals.numbers,
            system_idx=crystals.batch,
        )
        found = self._model(state)
        return {name: found[name].detach().double() for name in ("energy", "forces", "stress")}

    def _chunks(self, crystals: Crystals) -> Iterator[Crystals]:
        """Runs of crystals of about as much work as suits the device."""
        work = crystals.n_atoms.double()
        limits = ATOMS_AT_ONCE
        if self._model.memory_scales_with != "n_atoms":
            work, limits = work**2 / crystals.volumes, DENSITY_AT_ONCE
        limit = limits.get(self.device.type, limits["cpu"])
        chunk = torch.div(torch.cumsum(work, 0) - work / 2, limit, rounding_mode="floor")
        sizes = torch.unique_consecutive(chunk, return_counts=True)[1].tolist()
        for stop, size in zip(itertools.accumulate(sizes), sizes, strict=True):
            yield crystals[stop - size : stop]


def check_known_elements(name: str, elements: frozenset[int], crystals: Crystals) -> None:
    """Does a model know all elements of crystals?

    Raises:
        InputError: It does not; which.
    """
    unknown = set(crystals.numbers.unique().tolist()) - elements
    if unknown:
        from ase.data import chemical_symbols

        names = ", ".join(chemical_symbols[z] for z in sorted(unknown))
        raise InputError(f"The potential {name} does not know {names}.")


def identity(potential: Any) -> str:
    """What tells a potential from others: its class, its package's version and a hash of its numbers.

    Hashed are the weights of its networks, its tensors and arrays, and the parameters that an ASE calculator
    keeps: what is the same in the next session for the same potential. What differs in nothing of these, a
    number hidden in an attribute, needs a label.
    """
    kind = type(potential)
    package = kind.__module__.split(".")[0]
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:  # a script's own class, or a package of another name
        version = ""
    digest = hashlib.sha256(f"{kind.__module__}.{kind.__qualname__}".encode())
    for name, value in _numbers(potential):
        digest.update(name.encode())
        digest.update(value)
    return f"{package} {version}".strip() + f" {digest.hexdigest()[:12]}"


def _numbers(potential: Any) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what `identity` hashes, in an order of its own."""
    own = dict(sorted(vars(potential).items()))
    if isinstance(potential, nn.Module):
        yield from _tensors("", sorted(potential.state_dict().items()))
        own = {name: value for name, value in own.items() if not name.startswith("_")}
    parameters = own.pop("parameters", None)
    if isinstance(parameters, dict):
        yield (
            "parameters",
            json.dumps(parameters, sort_keys=True, default=lambda it: type(it).__name__).encode(),
        )
    for name, value in own.items():
        if name in ("atoms", "results"):  # of the last calculation
            continue
        for k, one in enumerate(value if isinstance(value, (list, tuple)) else [value]):
            if isinstance(one, nn.Module):
                yield from _tensors(f"{name} {k}", sorted(one.state_dict().items()))
            elif isinstance(one, (Tensor, np.ndarray)):
                yield from _tensors(name, [(str(k), one)])


def _tensors(where: str, items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, bytes]]:
    for name, value in items:
        if isinstance(value, Tensor):
            value = value.detach().cpu()
            value = value.double().numpy() if value.is_floating_point() else value.numpy()
        if isinstance(value, np.ndarray) and value.dtype != object:
            yield f"{where} {name} {value.shape}", np.ascontiguousarray(value).tobytes()
