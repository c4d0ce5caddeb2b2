"""Symmetry analysis: space groups, standard cells and the operations that keep a crystal's symmetry.

The only place that imports spglib or moyopy. moyo (https://github.com/spglib/moyo) does the analysis,
about four times faster than spglib. All standard cells and Wyckoff letters are in one setting, the standard
one of the International Tables A: unique axis b and cell choice 1 for monoclinic, hexagonal axes for
rhombohedral and origin choice 2 for centrosymmetric groups.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from csp.crystals import Crystals, ranges

if TYPE_CHECKING:
    from moyopy import MoyoDataset

__all__ = [
    "StandardCell",
    "Symmetrized",
    "SymmetryOperations",
    "crystal_system",
    "operations",
    "primitive",
    "primitive_sites",
    "reported_space_groups",
    "site_coordinates",
    "space_group_symbol",
    "space_groups",
    "standard_cells",
    "standard_operations",
    "symmetrized",
    "wyckoff_text",
    "wyckoffs",
]

SYMPREC = 0.01  # Å

logging.getLogger("moyo").setLevel(logging.ERROR)  # it warns of every cell that is not primitive


def space_groups(crystals: Crystals, symprec: float = SYMPREC) -> list[int]:
    """Space group number of each crystal, 0 where the analysis fails (for instance overlapping atoms)."""
    return [0 if data is None else data.number for data in _datasets(crystals, symprec)]


def reported_space_groups(crystals: Crystals, symprec: float) -> list[int]:
    """Space group number of each crystal by spglib, whose groups most people quote; 0 where the analysis
    fails.

    moyo agrees for 99 in 100 crystals, at tolerances of 0.01 and 0.1 Å. Near the tolerance the two go
    different ways to a consistent group, and what is reported is what people will compare with.

    Args:
        symprec: Å.
    """
    import spglib

    failed: type[Exception] = getattr(spglib, "SpglibError", RuntimeError)  # what newer versions raise
    numbers = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        for cell in crystals.arrays():
            try:
                data = spglib.get_symmetry_dataset(cell, symprec=symprec)
            except failed:
                data = None
            numbers.append(0 if data is None else int(data.number))
    return numbers


def space_group_symbol(number: int) -> str:
    """Short Hermann-Mauguin symbol of a space group, for instance "Pnma" for 62."""
    import moyopy

    return moyopy.SpaceGroupType(number).hm_short.replace(" ", "")


def crystal_system(number: int) -> str:
    """ "triclinic", "monoclinic", … "cubic" of a space group."""
    import moyopy

    return moyopy.SpaceGroupType(number).crystal_system.lower()


def standard_operations(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A space group in the standard setting, conventional cell.

    rotations int [G, 3, 3] and translations [G, 3] on fractional columns, centring included; and the integer
    matrix M [3, 3] to the primitive cell, x_primitive = M x.
    """
    import moyopy

    standard = moyopy.Setting.standard()
    found = moyopy.operations_from_number(number, setting=standard)
    rotations, translations = np.array(found.rotations), np.array(found.translations)
    pure = translations[(rotations == np.eye(3)).all(axis=(1, 2))] % 1.0
    for hall in range(1, 531):  # a centring is known by its lattice points
        centring = moyopy.HallSymbolEntry(hall).centering
        points = np.array(centring.lattice_points)
        if len(points) == len(pure) and np.allclose(points[_order(points)], pure[_order(pure)], atol=1e-6):
            return rotations, translations, np.array(centring.linear)
    raise LookupError(f"no centring with the lattice points of space group {number}")


def site_coordinates(crystal: Crystals, symprec: float) -> tuple[int, set[tuple[str, int, str, str]]]:
    """Space group of one crystal and, of each Wyckoff position that its atoms occupy, or occupy with another
    choice of origin, letter, multiplicity, site symmetry and
    coordinates such as "x,-x,1/4"."""
    (data,) = _datasets(crystal, symprec)
    if data is None:
        return 0, set()
    try:
        choices = [sites for _, sites in data.normalizer_wyckoff_positions().coset_representatives]
    except ValueError:  # moyo finds the tolerance too large for this cell
        return 0, set()
    return data.number, {
        (site.letter, site.multiplicity, site.site_symmetry, site.coordinates)
        for sites in choices
        for site in sites
    }


def wyckoffs(crystals: Crystals, symprec: float = SYMPREC) -> list[str]:
    """Occupied Wyckoff positions of each crystal, "Sr:a Ti:b O:c"; "" where the analysis fails."""
    numbers = [n for _, _, n in crystals.arrays()]
    return [
        "" if data is None else _occupied(data, n)
        for data, n in zip(_datasets(crystals, symprec), numbers, strict=True)
    ]


