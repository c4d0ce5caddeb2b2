"""An energy model of your own in a search. Run it: python examples/own_energy_model.py

The model is a Lennard-Jones potential whose energy has its minimum where two atoms touch, just to show what
a model needs: a name, a label, the elements that it knows, a device, and energies, forces and stress of a
batch.
"""

import torch

import csp
from csp.contracts import check_energy_model
from csp.crystallography.neighbours import COVALENT_RADII, neighbour_list
from csp.errors import InputError
from csp.protocols import Evaluation, Label

CUTOFF = 6.0  # Å


class LennardJones:
    """4 ε [(σ/d)¹² − (σ/d)⁶] between all atoms closer than the cutoff, where it is faded out smoothly."""

    name = "my-lennard-jones"
    label = Label("Lennard-Jones", "none", "1")  # energies with another label are never compared with these
    elements = frozenset(range(1, 97))
    device = torch.device("cpu")

    def evaluate(self, crystals: csp.Crystals, *, forces: bool = False) -> Evaluation:
        if not self.elements.issuperset(crystals.numbers.tolist()):
            raise InputError("This model knows the elements up to curium.")
        cell = crystals.cell.double()
        strain = torch.zeros_like(cell, requires_grad=forces)
        frac = crystals.frac.detach().double().clone().requires_grad_(forces)
        strained = cell @ (torch.eye(3, dtype=torch.float64) + (strain + strain.mT) / 2)
        pairs = neighbour_list(crystals, CUTOFF)  # every pair in both directions, periodic images included
        i, j, crystal = pairs.i, pairs.j, crystals.batch[pairs.i]
        step = frac[j] - frac[i] + pairs.shift
        distance = torch.einsum("pi,pij->pj", step, strained[crystal]).norm(dim=1)
        radii = COVALENT_RADII[crystals.numbers]
        inverse6 = ((radii[i] + radii[j]) / distance) ** 6 / 2
        fade = (1 - (distance / CUTOFF) ** 2) ** 3
        depth = torch.where(crystals.numbers[i] == crystals.numbers[j], 0.1, 0.4)
        pair_energy = 4 * depth * (inverse6**2 - inverse6) * fade
        energy = torch.zeros(len(crystals), dtype=torch.float64).index_add(0, crystal, pair_energy / 2)
        if not forces:
            return Evaluation(self.label, energy)
        by_frac, by_strain = torch.autograd.grad(energy.sum(), [frac, strain])
        force = -torch.einsum("aij,aj->ai", torch.linalg.inv(cell)[crystals.batch], by_frac)
        stress = by_strain / crystals.volumes.double()[:, None, None]
        return Evaluation(self.label, energy.detach(), force, stress)


model = LennardJones()

# Does it keep what the protocol promises? An error names the promise that is broken.
sample = csp.Crystals.from_arrays(
    [[[4.1, 0.2, 0.1], [0.3, 4.4, -0.2], [0.1, 0.4, 4.9]]],
    [[[0.02, 0.01, 0.0], [0.51, 0.48, 0.53], [0.03, 0.46, 0.55]]],
    [[31, 33, 33]],
)
check_energy_model(model, sample)
print(f"{model.name} keeps the contract.")

# It does all the work here. relaxer=model with the default surrogate would let it refine and rank alone.
found = csp.predict(
    "GaAs",
    generators=["random"],
    surrogate=model,
    relaxer="none",
    candidates=40,
    screened=40,
    relaxed=10,
    rattled=0,
    max_atoms=8,
)
print(found)
