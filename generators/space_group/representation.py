"""Crystals as what symmetry leaves to choose: space group, Wyckoff positions, cell, free coordinates.

The exact language of the learned generator: every crystal with symmetry has descriptions in it, one of
which is canonical (`generators.space_group.canonical`), and every description is a crystal of exact
composition.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from csp.crystallography.lattice import cell_from_parameters, minkowski_reduced
from csp.crystallography.wyckoff import wyckoff_table
from csp.crystals import Crystals, ranges
from csp.target import Target
from generators.random_symmetric.wyckoff_combinations import WyckoffAssignments

__all__ = ["WyckoffRepresentation", "build_crystals", "empty", "of_assignments", "starts"]


@dataclass(frozen=True, slots=True, eq=False)
class WyckoffRepresentation:
    """B crystals with N elements and K orbits in all; concatenated, no padding.

    Attributes:
        group: int64 [B].
        z: int64 [B], formula units in the primitive cell.
        lattice: float32 [B, 6] a, b, c in Å and cosines of α, β, γ of the conventional cell.
        first_element: int64 [B + 1], crystal b has the elements first_element[b]:first_element[b + 1].
        number: int64 [N], atomic numbers, in the order of electronegativity.
        count: int64 [N], atoms in a formula unit, coprime.
        first_orbit: int64 [B + 1], crystal b has the orbits first_orbit[b]:first_orbit[b + 1].
        element: int64 [K], place among the crystal's elements; ascending.
        position: int64 [K], row of the Wyckoff table; ascending within an element.
        point: float32 [K, 3] free coordinates u of the position, in [0, 1); 0 where not free.
    """

    group: Tensor
    z: Tensor
    lattice: Tensor
    first_element: Tensor
    number: Tensor
    count: Tensor
    first_orbit: Tensor
    element: Tensor
    position: Tensor
    point: Tensor

    def __len__(self) -> int:
        return len(self.group)

    @property
    def n_elements(self) -> Tensor:
        """int64 [B]"""
        return self.first_element.diff()

    @property
    def n_orbits(self) -> Tensor:
        """int64 [B]"""
        return self.first_orbit.diff()

    @property
    def n_atoms(self) -> Tensor:
        """int64 [B]: atoms in the primitive cell."""
        crystal = torch.repeat_interleave(torch.arange(len(self)), self.n_orbits)
        size = wyckoff_table().n_atoms[self.position]
        return torch.zeros(len(self), dtype=torch.int64).index_add_(0, crystal, size)

    def __getitem__(self, chosen: Tensor) -> WyckoffRepresentation:
        """The chosen crystals: int64 [B'] or bool [B]."""
        chosen = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen
        elements = ranges(self.first_element[chosen], self.n_elements[chosen])
        orbits = ranges(self.first_orbit[chosen], self.n_orbits[chosen])
        return WyckoffRepresentation(
            self.group[chosen],
            self.z[chosen],
            self.lattice[chosen],
            starts(self.n_elements[chosen]),
            self.number[elements],
            self.count[elements],
            starts(self.n_orbits[chosen]),
            self.element[orbits],
            self.position[orbits],
            self.point[orbits],
        )

    @classmethod
    def cat(cls, parts: list[WyckoffRepresentation]) -> WyckoffRepresentation:
        """All crystals of the parts, in order; there is at least one part."""
        columns = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        columns["first_element"] = starts(torch.cat([p.n_elements for p in parts]))
        columns["first_orbit"] = starts(torch.cat([p.n_orbits for p in parts]))
        return cls(**columns)


def starts(lengths: Tensor) -> Tensor:
    """[0, l_0, l_0 + l_1, …]: where runs of these lengths begin, and the end."""
    return torch.cat([lengths.new_zeros(1), torch.cumsum(lengths, 0)])


def build_crystals(d: WyckoffRepresentation) -> Crystals:
    """The crystals described: primitive Minkowski-reduced cells, float64, atoms orbit by orbit.

    Cells that do not exist (cosines that cannot meet) have NaN in them.
    """
    table = wyckoff_table()
    lattice = d.lattice.double()
    conventional = cell_from_parameters(lattice[:, :3], lattice[:, 3:])
    cell = torch.linalg.inv(table.to_primitive[d.group]).mT @ conventional
    sound = cell.isfinite().all((1, 2))
    reduced, change = minkowski_reduced(torch.where(sound[:, None, None], cell, torch.eye(3).double()))
    reduced[~sound] = torch.nan
    crystal = torch.repeat_interleave(torch.arange(len(d)), d.n_orbits)
    size = table.n_atoms[d.position]
    maps = ranges(table.first_map[d.position], size)
    orbit = torch.repeat_interleave(torch.arange(len(crystal)), size)
    frac = torch.einsum("aij,aj->ai", table.map_rotation[maps], d.point[orbit].double())
    frac = frac + table.map_translation[maps]
    owner = crystal[orbit]
    frac = torch.einsum(
        "ai,aij->aj", frac, torch.linalg.inv(change)[owner]
    )  # x' = x T⁻¹ for the rows T @ cell
    numbers = d.number[d.first_element[owner] + d.element[orbit]]
    return Crystals(reduced, frac, numbers, starts(d.n_atoms)).wrapped()


def of_assignments(target: Target, assignments: WyckoffAssignments) -> WyckoffRepresentation:
    """Assignments of a target, with unit cells and all points at 0."""
    n, k = len(assignments), len(target.numbers)
    return WyckoffRepresentation(
        torch.from_numpy(assignments.group),
        torch.from_numpy(assignments.z),
        torch.tensor([1.0, 1, 1, 0, 0, 0]).expand(n, 6),
        starts(torch.full((n,), k)),
        torch.tensor(target.numbers).repeat(n),
        torch.tensor(target.counts).repeat(n),
        starts(torch.bincount(torch.from_numpy(assignments.crystal), minlength=n)),
        torch.from_numpy(assignments.element),
        torch.from_numpy(assignments.position),
        torch.zeros(len(assignments.position), 3),
    )


def empty() -> WyckoffRepresentation:
    """No crystals."""
    integers, none = torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    return WyckoffRepresentation(
        integers,
        integers,
        torch.zeros(0, 6),
        none,
        integers,
        integers,
        none,
        integers,
        integers,
        torch.zeros(0, 3),
    )