def wyckoff_text(sites: Iterable[tuple[int, str]]) -> str:
    """The one way of writing occupied positions: (atomic number, letter) per orbit to "Sr:a Ti:b O:c"."""
    from ase.data import chemical_symbols

    ordered = sorted((letter, chemical_symbols[number]) for number, letter in sites)
    return " ".join(f"{symbol}:{letter}" for letter, symbol in ordered)


def primitive(crystals: Crystals, symprec: float = SYMPREC) -> Crystals:
    """The primitive standard cell of each crystal, atoms in their symmetric places.

    A crystal that cannot be analysed stays as it is.
    """
    return primitive_sites(crystals, symprec)[0]


def primitive_sites(
    crystals: Crystals, symprec: float = SYMPREC
) -> tuple[Crystals, list[list[tuple[int, str]]]]:
    """`primitive`, and of each crystal the (atomic number, Wyckoff letter) of its orbits; none where the
    analysis fails."""
    parts: list[tuple[Any, Any, Any]] = []
    sites: list[list[tuple[int, str]]] = []
    for data, given in zip(_datasets(crystals, symprec), crystals.arrays(), strict=True):
        if data is None:
            parts.append(given)
            sites.append([])
        else:
            cell = data.prim_std_cell
            parts.append((cell.basis, cell.positions, cell.numbers))
            sites.append(_orbits(data, given[2]))
    found = Crystals.from_arrays(*([part[k] for part in parts] for k in range(3)))
    return found.to(device=crystals.device, dtype=crystals.cell.dtype), sites


@dataclass(frozen=True, slots=True)
class StandardCell:
    """The primitive standard cell of one crystal with n atoms in their symmetric places.

    Attributes:
        space_group: Its number.
        cell: [3, 3], Å; rows are the lattice vectors.
        frac: [n, 3], fractional coordinates.
        numbers: int [n], atomic numbers.
        letters: str [n], Wyckoff letter of each atom.
        orbits: int [n], equal for symmetry-equivalent atoms.
    """

    space_group: int
    cell: np.ndarray
    frac: np.ndarray
    numbers: np.ndarray
    letters: list[str]
    orbits: np.ndarray


def standard_cells(crystals: Crystals, symprec: float = SYMPREC) -> list[StandardCell | None]:
    """The primitive standard cell of each crystal, None where the analysis fails."""
    return [None if data is None else _standard_cell(data) for data in _datasets(crystals, symprec)]


def _standard_cell(data: MoyoDataset) -> StandardCell:
    reduced = data.prim_std_cell
    _, source = np.unique(data.mapping_std_prim, return_index=True)  # an atom as given for each primitive one
    return StandardCell(
        data.number,
        np.array(reduced.basis),
        np.array(reduced.positions),
        np.array(reduced.numbers),
        [data.wyckoffs[k] for k in source],
        np.array(data.orbits)[source],
    )


@dataclass(frozen=True, slots=True)
class Symmetrized:
    """A crystal made exactly symmetric, in its standard cells.

    Attributes:
        space_group: Its number.
        conventional: The conventional cell, a batch of one.
        primitive: The primitive cell, a batch of one.
        wyckoff: Occupied positions, "Sr:a Ti:b O:c".
        rms_displacement: Å, by how much symmetrising moved the atoms, a common shift taken out.
    """

    space_group: int
    conventional: Crystals
    primitive: Crystals
    wyckoff: str
    rms_displacement: float


def symmetrized(crystal: Crystals, symprec: float = SYMPREC) -> Symmetrized | None:
    """The standard conventional and primitive cells of one crystal, or None where the analysis fails."""
    (given,) = crystal.arrays()
    (data,) = _datasets(crystal, symprec)
    if data is None:
        return None
    standard, reduced = data.std_cell, data.prim_std_cell
    target = np.array(reduced.positions)[data.mapping_std_prim]
    placed = np.linalg.solve(np.array(data.prim_std_linear), (given[1] - data.prim_std_origin_shift).T).T
    moved = target - placed
    moved -= np.rint(moved)
    moved = (moved - moved.mean(axis=0)) @ np.array(reduced.basis)
    return Symmetrized(
        space_group=data.number,
        conventional=Crystals.from_arrays([standard.basis], [standard.positions], [standard.numbers]),
        primitive=Crystals.from_arrays([reduced.basis], [reduced.positions], [reduced.numbers]),
        wyckoff=_occupied(data, given[2]),
        rms_displacement=float(np.sqrt((moved**2).sum(axis=1).mean())),
    )


