"""pymatgen's StructureMatcher, one crystal against thousands at once.

The same algorithm and the same results (`fit`, `get_rms_dist`, `group_structures` with primitive
cells, no supercells, elements compared by name), rearranged:

- cells are reduced once per crystal and in batches (`csp.matching.niggli`);
- the lattices on which two crystals may coincide are found for all candidates together: a mapping is
  a basis of the first crystal whose six parameters lie in a box around those of the second, and boxes
  are what a k-d tree over all candidates' parameters finds;
- the test of the sites runs over all (candidate, mapping, translation) at once, rarest element first,
  on the device of the crystals; only what survives it is assigned atom by atom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.lattice import cell_from_parameters
from csp.crystals import Crystals
from csp.matching.niggli import Family, cell_parameters, families, reduced
from csp.matching.site_assignment import SitePairs, squared_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Matcher"]

PAIRS_AT_ONCE = {"cpu": 1 << 19, "cuda": 1 << 25}  # site pairs in one pass


@dataclass(frozen=True, slots=True)
class Matcher:
    """When two crystals are the same: pymatgen's tolerances.

    Attributes:
        ltol: Lengths of the mapped lattice vectors, fraction.
        stol: Displacement of sites, in units of (V/N)^(1/3).
        angle_tol: Angles of the mapped lattice vectors, degrees.
        scale: Compare at equal volume.

    `Matcher.DEFAULT` are pymatgen's own tolerances, `Matcher.LOOSE` those of the MP-20 benchmarks.
    As in pymatgen a comparison is not quite symmetric: the first crystal's lattice vectors are mapped
    on the second's cell.
    """

    ltol: float = 0.2
    stol: float = 0.3
    angle_tol: float = 5.0
    scale: bool = True

    DEFAULT: ClassVar[Matcher]
    LOOSE: ClassVar[Matcher]

    def fits(self, truth: Crystals, candidates: Crystals) -> Tensor:
        """bool [B]: is the one crystal `truth` the same as each candidate? (`StructureMatcher.fit`)

        The largest displacement of a site has to be below `stol`.
        """
        return self._compare(truth, candidates, use_rms=False).isfinite()

    def rms(self, truth: Crystals, candidates: Crystals) -> Tensor:
        """float64 [B]: `StructureMatcher.get_rms_dist`, NaN where there is no match.

        The smallest root-mean-square displacement of the sites in units of (V/N)^(1/3), if below
        `stol`: laxer than `fits`, which bounds the largest displacement.
        """
        value = self._compare(truth, candidates, use_rms=True)
        return torch.where(value.isfinite(), value, math.nan)

    def group(self, crystals: Crystals) -> Tensor:
        """int64 [B]: for each crystal the first of its group (`StructureMatcher.group_structures`).

        The first crystal not yet in a group takes all later ones that fit it.
        """
        crystals = reduced(crystals)
        group = torch.arange(len(crystals), device=crystals.device)
        for family in families(crystals):
            candidates = _Candidates.of(crystals, family, self)
            free = np.ones(len(candidates), dtype=bool)
            for leader in range(len(candidates)):
                if not free[leader]:
                    continue
                free[leader] = False
                rows = np.flatnonzero(free)
                same = rows[np.isfinite(candidates.compare(candidates.crystal(leader), rows, use_rms=False))]
                free[same] = False
                group[family.index[torch.as_tensor(same)]] = family.index[leader]
        return group

    def _compare(self, truth: Crystals, candidates: Crystals, *, use_rms: bool) -> Tensor:
        """float64 [B]: smallest displacement measure below `stol`, infinite where there is none."""
        if len(truth) != 1:
            raise ValueError(f"one crystal is compared with many, not {len(truth)}")
        value = torch.full((len(candidates),), math.inf, dtype=torch.float64, device=candidates.device)
        truth, candidates = reduced(truth.to(candidates.device)), reduced(candidates)
        atoms = truth.numbers.sort().values
        for family in families(candidates):
            first = candidates[int(family.index[0])]
            if not torch.equal(first.numbers.sort().values, atoms):
                continue
            batch = _Candidates.of(candidates, family, self)
            [one] = families(truth)
            reference = _Candidates.of(truth, one, self).crystal(0)
            found = batch.compare(reference, np.arange(len(batch)), use_rms=use_rms)
            value[family.index] = torch.as_tensor(found, device=value.device)
        return value


Matcher.DEFAULT = Matcher()
Matcher.LOOSE = Matcher(ltol=0.3, stol=0.5, angle_tol=10.0)


@dataclass(frozen=True, slots=True)
class _Reference:
    """The first crystal of a comparison: cell [3, 3] and frac [N, 3]."""

    cell: Tensor
    frac: Tensor


@dataclass(frozen=True, slots=True)
class _Candidates:
    """C reduced crystals with the same atoms.

    Attributes:
        cell: float64 [C, 3, 3], at one Å³ per atom if the matcher scales.
        frac: float64 [C, N, 3], sorted by element.
        anchor: int64 [C], the atom laid upon the reference's: first of the rarest element.
        parameters: float64 [C, 6], ln(a, b, c) and angles, each in units of its tolerance.
    """

    matcher: Matcher
    cell: Tensor
    frac: Tensor
    anchor: Tensor
    species: tuple[slice, ...]
    parameters: NDArray[np.float64]
    tree: Any = field(repr=False)

    @classmethod
    def of(cls, crystals: Crystals, family: Family, matcher: Matcher) -> _Candidates:
        from scipy.spatial import cKDTree

        chosen = crystals[family.index].to(dtype=torch.float64)
        if matcher.scale:
            chosen = chosen.scaled_to(chosen.n_atoms.double())
        lengths, angles = cell_parameters(chosen.cell)
        parameters = _in_tolerances(matcher, lengths.cpu().numpy(), angles.cpu().numpy())
        rarest = min(s.stop - s.start for s in family.species)
        eligible = torch.cat(
            [torch.full((s.stop - s.start,), s.stop - s.start == rarest) for s in family.species]
        ).to(crystals.device)
        anchor = torch.where(eligible, family.place, family.place.shape[1]).argmin(1)
        return cls(
            matcher,
            chosen.cell,
            family.frac.double(),
            anchor,
            family.species,
            parameters,
            cKDTree(parameters),
        )

    def __len__(self) -> int:
        return len(self.parameters)

    def crystal(self, row: int) -> _Reference:
        return _Reference(self.cell[row], self.frac[row])

    def compare(
        self, reference: _Reference, rows: NDArray[np.int64], *, use_rms: bool
    ) -> NDArray[np.float64]:
        """float64 [R]: the smallest displacement measure below `stol` (largest or root-mean-square) of
        the chosen candidates from the reference; infinite where there is none.

        For the largest displacement the search stops at the first below `stol`.
        """
        best = np.full(len(self), math.inf)
        index, row = self.mappings(reference, rows)
        n_rare = min(s.stop - s.start for s in self.species)
        at_once = PAIRS_AT_ONCE.get(self.cell.device.type, PAIRS_AT_ONCE["cpu"])
        at_once = max(1, at_once // (n_rare * sum((s.stop - s.start) ** 2 for s in self.species)))
        # Mappings come sorted by how alike the lattices are, which finds most matches early.
        while len(row):
            value = self._place(reference, index[:at_once], row[:at_once], use_rms)
            np.minimum.at(best, row[:at_once], value)
            index, row = index[at_once:], row[at_once:]
            if not use_rms:
                open_ = best[row] >= self.matcher.stol
                index, row = index[open_], row[open_]
        best[best >= self.matcher.stol] = math.inf
        return best[rows]

    def mappings(
        self, reference: _Reference, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All bases of the reference that look like a candidate's cell: integers [M, 3, 3], and the
        candidates [M]. pymatgen: `Lattice.find_all_mappings`."""
        none = np.zeros((0, 3, 3), dtype=np.int64), np.zeros(0, dtype=np.int64)
        ltol = self.matcher.ltol
        wide = self.parameters[rows]
        own = np.sort(reference.cell.norm(dim=1).cpu().numpy())
        # A reduced cell's lengths are the shortest there are: no basis of the reference is shorter.
        rows = rows[(np.log(own) / math.log1p(ltol) - np.sort(wide[:, :3], axis=1) < 1.0).all(1)]
        if len(rows) == 0:
            return none
        low, high = self.parameters[rows].min(0) - 1.0, self.parameters[rows].max(0) + 1.0
        index, parameters = _bases(reference.cell.cpu().numpy(), self.matcher, low, high)
        if len(index) == 0:
            return none
        hits = self.tree.query_ball_point(parameters, 1.0 + 1e-12, p=math.inf)
        base = np.repeat(np.arange(len(index)), [len(h) for h in hits])
        row = np.concatenate([np.asarray(h, dtype=np.int64) for h in hits])
        wanted = np.zeros(len(self), dtype=bool)
        wanted[rows] = True
        base, row = base[wanted[row]], row[wanted[row]]
        order = np.argsort(np.abs(parameters[base] - self.parameters[row]).max(1), kind="stable")
        base, row = base[order], row[order]
        # With each basis its inverse, of the same parameters.
        return np.stack([index[base], -index[base]], 1).reshape(-1, 3, 3), np.repeat(row, 2)

    def _place(
        self, reference: _Reference, index: NDArray[np.int64], row: NDArray[np.int64], use_rms: bool
    ) -> NDArray[np.float64]:
        """float64 [M]: the measure of the best translation on each mapping, infinite where none is
        possible. pymatgen: `StructureMatcher._strict_match`."""
        device = self.cell.device
        basis = torch.as_tensor(index, device=device).double()
        candidate = torch.as_tensor(row, device=device)
        frac1 = reference.frac @ torch.linalg.inv(basis)  # [M, N, 3]
        frac2 = self.frac[candidate]
        average = _average_cell(basis @ reference.cell, self.cell[candidate])
        n = frac1.shape[1]
        norm = (n / torch.linalg.det(average).abs()) ** (1.0 / 3.0)  # 1 / (V/N)^(1/3), [M]
        # pymatgen's box of fractional coordinates holds the sphere of twice the site tolerance. While
        # the box is narrower than the cell, a vector inside the sphere has no shorter image.
        sphere = 2.0 * self.matcher.stol / norm
        tolerance = torch.linalg.inv(average).norm(dim=1) * sphere[:, None]
        wide = (tolerance >= 0.5).any(1)

        anchor = self.anchor[candidate]
        by_size = sorted(range(len(self.species)), key=lambda k: self.species[k].stop - self.species[k].start)
        n_rare = self.species[by_size[0]].stop - self.species[by_size[0]].start
        rare = torch.tensor([s.start for s in self.species for _ in range(s.stop - s.start)], device=device)
        partner = rare[anchor][:, None] + torch.arange(n_rare, device=device)  # [M, n_rare]
        rows_m = torch.arange(len(candidate), device=device)
        shift = frac1[rows_m[:, None], partner] - frac2[rows_m, anchor][:, None]  # [M, n_rare, 3]

        mapping = rows_m.repeat_interleave(n_rare)
        shift = shift.reshape(-1, 3)
        for k in by_size:
            s = self.species[k]
            pairs = SitePairs.near(
                frac1[:, s][mapping],
                frac2[:, s][mapping] + shift[:, None],
                average[mapping],
                tolerance[mapping],
            )
            if use_rms:
                alive = pairs.complete()
            else:
                # With the anchors on each other, sites displaced from their mean by less than stol are
                # displaced by less than twice that; a root-mean-square bounds no single site.
                far = pairs.squared >= sphere[mapping][pairs.item] ** 2
                pairs = pairs.shortest(far & wide[mapping][pairs.item], average[mapping])
                alive = pairs.complete(sphere[mapping])
            mapping, shift = mapping[alive], shift[alive]
            if len(mapping) == 0:
                return np.full(len(row), math.inf)

        moved = frac2[mapping] + shift[:, None]
        cell = average[mapping]
        vectors = []
        for s in self.species:
            pairs = SitePairs.near(frac1[:, s][mapping], moved[:, s], cell, tolerance[mapping])
            far = pairs.squared >= sphere[mapping][pairs.item] ** 2
            vectors.append(pairs.shortest(far | wide[mapping][pairs.item], cell).assigned())
        displacement = torch.cat(vectors, dim=1)
        displacement = displacement - displacement.mean(1, keepdim=True)
        squared = squared_length(displacement)
        measure = (squared.mean(1) if use_rms else squared.amax(1)).sqrt() * norm[mapping]
        measure = measure.nan_to_num(math.inf)
        value = measure.new_full((len(row),), math.inf).scatter_reduce(0, mapping, measure, "amin")
        return value.cpu().numpy()


