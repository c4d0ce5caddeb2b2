"""Reference energies of single crystals: a DFT code as an external program, or a potential in its stead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from csp.crystals import Crystals
from csp.protocols import DONE, EnergyModel, Labeller, Labels
from surrogates.dft.espresso import Espresso
from surrogates.dft.gpaw import Gpaw
from surrogates.dft.vasp import Vasp
from surrogates.zoo import check_known, load_model

__all__ = ["LABELLERS", "Potential", "load_labeller"]

CODES: dict[str, Callable[[], Labeller]] = {code.name: code for code in (Gpaw, Vasp, Espresso)}
LABELLERS = (*CODES, "chgnet")  # those known by name; any potential can be named


class Potential:
    """A potential in the stead of a DFT code: its energies are labels, under its own name."""

    def __init__(self, model: EnergyModel) -> None:
        self.name, self.label, self.elements = model.name, model.label, model.elements
        self.max_atoms = 10**6
        self._model = model

    def compute(self, crystals: Crystals, folder: Path) -> Labels:
        """See `csp.protocols.Labeller`; nothing is written."""
        energy = self._model.evaluate(crystals.to(self._model.device)).energy.cpu()
        return Labels(energy, [DONE if e == e else "no energy" for e in energy.tolist()])


def load_labeller(name: str, device: torch.device | str = "cpu") -> Labeller:
    """A DFT code by name, or a potential by name or path.

    Raises:
        MissingError: The code is not installed or configured, or the potential is not here.
        InputError: The name means nothing.
    """
    if name in CODES:
        return CODES[name]()
    check_known(name, "labeller", CODES)
    return Potential(load_model(name, device))
