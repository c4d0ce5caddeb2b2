"""Errors of the energy and of its slope, and the reference energies of the elements.

Forces and stress are learnt from finite differences of the energy along random directions: the
projection on a random direction is right in the mean for the whole gradient, and costs one more pass
instead of a second derivative.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from csp.crystals import ranges
from surrogates.training.batches import Source
from surrogates.training.labelled import Labelled
from surrogates.transformer.environments import Environments
from surrogates.transformer.network import MAX_Z

__all__ = ["element_references", "energy_loss", "mean_error", "random_directions", "slope_loss"]

STEP_LENGTH = 0.02  # Å; half the length of a finite difference over all coordinates of a crystal
STRAIN_LENGTH = 3.0  # Å; a unit of strain counts as this displacement


def energy_loss(model: nn.Module, source: Source, chosen: Tensor) -> Tensor:
    """float64 [b]: |energy error|, eV/atom."""
    predicted = model(source.cache.environments(chosen))[:, source.column]
    error = predicted - source.labelled.energy[chosen]
    return (error / source.labelled.crystals.n_atoms[chosen]).abs()


def twin_environments(atoms: Environments, displacement: Tensor, strain: Tensor) -> Environments:
    """The crystals moved forwards and, after them, the same crystals moved backwards."""
    forth, back = atoms.displaced(displacement, strain), atoms.displaced(-displacement, -strain)
    return Environments(
        torch.cat([atoms.numbers, atoms.numbers]),
        torch.cat([atoms.crystal, atoms.crystal + atoms.n_crystals]),
        2 * atoms.n_crystals,
        torch.cat([atoms.neighbour, atoms.neighbour + len(atoms.numbers)]),
        torch.cat([forth.vector, back.vector]),
    )


def random_directions(labelled: Labelled, chosen: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """A random unit direction in (atoms, strain · STRAIN_LENGTH) of each crystal, and dE along it.

    Returns:
        Displacement float [a, 3], strain float [b, 3, 3] per Å of the way, slope float [b] eV/Å.
    """
    device = chosen.device
    n_atoms = labelled.crystals.n_atoms[chosen]
    crystal = torch.repeat_interleave(torch.arange(len(chosen), device=device), n_atoms)
    displacement = torch.from_numpy(rng.standard_normal((len(crystal), 3))).float().to(device)
    strain = torch.from_numpy(rng.standard_normal((len(chosen), 3, 3))).float().to(device)
    strain = 0.5 * (strain + strain.mT)
    squared = strain.new_zeros(len(chosen)).index_add(0, crystal, (displacement**2).sum(1))
    length = (squared + (strain**2).sum((1, 2))).sqrt()
    displacement = displacement / length[crystal, None]
    strain = strain / (length[:, None, None] * STRAIN_LENGTH)
    assert labelled.forces is not None
    assert labelled.stress is not None
    atoms = ranges(labelled.crystals.offsets[chosen], n_atoms)
    work = (labelled.forces[atoms] * displacement).sum(1)
    virial = labelled.stress[chosen] * labelled.crystals.volumes[chosen, None, None].float()
    slope = (virial * strain).sum((1, 2)).index_add(0, crystal, work, alpha=-1.0)
    return displacement, strain, slope


def slope_loss(
    model: nn.Module, source: Source, chosen: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """float64 [b] twice: |energy error| eV/atom, |error of the slope along a random direction| eV/Å."""
    displacement, strain, slope = random_directions(source.labelled, chosen, rng)
    atoms = source.cache.environments(chosen)
    twins = twin_environments(atoms, displacement * STEP_LENGTH, strain * STEP_LENGTH)
    forth, back = model(twins)[:, source.column].chunk(2)
    n_atoms = source.labelled.crystals.n_atoms[chosen]
    energy = (0.5 * (forth + back) - source.labelled.energy[chosen]) / n_atoms
    return energy.abs(), ((forth - back) / (2 * STEP_LENGTH) - slope).abs()


@torch.no_grad()
def mean_error(model: nn.Module, source: Source, batch: int = 32) -> float:
    """Mean |energy error| over a source, eV/atom."""
    order = torch.argsort(source.cache.width * 1000 + source.labelled.crystals.n_atoms)
    errors = [energy_loss(model, source, rows) for rows in order.split(batch)]
    return float(torch.cat(errors).mean())


def element_references(labelled: Labelled, ridge: float = 1e-3) -> Tensor:
    """float64 [MAX_Z + 1]: energy per atom of each element, by ridge regression on compositions.

    Minimises Σ_b (E_b/n_b − Σ_z x_bz ε_z)² + ridge·B·|ε|²/MAX_Z, x_bz the atomic fractions.
    """
    crystals = labelled.crystals
    fractions = torch.zeros(len(crystals), MAX_Z + 1, dtype=torch.float64)
    weights = 1.0 / crystals.n_atoms.double()[crystals.batch]
    fractions.index_put_((crystals.batch, crystals.numbers), weights, accumulate=True)
    normal = fractions.T @ fractions
    normal += ridge * len(crystals) / MAX_Z * torch.eye(MAX_Z + 1, dtype=torch.float64)
    return torch.linalg.solve(normal, fractions.T @ (labelled.energy / crystals.n_atoms))
