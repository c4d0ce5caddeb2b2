"""Potentials of matgl whose architecture the engine has no faster code for: matgl itself computes them."""

from __future__ import annotations

import warnings
from pathlib import Path

from csp.errors import InputError, MissingError
from csp.protocols import Label
from surrogates.potentials.adapters import ASEModel

__all__ = ["load_by_matgl"]


def load_by_matgl(folder: Path, label: Label, *, name: str) -> ASEModel:
    """The potential in a folder that matgl's `Potential.save` has written, one crystal after the other.

    Raises:
        MissingError: matgl is not installed.
        InputError: matgl cannot load it.
    """
    from ase.data import atomic_numbers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of matgl's own dependencies, as they are imported
        try:
            import matgl
            from matgl.ext.ase import PESCalculator
        except ImportError as error:
            raise MissingError(f"{name} needs matgl: pip install 'csp-engine[matgl]'.") from error
        try:
            potential = matgl.load_model(str(folder))
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise InputError(f"matgl cannot load the potential {name}: {error}.") from error
        calculator = PESCalculator(potential, stress_unit="eV/A3")
    elements = {atomic_numbers[symbol] for symbol in potential.model.element_types}
    return ASEModel(calculator, label, elements, name=name)
