"""DFT energies of one's own, read from extended XYZ files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.files import check_frames
from csp.protocols import Label
from surrogates.training.labelled import Labelled

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["read_labels"]

NAMED = ("functional", "correction", "code")  # what a frame may say of its energy


def read_labels(paths: Sequence[Path], **given: str | None) -> tuple[Labelled, Label]:
    """The crystals of all frames with their energies, eV per cell, and the one label of them all.

    The energy is the frame's `energy`: extrapolated to zero smearing, where there is some.

    Args:
        given: Functional, correction and code for frames that do not name their own (`functional=PBE` in the
            comment line).

    Raises:
        MissingError: A file is not there.
        InputError: A frame is without energy, cell or periodicity, nobody names the functional of an energy,
            or energies are of two functionals, corrections or codes, which cannot be learned together.
    """
    atoms, energies, ids = [], [], []
    labels: dict[Label, str] = {}
    for path in paths:
        for k, frame in enumerate(_frames(path), start=1):
            where = f"{path.name}, frame {k}"
            atoms.append(frame)
            energies.append(_energy(frame, where))
            ids.append(where)
            labels.setdefault(_label(frame.info, given, where), where)
    if not atoms:
        raise InputError(f"There are no crystals in {', '.join(str(path) for path in paths)}.")
    if len(labels) > 1:
        (one, here), (other, there) = list(labels.items())[:2]
        raise InputError(f"Energies of two kinds cannot be mixed: {one} in {here}, {other} in {there}.")
    energy = torch.tensor(energies, dtype=torch.float64)
    return Labelled(Crystals.from_atoms(atoms), ids, energy), next(iter(labels))


def _frames(path: Path) -> Iterator[Atoms]:
    from ase.io import iread
    from ase.io.extxyz import XYZError

    if not path.is_file():
        raise MissingError(f"There is no file of labels at {path}.")
    check_frames(path)
    try:
        yield from iread(path, index=":", format="extxyz")
    except (XYZError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} cannot be read as extended XYZ: {error}.") from error


def _energy(frame: Atoms, where: str) -> float:
    if not frame.pbc.all() or frame.cell.rank < 3:
        raise InputError(f"{where} is not periodic in three directions.")
    results: dict[str, Any] = frame.calc.results if frame.calc else {}
    if "energy" not in results:
        raise InputError(f"{where} has no energy.")
    return float(results["energy"])


def _label(info: dict[str, Any], given: dict[str, str | None], where: str) -> Label:
    functional, correction, code = (str(info.get(name) or given.get(name) or "") for name in NAMED)
    if not functional:
        raise InputError(f"{where} does not name its functional; name the `functional`.")
    return Label(functional, correction or "none", code or "a code that is not named")
