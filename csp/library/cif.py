"""Crystals from CIF files."""

from __future__ import annotations

import warnings
from pathlib import Path

from csp.crystals import Crystals
from csp.errors import InputError

__all__ = ["DisorderedError", "UnreadableError", "read_cif"]


class UnreadableError(InputError):
    """A CIF holds no crystal structure that can be read."""


class DisorderedError(InputError):
    """The crystal of a CIF has partial occupancies."""


def read_cif(path: Path) -> Crystals:
    """The first crystal of a CIF file, in the cell that is written there.

    Raises:
        InputError: There is no such file.
        UnreadableError: There is no crystal in it.
        DisorderedError: The crystal is disordered.
    """
    from pymatgen.io.cif import CifParser

    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    with warnings.catch_warnings():  # pymatgen remarks on rounded coordinates and its own parser
        warnings.simplefilter("ignore")
        try:
            structure = CifParser(path).parse_structures(primitive=False, on_error="ignore")[0]
        except Exception as error:  # pymatgen's parser raises whatever it meets in a broken file
            raise UnreadableError(f"{path} holds no crystal structure that can be read.") from error
    if not structure.is_ordered:
        raise DisorderedError(f"{path} has partial occupancies; only ordered crystals can be compared.")
    return Crystals.from_structures([structure])
