"""The volume of a crystal from its composition alone, learned from the library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.neighbours import COVALENT_RADII
from csp.files import write_text
from csp.library.library import Library

__all__ = ["VolumePrior", "composition_volumes"]

SHIPPED = Path(__file__).parents[1] / "data" / "volume_prior.json"
N_NUMBERS = 119  # atomic numbers 0 (nothing) to 118
RANK = 4  # of the interaction; 2 and 8 miss held-out compositions by 4.4 and 4.1 %, 4 by 4.1 %
RIDGE = 3e-6
PACKING = 1.8  # volume of an atom in units of the sphere of its covalent radius, median of the library
# He, Ne, Ar, Kr bind to nothing: the few compounds in a library are phases under pressure and no guide to
# the elements. They are close-packed spheres of their van der Waals radii, Å: Bondi, J. Phys. Chem. 68, 441
# (1964).
ONLY_TOUCH = {2: 1.40, 10: 1.54, 18: 1.88, 36: 2.02}
CLOSE_PACKED = 0.74


@dataclass(frozen=True, slots=True, eq=False)
class VolumePrior:
    """Additive atomic volumes that respond to what surrounds the atom.

        V = Σ_e n_e exp(a_e + p_e · m),   m = Σ_e x_e s_e

    with n_e the atoms of element e in a formula unit and x_e its atomic fraction: in each composition
    the mean m of what the elements bring (s) shrinks or swells each by its own response (p), as oxygen
    shrinks a metal. With p = 0 this is the plain sum of elemental volumes (Biltz, Raumchemie, 1934).

    Attributes:
        log_volume: float64 [119], a, ln Å³.
        response: float64 [119, RANK], p.
        influence: float64 [119, RANK], s.
        known: bool [119], elements met in the fit; others are spheres.
    """

    log_volume: Tensor
    response: Tensor
    influence: Tensor
    known: Tensor

    @classmethod
    def load(cls, path: Path = SHIPPED) -> VolumePrior:
        """The prior that ships, fitted on the Materials Project's structures."""
        return _load(path)

    def predict(self, numbers: Sequence[int], counts: Sequence[int]) -> float:
        """Å³ per formula unit with counts[i] atoms of atomic number numbers[i]."""
        return float(self.volumes(torch.tensor([list(numbers)]), torch.tensor([list(counts)]))[0])

    def volumes(self, numbers: Tensor, counts: Tensor) -> Tensor:
        """Å³ per formula unit [N] of compositions numbers [N, k], counts [N, k]; count 0 pads."""
        return _volumes(self.log_volume, self.response, self.influence, numbers, counts)

    @classmethod
    def fit(cls, numbers: Tensor, counts: Tensor, volumes: Tensor, *, steps: int = 300) -> VolumePrior:
        """Least absolute deviations of ln V (robust: phases under pressure and of low density are in a
        library) with a small ridge on the interaction, by L-BFGS.

        Args:
            numbers: int [N, k], atomic numbers of compositions, as `composition_volumes` gives them.
            counts: int [N, k], their amounts; 0 pads.
            volumes: float64 [N], Å³ per formula unit.
            steps: Iterations, at most.
        """
        known = torch.zeros(N_NUMBERS, dtype=torch.bool)
        known[numbers[counts > 0]] = True
        known[list(ONLY_TOUCH)] = False
        generator = torch.Generator().manual_seed(0)
        a = _sphere_volumes().log().requires_grad_()
        p, s = (
            torch.normal(
                0.0, 0.1, (N_NUMBERS, RANK), generator=generator, dtype=torch.float64
            ).requires_grad_()
            for _ in range(2)
        )
        optimizer = torch.optim.LBFGS(
            [a, p, s], max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
        )
        target = volumes.log()

        def closure() -> Tensor:
            optimizer.zero_grad()
            error = _volumes(a, p, s, numbers, counts).log() - target
            loss = torch.sqrt(error**2 + 0.02**2).mean() + RIDGE * ((p**2).sum() + (s**2).sum())
            loss.backward()
            return loss

        optimizer.step(closure)
        where = known[:, None]
        return cls(
            torch.where(known, a.detach(), _sphere_volumes().log()),
            torch.where(where, p.detach(), 0.0),
            torch.where(where, s.detach(), 0.0),
            known,
        )

    def save(self, path: Path) -> None:
        """Write as JSON, rounded at 1e-4."""
        elements = {
            str(z): [round(float(x), 4) for x in (self.log_volume[z], *self.response[z], *self.influence[z])]
            for z in self.known.nonzero().flatten().tolist()
        }
        write_text(path, json.dumps(elements, separators=(",", ":")).replace("],", "],\n") + "\n")


def composition_volumes(library: Library) -> tuple[Tensor, Tensor, Tensor]:
    """Every reduced composition of a library.

    Returns:
        Numbers [N, k], counts [N, k] (0 pads), and the median volume of its entries, Å³ per formula unit [N].
    """
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    crystals = library.crystals(rows)
    volume = (crystals.volumes / crystals.n_atoms).numpy() * counts.sum(axis=1)
    kinds, kind = np.unique(np.hstack([numbers, counts]), axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    order = np.lexsort((volume, kind))
    sizes = np.bincount(kind, minlength=len(kinds))
    middle = np.cumsum(sizes) - sizes + (sizes - 1) // 2
    k = numbers.shape[1]
    return torch.tensor(kinds[:, :k]), torch.tensor(kinds[:, k:]), torch.tensor(volume[order][middle])


def _volumes(a: Tensor, p: Tensor, s: Tensor, numbers: Tensor, counts: Tensor) -> Tensor:
    n = counts.to(a)
    fraction = n / n.sum(1, keepdim=True)
    mean = torch.einsum("nk,nkr->nr", fraction, s[numbers])
    return (n * torch.exp(a[numbers] + torch.einsum("nkr,nr->nk", p[numbers], mean))).sum(1)


def _sphere_volumes() -> Tensor:
    """Å³ [119] from covalent radii, of what only touches van der Waals radii; a middling atom where there is
    no radius."""
    volume = PACKING * 4.0 / 3.0 * torch.pi * COVALENT_RADII**3
    for z, radius in ONLY_TOUCH.items():
        volume[z] = 4.0 / 3.0 * torch.pi * radius**3 / CLOSE_PACKED
    return torch.nan_to_num(volume, nan=20.0).clamp(min=1.0)


@cache
def _load(path: Path) -> VolumePrior:
    elements = json.loads(path.read_text())
    z = torch.tensor([int(key) for key in elements])
    table = torch.zeros(N_NUMBERS, 1 + 2 * RANK, dtype=torch.float64)
    table[:, 0] = _sphere_volumes().log()
    table[z] = torch.tensor(list(elements.values()), dtype=torch.float64)
    known = torch.zeros(N_NUMBERS, dtype=torch.bool)
    known[z] = True
    return VolumePrior(table[:, 0], table[:, 1 : 1 + RANK], table[:, 1 + RANK :], known)
