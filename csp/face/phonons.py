"""Phonons for work in Python."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from csp.face.keywords import says_what_it_knows
from csp.face.models import as_energy_model, the_model_itself
from csp.face.structures import AnyStructures, read_structures
from csp.search.vibrate import Vibrated, vibrate
from csp.settings import SearchSettings

__all__ = ["phonons"]

DEFAULT_MODEL: str = SearchSettings.model_fields["relaxer"].default


@says_what_it_knows
def phonons(
    structures: AnyStructures,
    model: Any = DEFAULT_MODEL,
    *,
    length: float = 10.0,
    pressure: float = 0.0,
    symprec: float = 0.1,
    follow: bool = True,
    seed: int = 0,
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
) -> list[list[Vibrated]]:
    """Relax structures and compute their harmonic phonons, and go down imaginary modes.

    Args:
        structures: A structure of pymatgen, atoms of ASE, a list of either, or `csp.Crystals`.
        model: A name, a path, or an object, as `csp.load_model` takes them.
        length: Å, about that of the supercells.
        pressure: GPa.
        symprec: Å, within which a structure is made symmetric before it is relaxed.
        follow: Look where imaginary modes lead to.
        seed: Of the directions that are followed.
        device: Of a model by name.
        out: Folder that holds what is done, so that a call that was interrupted is gone on with; None:
            nothing is left on the disk.

    Returns:
        For each structure its phonons and, one after the other, those of the lowest crystal that imaginary
        modes led to, those of what the modes of that led to, and so on.

    Raises:
        InputError: The structures or the model are not what is expected.
        MissingError: The model is not on this machine.
    """
    given = read_structures(structures)
    energy_model = the_model_itself(as_energy_model(model, device))

    def found(folder: Path) -> list[list[Vibrated]]:
        return vibrate(
            given.crystals.to("cpu"),
            energy_model,
            folder,
            length=length,
            pressure=pressure,
            symprec=symprec,
            follow=follow,
            seed=seed,
        )

    if out is not None:
        return found(Path(out))
    with TemporaryDirectory(prefix="csp-") as folder:
        return found(Path(folder))
