"""The cell of a crystal in a file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from csp.cif_file import Block, is_cif, read_blocks
from csp.errors import CrystalError, InputError, MissingError
from csp.files import check_frames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Cell", "cell_vectors", "read_cell"]

Cell = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
"""Lattice vectors a, b, c, Å."""

FLAT = 1e-2  # of the volume of a box with the same edges
OF_FRAMES = (".xyz", ".extxyz")
LONGEST, SHORTEST = 200.0, 0.5  # Å


def read_cell(path: Path) -> Cell:
    """The lattice vectors in any file that pymatgen or ASE reads; its atoms play no part.

    Raises:
        MissingError: Where there is no file.
        InputError: One sentence, for a file without a cell.
    """
    import numpy as np

    if not path.is_file():
        raise MissingError(f"There is no file {path} to take a cell from.")
    vectors = _of_cif(path) if is_cif(path) else _by_pymatgen(path)
    if vectors is None:
        vectors = _by_ase(path)
    if vectors is None:
        raise InputError(f"{path} is no crystal structure that pymatgen or ASE can read.")
    edges = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(vectors).all() or abs(np.linalg.det(vectors)) <= FLAT * edges.prod():
        raise InputError(f"{path} has no cell that fills space: its three lattice vectors lie in a plane.")
    if edges.max() > LONGEST or edges.min() < SHORTEST:
        raise InputError(
            f"The cell in {path} has edges of {edges.min():.3g} to {edges.max():.3g} Å; "
            f"{SHORTEST:g} to {LONGEST:g} Å are possible."
        )
    a, b, c = ((float(x), float(y), float(z)) for x, y, z in vectors)
    return a, b, c


def _of_cif(path: Path) -> NDArray[np.float64]:
    try:
        blocks = [block for block in read_blocks(path) if block.has_cell]
        if len(blocks) > 1:
            raise CrystalError("several crystals", f"it holds {len(blocks)} crystals, not one")
        if not blocks:
            raise CrystalError("no cell", "it has no cell")
        return cell_vectors(blocks[0])
    except CrystalError as error:
        raise error.named(path) from error


def cell_vectors(block: Block) -> NDArray[np.float64]:
    """[3, 3], Å: the lattice vectors of a block of a CIF.

    Raises:
        CrystalError: It has none that can be.
    """
    import numpy as np
    from pymatgen.core import Lattice

    values = block.cell()
    edges, cosines = values[:3], np.cos(np.deg2rad(values[3:]))
    squared_volume = 1 + 2 * cosines.prod() - (cosines**2).sum()  # of unit edges
    if min(edges) < SHORTEST or max(edges) > LONGEST or max(values[3:]) >= 180 or squared_volume < FLAT**2:
        raise CrystalError(
            "no cell", f"no cell has edges and angles of {', '.join(f'{v:g}' for v in values)}"
        )
    return np.array(Lattice.from_parameters(*values).matrix)


def _by_pymatgen(path: Path) -> NDArray[np.float64] | None:
    import numpy as np
    from pymatgen.core import Structure

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.array(Structure.from_file(path).lattice.matrix, dtype=np.float64)
        except Exception:  # its parsers raise whatever they meet in a file of another kind
            return None


def _by_ase(path: Path) -> NDArray[np.float64] | None:
    import numpy as np
    from ase.io import read

    if path.suffix.lower() in OF_FRAMES:
        check_frames(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            atoms = read(path)
        except Exception:  # the same
            return None
    last = atoms[-1] if isinstance(atoms, list) else atoms
    return np.array(last.cell.array, dtype=np.float64)
