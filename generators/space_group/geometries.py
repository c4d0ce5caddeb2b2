"""Drawing cells and coordinates from the space-group model for Wyckoff assignments; atoms keep apart.

What is drawn is the model's distribution under the condition that atoms keep their distance: cells and the
coordinates of each site are drawn several times at once, and the first that is sound is kept (rejection, cut
off after as many trials). The random numbers of each candidate are its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.lattice import minkowski_reduced
from csp.crystallography.neighbours import heights
from generators.random_streams import Streams
from generators.random_symmetric.overlaps import Layout, Sites, images_apart, lower_triangular
from generators.random_symmetric.packing import primitive_cells
from generators.random_symmetric.wyckoff_combinations import WyckoffAssignments
from generators.space_group.cell_values import lattice_of, values_of
from generators.space_group.mixtures import VON_MISES_DRAWS
from generators.space_group.model import FREE_CELL, N_CELL, SpaceGroupModel, site_freedom
from generators.space_group.representation import WyckoffRepresentation
from generators.space_group.sampling import AT_ONCE, joined
from generators.space_group.tokens import Batch, attention_mask, prefix

__all__ = ["Geometries", "Soundness", "as_assignments"]

MIN_HEIGHT = 1.0  # Å, between the faces of a cell


@dataclass(frozen=True, slots=True)
class Soundness:
    """What a crystal must be.

    Attributes:
        min_distance: Between atoms, as a share of the sum of two covalent radii.
        volume: Largest factor between the volume and the expected one.
        trials: Cells, and points of a site, that are drawn until one is sound.
    """

    min_distance: float = 0.7
    volume: float = 1.6
    trials: int = 8


class Geometries:
    """Cells and coordinates for assignments [U] of one composition, which the model reads once."""

    @torch.no_grad()
    def __init__(self, model: SpaceGroupModel, assignments: WyckoffRepresentation, radii: Tensor) -> None:
        """Have the model read the assignments.

        Args:
            radii: Covalent radii of the elements [E], Å, in the order of the composition.
        """
        self._model = model
        self._assignments = assignments
        self._radii = radii
        self._sites = Sites.of(as_assignments(assignments))
        crystal = self._sites.crystal
        first = torch.arange(len(crystal)) == assignments.first_orbit[crystal]
        self._moves = site_freedom(assignments.group[crystal], assignments.position, first).any(1)
        self._batch = batch = assignments_as_batch(assignments)
        tokens = prefix(model, batch)
        n_tokens, rows = tokens.shape[1], torch.arange(len(batch))
        sees = attention_mask(batch)[:, :n_tokens, :n_tokens]
        parts = [model.trunk(tokens[part], sees[part]) for part in rows.split(AT_ONCE)]
        self._cache = joined([cache for _, cache in parts])
        n_elements = batch.number.shape[1]
        self._last = torch.cat([out for out, _ in parts])[rows, n_elements + assignments.n_orbits]
        one = torch.ones(len(batch), 1, dtype=torch.bool)
        self._real = torch.cat([batch.number > 0, one, batch.orbit_number > 0], 1)

    @torch.no_grad()
    def draw(
        self,
        which: Tensor,
        streams: Streams,
        volume_per_atom: float,
        sound: Soundness,
        temperature: float = 1.0,
        lattice: Tensor | None = None,
    ) -> tuple[WyckoffRepresentation, Tensor]:
        """Sound geometries for as many of the assignments `which` [B] as possible, and which of them: [B'].

        Args:
            volume_per_atom: Å³, expected of the composition.
            lattice: Conventional cells [B, 6] that they must have, as in `WyckoffRepresentation`; None: any.
        """
        parts = [
            self._drawn(
                which[part],
                streams[part],
                volume_per_atom,
                sound,
                temperature,
                None if lattice is None else lattice[part],
            )
            for part in torch.arange(len(which)).split(AT_ONCE)
        ]
        begin = torch.arange(0, len(which), AT_ONCE).tolist()
        kept = torch.cat([rows + start for (_, rows), start in zip(parts, begin, strict=True)])
        return WyckoffRepresentation.cat([described for described, _ in parts]), kept

    def _drawn(
        self,
        which: Tensor,
        streams: Streams,
        volume_per_atom: float,
        sound: Soundness,
        temperature: float,
        given: Tensor | None,
    ) -> tuple[WyckoffRepresentation, Tensor]:
        if given is None:
            cells = self._cells(which, streams, volume_per_atom, sound, temperature)
        else:
            cells = self._given_cells(which, given, volume_per_atom, sound)
        values, lattice, cell, change, kept = cells
        which, streams = which[kept], streams[kept]
        result = replace(self._assignments[which], lattice=lattice)
        places = _Places.of(
            self._sites[which], self._moves_of(which), cell, change, self._radii, sound.min_distance
        )
        places.put_fixed()
        self._place_sites(which, streams, values, places, sound.trials, temperature)
        alive = places.alive.nonzero().flatten()
        return replace(result, point=places.points)[alive], kept[alive]

    def _moves_of(self, which: Tensor) -> Tensor:
        """bool [K]: does the model place them? Of the orbits of assignments `which`."""
        return self._moves[self._sites.orbits(which)]

    def _cells(
        self, which: Tensor, streams: Streams, volume_per_atom: float, sound: Soundness, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Sound cells: parameters [B', 6], lattices [B', 6], reduced lower triangular cells [B', 3, 3], the
        change of basis to them [B', 3, 3]; and which of `which` [B] they are for, [B']."""
        n, trials = len(which), sound.trials
        row = torch.arange(n).repeat_interleave(trials)
        own = streams.child(0)[row].child(torch.arange(trials).repeat(n))
        assignment = which[row]
        group, n_atoms = self._assignments.group[assignment], self._sites.n_atoms[assignment]
        values = self._model.cells(self._last[assignment]).sample(own.uniform(1 + N_CELL), temperature)
        values = values * FREE_CELL[group]
        expected = torch.full((len(row),), volume_per_atom, dtype=torch.float64)
        lattice = lattice_of(values, group, n_atoms, expected).float()
        cell = primitive_cells(group, lattice.double())
        good = cell.isfinite().all((1, 2)) & (values[:, 0].abs() < np.log(sound.volume))
        cell, change = minkowski_reduced(torch.where(good[:, None, None], cell, torch.eye(3).double()))
        good &= (heights(cell) > MIN_HEIGHT).all(1) & images_apart(cell, self._radii, sound.min_distance)
        good = good.reshape(n, trials)
        kept = good.any(1).nonzero().flatten()
        first = kept * trials + good[kept].to(torch.uint8).argmax(1)
        return values[first], lattice[first], lower_triangular(cell[first]), change[first], kept

    def _given_cells(
        self, which: Tensor, lattice: Tensor, volume_per_atom: float, sound: Soundness
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The same for given lattices [B, 6]: sound if the images of each atom keep apart."""
        group, n_atoms = self._assignments.group[which], self._sites.n_atoms[which]
        cell, change = minkowski_reduced(primitive_cells(group, lattice))
        kept = images_apart(cell, self._radii, sound.min_distance).nonzero().flatten()
        expected = torch.full((len(which),), volume_per_atom, dtype=torch.float64)
        values = values_of(lattice, group, n_atoms, expected) * FREE_CELL[group]
        return values[kept], lattice[kept].float(), lower_triangular(cell[kept]), change[kept], kept

    def _place_sites(
        self,
        which: Tensor,
        streams: Streams,
        values: Tensor,
        places: _Places,
        trials: int,
        temperature: float,
    ) -> None:
        """Points for the sites of all that are alive, one site of each after the other."""
        model, batch = self._model, self._batch
        number, row, free = batch.site_number[which], batch.site_row[which], batch.site_free[which]
        n_sites = number.shape[1]
        if not n_sites:
            return
        active = (places.alive & (number[:, 0] > 0)).nonzero().flatten()
        token = model.cell(batch.group[which], values.float(), number[:, 0], row[:, 0])[active]
        past = [(k[which[active]], v[which[active]]) for k, v in self._cache]
        real = self._real[which[active]]
        for site in range(n_sites):
            if not len(active):
                return
            real = torch.cat([real, torch.ones(len(real), 1, dtype=torch.bool)], 1)
            out, past = model.trunk(token[:, None], real[:, None], past)
            each = torch.arange(len(active)).repeat_interleave(trials)
            own = streams[active].child(1 + site)[each].child(torch.arange(trials).repeat(len(active)))
            trial = _points(model, out[:, 0][each], free[active, site][each], own, temperature)
            point = places.put(active, site, trial.reshape(len(active), trials, 3))
            if site + 1 == n_sites:
                return
            more = places.alive[active] & (number[active, site + 1] > 0)
            point, active = point[more], active[more]
            here, there = (active, site), (active, site + 1)
            token = model.site(number[here], row[here], point, number[there], row[there])
            past, real = [(k[more], v[more]) for k, v in past], real[more]


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where the atoms of B crystals are so far, first those that nothing moves, then site by site.

    Attributes:
        n_fixed: int64 [B], orbits that nothing moves.
        points: float [K, 3], coordinates u, in the order of the assignments.
        placed: float [A, 3], atoms, in the order of the layout.
        alive: bool [B], do all atoms so far keep apart?
    """

    sites: Sites
    layout: Layout
    n_fixed: Tensor
    points: Tensor
    placed: Tensor
    alive: Tensor

    @classmethod
    def of(
        cls, sites: Sites, moves: Tensor, cell: Tensor, change: Tensor, radii: Tensor, min_distance: float
    ) -> _Places:
        order = (2 * sites.crystal + moves).argsort(stable=True)
        layout = Layout.of(sites, order, cell, change, radii, min_distance)
        n_fixed = torch.zeros(len(cell), dtype=torch.int64).index_add_(0, sites.crystal, (~moves).long())
        points, placed = torch.zeros(len(order), 3), torch.zeros(len(layout.reach), 3)
        return cls(sites, layout, n_fixed, points, placed, torch.ones(len(cell), dtype=torch.bool))

    def put_fixed(self) -> None:
        """The orbits that nothing moves."""
        for step in range(int(self.n_fixed.max()) if len(self.alive) else 0):
            active = (self.alive & (self.n_fixed > step)).nonzero().flatten()
            self._put(active, self.sites.first_orbit[active] + step, torch.zeros(len(active), 1, 3))

    def put(self, active: Tensor, site: int, trial: Tensor) -> Tensor:
        """The first sound one of the points tried [n, T, 3] for a site of crystals `active` [n], returned as
        [n, 3]; where none is, the crystal is no longer alive."""
        return self._put(active, self.sites.first_orbit[active] + self.n_fixed[active] + site, trial)

    def _put(self, active: Tensor, orbit: Tensor, trial: Tensor) -> Tensor:
        good = self.layout.fits(active, orbit, trial.mT.contiguous(), self.placed)
        self.alive[active] = good.any(1)
        point = trial[torch.arange(len(active)), good.to(torch.uint8).argmax(1)]
        self.points[self.layout.order[orbit]] = point
        atoms, where = self.layout.atoms(orbit, point)
        self.placed[atoms] = where
        return point


def _points(model: SpaceGroupModel, h: Tensor, free: Tensor, streams: Streams, temperature: float) -> Tensor:
    """Coordinates u [B, 3] of a site each, one axis after the other."""
    point = torch.zeros(len(h), 3)
    for axis in range(3):
        rows = free[:, axis].nonzero().flatten()
        density = model.axis(axis, h[rows], point[rows], free[rows])
        uniform = streams[rows].child(axis).uniform(VON_MISES_DRAWS)
        point[rows, axis] = density.sample(uniform, temperature).float()
    return point


def assignments_as_batch(assignments: WyckoffRepresentation) -> Batch:
    """WyckoffAssignments as what the model reads; their cells mean nothing."""
    nothing = torch.zeros(len(assignments.position), dtype=torch.int64)
    return Batch.of(assignments, nothing, torch.ones(len(assignments), dtype=torch.float64))


def as_assignments(d: WyckoffRepresentation) -> WyckoffAssignments:
    """The same orbits, without cells and points."""
    crystal = torch.repeat_interleave(torch.arange(len(d)), d.n_orbits)
    return WyckoffAssignments(
        d.group.numpy(), d.z.numpy(), crystal.numpy(), d.position.numpy(), d.element.numpy()
    )
