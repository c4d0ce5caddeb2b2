"""Energy models for work in Python: by name, or a potential of another package."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.device import resolve_device
from csp.errors import InputError
from csp.face.keywords import says_what_it_knows
from csp.face.structures import AnyStructures, read_structures
from csp.protocols import EnergyModel, Evaluation, Label, Uncertain

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator
    from torch_sim.models.interface import ModelInterface

    from surrogates.ase_calculator import ASECalculator

__all__ = ["Model", "as_energy_model", "load_model", "the_model_itself"]


class Model:
    """An energy model with what is handy in a notebook; it is an `EnergyModel` itself.

    Attributes:
        name: What it is called in rankings and records.
        label: What its energies are; only energies of equal labels can be compared.
        elements: Atomic numbers that it knows.
        device: Where it computes.
    """

    def __init__(self, model: EnergyModel) -> None:
        self.model = model
        self.name, self.label, self.elements = model.name, model.label, model.elements

    @property
    def device(self) -> torch.device:
        return self.model.device

    def evaluate(self, structures: AnyStructures, *, forces: bool = False, **further: Any) -> Evaluation:
        """Energies, and forces and stress if asked for, of structures of pymatgen, atoms of ASE, or Crystals.

        Args:
            structures: One or many.
            further: What the model's own `evaluate` takes beside them.

        Returns:
            energy float64 [B], eV per cell; forces float64 [A, 3], eV/Å; stress float64 [B, 3, 3], eV/Å³,
            positive = tension; sigma float64 [B], eV/atom, where the model has one.

        Raises:
            InputError: For an element that the model does not know.
        """
        return self.model.evaluate(read_structures(structures).crystals, forces=forces, **further)

    def sigma(self, crystals: Crystals) -> Tensor | None:
        """float64 [B]: one standard deviation of the energies, eV/atom; None where it is not known."""
        return self.model.sigma(crystals) if isinstance(self.model, Uncertain) else None

    def as_ase(self) -> ASECalculator:
        """A calculator of ASE with energy, forces and stress."""
        from surrogates.ase_calculator import ASECalculator

        return ASECalculator(self.model)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.label}, {len(self.elements)} elements, on {self.device}>"


@says_what_it_knows
def load_model(
    source: str | Path | BaseCalculator | ModelInterface | EnergyModel,
    device: str = "auto",
    *,
    name: str | None = None,
    functional: str | None = None,
    correction: str = "none",
    elements: Collection[int | str] | None = None,
) -> Model:
    """An energy model by its name or path, or made of a potential of another package.

    Args:
        source: A name that `csp models list` shows, a weights file of ours, the folder of a potential of
            matgl; a calculator of ASE; a model of torch-sim; or any object that keeps
            `csp.protocols.EnergyModel`.
        device: Of a model by name: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        name: Of a calculator or a model of torch-sim: what to call it; none: its class.
        functional: Of such a one: the functional of its energies, for example "PBE"; none: its name.
        correction: Of such a one: the correction of its energies, if there is one.
        elements: Of such a one: the symbols or atomic numbers that it knows; none: all.

    Raises:
        InputError: The name means nothing, or the object is none of these.
        MissingError: The model is not on this machine.
    """
    model = as_energy_model(
        source, device, name=name, functional=functional, correction=correction, elements=elements
    )
    return model if isinstance(model, Model) else Model(model)


def as_energy_model(
    source: Any,
    device: str = "auto",
    *,
    name: str | None = None,
    functional: str | None = None,
    correction: str = "none",
    elements: Collection[int | str] | None = None,
) -> EnergyModel:
    """What `load_model` wraps."""
    about = (name, functional, elements) != (None, None, None) or correction != "none"
    adapter = _adapter(source)
    if about and adapter is None:
        raise InputError(
            "name, functional, correction and elements are for a calculator of ASE or a model of torch-sim; "
            "other models bring their own."
        )
    if isinstance(source, (str, Path)):
        from surrogates.zoo import load_model as load

        return load(source, resolve_device(device))
    if adapter is not None:
        from surrogates.potentials.adapters import identity

        called = name or type(source).__name__
        label = Label(functional or called, correction, identity(source))
        return adapter(source, label, None if elements is None else _numbers(elements), name=called)
    if isinstance(source, EnergyModel):
        return source
    raise InputError(
        f"A model cannot be made of the type {type(source).__name__}: name one, or give a calculator of ASE, "
        "a model of torch-sim, or an object that keeps csp.protocols.EnergyModel."
    )


def the_model_itself(model: EnergyModel) -> EnergyModel:
    """Without the wrapping of `load_model`."""
    return model.model if isinstance(model, Model) else model


def _adapter(source: Any) -> Any:
    """The class that makes an energy model of a potential of another package, None if it is not one.

    Only a package that is imported can have made an object: none is imported to find out.
    """
    calculators = sys.modules.get("ase.calculators.calculator")
    if calculators and isinstance(source, calculators.BaseCalculator):
        from surrogates.potentials.adapters import ASEModel

        return ASEModel
    torch_sim = sys.modules.get("torch_sim.models.interface")
    if torch_sim and isinstance(source, torch_sim.ModelInterface):
        from surrogates.potentials.adapters import TorchSimModel

        return TorchSimModel
    return None


def _numbers(elements: Collection[int | str]) -> list[int]:
    from ase.data import atomic_numbers

    try:
        return [atomic_numbers[one] if isinstance(one, str) else int(one) for one in elements]
    except KeyError as error:
        raise InputError(f"There is no element {error.args[0]}.") from error