@dataclass(frozen=True, slots=True, eq=False)
class SymmetryOperations:
    """All symmetry operations of a batch of B crystals with A atoms, O operations and P images in all.

    An operation takes the fractional coordinates x to x W^T + w. Its images say which atom each atom of the
    crystal is taken to. The images of one operation are consecutive, as are the operations of one crystal.

    Attributes:
        space_group: int64 [B], 0 where the analysis failed; such a crystal has the identity alone.
        n_atoms: int64 [B], atoms in each cell.
        n_operations: int64 [B], operations of each.
        rotation: float [O, 3, 3], integer matrices W in the crystal's own cell.
        translation: float [O, 3], w.
        cartesian: float [O, 3, 3], orthogonal Q that takes a Cartesian row vector v to v Q.
        source: int64 [P], atom of the batch that is taken to.
        target: int64 [P], this one by.
        image_of: int64 [P], this operation.
    """

    space_group: Tensor
    n_atoms: Tensor
    n_operations: Tensor
    rotation: Tensor
    translation: Tensor
    cartesian: Tensor
    source: Tensor
    target: Tensor
    image_of: Tensor

    def __len__(self) -> int:
        return len(self.n_operations)

    @property
    def crystal_of(self) -> Tensor:
        """int64 [O]: the crystal that each operation belongs to."""
        index = torch.arange(len(self), device=self.n_operations.device)
        return torch.repeat_interleave(index, self.n_operations)

    def symmetrize_forces(self, forces: Tensor) -> Tensor:
        """Project Cartesian vectors on atoms [A, 3] (forces, displacements) onto the invariant ones.

        F'_j = 1/|G| Σ F_i Q over all operations, each taking its i to j. Q stays valid while the cell is only
        changed by strains that are themselves projected with `symmetrize_stress`.
        """
        turned = (forces[self.source, None, :] @ self.cartesian[self.image_of]).squeeze(1)
        return self._mean_at_target(turned)

    def symmetrize_stress(self, stress: Tensor) -> Tensor:
        """Project tensors [B, 3, 3] (stress, strain) onto the invariant ones: S' = 1/|G| Σ Q^T S Q."""
        of = self.crystal_of
        turned = self.cartesian.mT @ stress[of] @ self.cartesian
        total = torch.zeros_like(stress).index_add_(0, of, turned)
        return total / self.n_operations[:, None, None]

    def symmetrize(self, crystals: Crystals) -> Crystals:
        """The same crystals, made exactly symmetric: cells by their mean metric, atoms by their mean place.

        The orientation is kept: the change of the cell is a pure strain.
        """
        of = self.crystal_of
        metric = crystals.cell @ crystals.cell.mT
        mean = torch.zeros_like(metric).index_add_(0, of, self.rotation.mT @ metric[of] @ self.rotation)
        cell = _strained_to(crystals.cell, mean / self.n_operations[:, None, None])
        moved = torch.einsum("pij,pj->pi", self.rotation[self.image_of], crystals.frac[self.source])
        moved = moved + self.translation[self.image_of] - crystals.frac[self.target]
        return crystals.with_geometry(cell, crystals.frac + self._mean_at_target(moved - moved.round()))

    def __getitem__(self, index: Tensor) -> SymmetryOperations:
        """The operations of the chosen crystals: int64 or bool [B'], as `Crystals` is indexed."""
        chosen = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        n_images = self.n_atoms * self.n_operations
        atom_shift = _starts(self.n_atoms[chosen]) - _starts(self.n_atoms)[chosen]
        operation_shift = _starts(self.n_operations[chosen]) - _starts(self.n_operations)[chosen]
        kept = ranges(_starts(self.n_operations)[chosen], self.n_operations[chosen])
        rows = ranges(_starts(n_images)[chosen], n_images[chosen])
        atom_shift = torch.repeat_interleave(atom_shift, n_images[chosen])
        operation_shift = torch.repeat_interleave(operation_shift, n_images[chosen])
        return SymmetryOperations(
            self.space_group[chosen],
            self.n_atoms[chosen],
            self.n_operations[chosen],
            self.rotation[kept],
            self.translation[kept],
            self.cartesian[kept],
            self.source[rows] + atom_shift,
            self.target[rows] + atom_shift,
            self.image_of[rows] + operation_shift,
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SymmetryOperations:
        tensors = (getattr(self, field.name) for field in fields(self))
        return SymmetryOperations(
            *(t.to(device=device, dtype=dtype if t.is_floating_point() else None) for t in tensors)
        )

    def _mean_at_target(self, values: Tensor) -> Tensor:
        """Mean over the images [P, 3] that arrive at each atom: [A, 3]."""
        order = torch.repeat_interleave(self.n_operations, self.n_atoms)
        total = values.new_zeros((len(order), 3)).index_add_(0, self.target, values)
        return total / order[:, None]


def operations(crystals: Crystals, symprec: float = SYMPREC) -> SymmetryOperations:
    """The symmetry operations of each crystal in its own cell, those of a non-primitive cell included."""
    rotations, translations, cartesians, images, numbers = [], [], [], [], []
    for data, (cell, frac, species) in zip(_datasets(crystals, symprec), crystals.arrays(), strict=True):
        found = None if data is None else _images(data, cell, frac, species)
        numbers.append(data.number if data is not None and found is not None else 0)
        identity = np.eye(3)[None], np.zeros((1, 3)), np.arange(len(frac))[None]
        rotation, translation, image = identity if found is None else found
        rotations.append(rotation)
        translations.append(translation)
        cartesians.append(rotation if found is None else _orthogonal(rotation, cell))
        images.append(image)
    n_atoms = crystals.n_atoms.cpu()
    n_operations = torch.tensor([len(r) for r in rotations], dtype=torch.int64)
    starts = crystals.offsets[:-1].tolist()
    source = [np.tile(np.arange(m.shape[1]) + s, len(m)) for m, s in zip(images, starts, strict=True)]
    target = [m.ravel() + s for m, s in zip(images, starts, strict=True)]
    image_of = torch.repeat_interleave(
        torch.arange(int(n_operations.sum())), torch.repeat_interleave(n_atoms, n_operations)
    )
    return SymmetryOperations(
        torch.tensor(numbers, dtype=torch.int64),
        n_atoms,
        n_operations,
        _joined(rotations, (0, 3, 3)),
        _joined(translations, (0, 3)),
        _joined(cartesians, (0, 3, 3)),
        _joined(source, (0,)).long(),
        _joined(target, (0,)).long(),
        image_of,
    ).to(device=crystals.device, dtype=crystals.cell.dtype)


def _datasets(crystals: Crystals, symprec: float) -> list[MoyoDataset | None]:
    """moyo's analysis of each crystal; None where it finds no consistent symmetry."""
    import moyopy

    standard = moyopy.Setting.standard()
    found = []
    for cell, frac, numbers in crystals.arrays():
        basis = moyopy.Cell(cell.tolist(), frac.tolist(), numbers.tolist())
        try:
            found.append(moyopy.MoyoDataset(basis, symprec=symprec, setting=standard))
        except ValueError:
            found.append(None)
    return found


def _occupied(data: MoyoDataset, numbers: np.ndarray) -> str:
    return wyckoff_text(_orbits(data, numbers))


def _orbits(data: MoyoDataset, numbers: np.ndarray) -> list[tuple[int, str]]:
    return [(int(numbers[i]), data.wyckoffs[i]) for i in sorted(set(data.orbits))]


def _images(
    data: MoyoDataset, cell: np.ndarray, frac: np.ndarray, species: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Rotations [G, 3, 3], translations [G, 3] and the atom [G, n] that each atom is taken to.

    None if an operation does not permute the atoms, which happens only where the tolerance is as large as the
    distance between atoms.
    """
    rotation = np.array(data.operations.rotations, dtype=np.float64)
    translation = np.array(data.operations.translations)
    image = np.empty((len(rotation), len(frac)), dtype=np.int64)
    for kind in np.unique(species):
        of = np.flatnonzero(species == kind)
        for g in range(len(rotation)):  # one operation at a time: [n, n, 3] stays small for 200 atoms
            gap = (frac[of] @ rotation[g].T + translation[g])[:, None] - frac[of]
            gap = (gap - np.rint(gap)) @ cell
            image[g, of] = of[(gap**2).sum(axis=-1).argmin(axis=1)]
    if not (np.sort(image, axis=1) == np.arange(len(frac))).all():
        return None
    return rotation, translation, image


def _orthogonal(rotation: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Cartesian operation on row vectors, C^-1 W^T C, of the cell C made exactly symmetric: [G, 3, 3]."""
    metric = (rotation.transpose(0, 2, 1) @ (cell @ cell.T) @ rotation).mean(axis=0)
    symmetric = _strained_to(torch.from_numpy(cell)[None], torch.from_numpy(metric)[None])[0].numpy()
    return np.linalg.inv(symmetric) @ rotation.transpose(0, 2, 1) @ symmetric


def _strained_to(cell: Tensor, metric: Tensor) -> Tensor:
    """The cells [B, 3, 3] under the pure strain that gives them the metric [B, 3, 3] (C C^T)."""
    other = torch.linalg.cholesky(metric)
    u, s, _ = torch.linalg.svd(torch.linalg.solve(cell, other))  # C^-1 other = strain × rotation
    return cell @ (u * s[:, None, :]) @ u.mT


def _order(points: np.ndarray) -> np.ndarray:
    return np.lexsort(np.rint(points * 24).T)


def _starts(counts: Tensor) -> Tensor:
    return torch.cumsum(counts, 0) - counts


def _joined(parts: list[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(shape)