def _in_tolerances(
    matcher: Matcher, lengths: NDArray[np.float64], angles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """float64 [..., 6]: ln(a, b, c) and (α, β, γ) in units of the tolerances."""
    return np.concatenate([np.log(lengths) / math.log1p(matcher.ltol), angles / matcher.angle_tol], axis=-1)


def _bases(
    cell: NDArray[np.float64], matcher: Matcher, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The bases of a lattice with all six parameters between `low` and `high` (tolerance units), one
    of each inverse pair: integers [T, 3, 3] and parameters [T, 6]."""
    unit = math.log1p(matcher.ltol)
    radius = math.exp(high[:3].max() * unit)
    reach = np.floor(radius * np.linalg.norm(np.linalg.inv(cell), axis=0) + 1e-9).astype(int)
    axes = [np.arange(-k, k + 1) for k in reach]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    index = index[(index != 0).any(1)]
    vector = index @ cell
    length = np.linalg.norm(vector, axis=1)
    log_length = np.log(length) / unit
    a, b, c = (np.flatnonzero((log_length >= low[k]) & (log_length <= high[k])) for k in range(3))
    a = a[a >= len(index) // 2]  # the grid is symmetric: the other half are the inverses
    direction = vector / length[:, None]

    def angle(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        cosine = np.clip(direction[left] @ direction[right].T, -1.0, 1.0)
        return np.degrees(np.arccos(cosine)) / matcher.angle_tol

    alpha, beta, gamma = angle(b, c), angle(a, c), angle(a, b)
    i, j = np.nonzero((gamma >= low[5]) & (gamma <= high[5]))
    fits_alpha, fits_beta = (alpha >= low[3]) & (alpha <= high[3]), (beta >= low[4]) & (beta <= high[4])
    pair, k = np.nonzero(fits_alpha[j] & fits_beta[i])
    i, j = i[pair], j[pair]
    triple = np.stack([index[a[i]], index[b[j]], index[c[k]]], 1)
    cross = np.cross(triple[:, 1], triple[:, 2])
    whole = np.abs((triple[:, 0] * cross).sum(1)) == 1  # a basis, not a sublattice
    i, j, k = i[whole], j[whole], k[whole]
    lengths = np.stack([length[a[i]], length[b[j]], length[c[k]]], 1)
    angles = np.stack([alpha[j, k], beta[i, k], gamma[i, j]], 1) * matcher.angle_tol
    return triple[whole], _in_tolerances(matcher, lengths, angles)


def _average_cell(first: Tensor, second: Tensor) -> Tensor:
    """float [M, 3, 3]: the cell with the means of the lengths and angles of two."""
    (length1, angle1), (length2, angle2) = cell_parameters(first), cell_parameters(second)
    return cell_from_parameters((length1 + length2) / 2, torch.cos(torch.deg2rad((angle1 + angle2) / 2)))
