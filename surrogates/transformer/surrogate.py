"""The transformer as an energy model of the engine."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from csp.crystallography.neighbours import Neighbours
from csp.crystallography.orbits import Orbits
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals, ranges
from csp.errors import InputError
from csp.protocols import Evaluation, Label
from surrogates.transformer.correction import LastLayerCorrection
from surrogates.transformer.environments import Environments, environments, pad, slots
from surrogates.transformer.network import CrystalTransformer
from surrogates.transformer.uncertainty import Rigidity

__all__ = ["Surrogate"]

NEIGHBOURS_AT_ONCE = {"cpu": 1 << 14, "cuda": 1 << 21}  # CPU: what stays in the cache of a core


class Surrogate:
    """An `EnergyModel` over one head of a trained transformer.

    Args:
        network: In evaluation mode; its precision is that of the computation.
        kind: Name of the head, one of `network.architecture.kinds`.
        rigidity: Of that head; None: it gives no σ.
        correction: That transfer learning has put on that head and that its weights cannot hold; σ is its.
        seen: Hashes of the compositions that it was trained on.
    """

    def __init__(
        self,
        network: CrystalTransformer,
        *,
        kind: str,
        name: str,
        label: Label,
        elements: frozenset[int],
        rigidity: Rigidity | None = None,
        correction: LastLayerCorrection | None = None,
        seen: frozenset[int] = frozenset(),
    ) -> None:
        if kind not in network.architecture.kinds:
            heads = ", ".join(network.architecture.kinds)
            raise InputError(f"The surrogate {name} has no head {kind!r}; it has {heads}.")
        self.name, self.label, self.elements = name, label, elements
        self.device = network.reference.device
        self.kind, self.seen = kind, seen
        self.correction = correction.to(self.device) if correction else None
        self.rigidity = self.correction or rigidity
        self.network = network.eval().requires_grad_(False)
        self.column = network.architecture.kinds.index(kind)

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        """See `EnergyModel`.

        Raises:
            InputError: For an element that the network was not trained on.
        """
        self.check_elements(crystals)
        there = crystals.to(self.device)
        energy = there.cell.new_zeros(len(there), dtype=torch.float64)
        force = torch.zeros_like(there.frac, dtype=torch.float64)
        stress = torch.zeros_like(there.cell, dtype=torch.float64)
        sigma = torch.zeros_like(energy)
        surroundings = (surroundings or Surroundings.of(there)).to(self.device)
        surroundings.update(there, self.network.architecture.cutoff)
        for rows in self.chunks(there, surroundings.orbits.n_sites):
            part, around = there[rows], surroundings[rows]
            pairs, atoms = self._environments(part, around)
            atoms.vector.requires_grad_(forces)
            features = self.network.features(atoms)
            found = self.network.energies(atoms, features)[:, self.column]
            mean = _mean(features, atoms)
            if self.correction:
                found = found + part.n_atoms * self.correction.change(mean)
            energy[rows] = found.detach()
            if self.rigidity:
                sigma[rows] = self.rigidity.sigma(mean.detach())
            if forces:
                (gradient,) = torch.autograd.grad(found.sum(), atoms.vector)
                gradient = gradient.double()
                force[ranges(there.offsets[rows], part.n_atoms)], stress[rows] = around.orbits.project(
                    -_by_position(pairs, around.orbits, gradient),
                    _by_strain(atoms, gradient) / part.volumes[:, None, None],
                )
        home = crystals.device
        return Evaluation(
            self.label,
            energy.to(home),
            force.to(home) if forces else None,
            stress.to(home) if forces else None,
            sigma.to(home) if self.rigidity else None,
        )

    def check_elements(self, crystals: Crystals) -> None:
        """Raise InputError for an element that the network was not trained on."""
        unknown = set(crystals.numbers.unique().tolist()) - self.elements
        if unknown:
            numbers = ", ".join(str(z) for z in sorted(unknown))
            raise InputError(f"The surrogate {self.name} was not trained on the elements {numbers}.")

    def sigma(self, crystals: Crystals) -> Tensor | None:
        """See `csp.protocols.Uncertain`."""
        if self.rigidity is None:
            return None
        return self.rigidity.sigma(self.features(crystals).to(self.device)).to(crystals.device)

    def features(self, crystals: Crystals) -> Tensor:
        """float64 [B, W] on the device of `crystals`: the last layer's features, mean over the atoms.

        The energy per atom is linear in them, but for the elements' reference energies and the repulsion
        of colliding atoms.
        """
        there = crystals.to(self.device)
        features = there.cell.new_zeros(len(there), self.network.architecture.width, dtype=torch.float64)
        for rows in self.chunks(there, there.n_atoms):
            atoms = environments(there[rows], self.network.architecture.cutoff, self.network.radii.dtype)
            features[rows] = _mean(self.network.features(atoms), atoms)
        return features.to(crystals.device)

    def _environments(
        self, crystals: Crystals, surroundings: Surroundings
    ) -> tuple[Neighbours, Environments]:
        """The pairs around the sites, and the sites with their neighbours, each as the site it is like."""
        cutoff, orbits = self.network.architecture.cutoff, surroundings.orbits
        pairs = surroundings.neighbours(crystals, cutoff)
        atoms = pad(
            crystals.numbers[orbits.sites],
            crystals.batch[orbits.sites],
            len(crystals),
            torch.bincount(orbits.site_of[pairs.i], minlength=len(orbits.sites)),
            orbits.site_of[pairs.j],
            pairs.vector.to(self.network.radii.dtype),
            cutoff,
        )
        return pairs, atoms if orbits.trivial else replace(atoms, multiplicity=orbits.multiplicity)

    def chunks(self, crystals: Crystals, n_sites: Tensor) -> list[Tensor]:
        """Rows of crystals of similar density, so that padding wastes little, sized for the device."""
        sphere = 4.0 / 3.0 * torch.pi * self.network.architecture.cutoff**3
        per_atom = crystals.n_atoms * sphere / crystals.volumes  # expected neighbours of an atom
        order = torch.argsort(per_atom, stable=True)
        work = torch.cumsum((per_atom * n_sites)[order], 0)
        limit = NEIGHBOURS_AT_ONCE.get(self.device.type, NEIGHBOURS_AT_ONCE["cpu"])
        _, sizes = torch.unique_consecutive(torch.div(work, limit, rounding_mode="floor"), return_counts=True)
        return list(order.split(sizes.tolist())) if len(order) else []


def _mean(features: Tensor, atoms: Environments) -> Tensor:
    """float64 [B, W]: the mean over each crystal's atoms of features [A, W]."""
    total = features.new_zeros(atoms.n_crystals, features.shape[1], dtype=torch.float64)
    features, count = features.double(), torch.ones_like(atoms.crystal)
    if atoms.multiplicity is not None:
        features, count = features * atoms.multiplicity[:, None], atoms.multiplicity
    n_atoms = torch.zeros(atoms.n_crystals, dtype=count.dtype, device=count.device)
    return total.index_add(0, atoms.crystal, features) / n_atoms.index_add_(0, atoms.crystal, count)[:, None]


def _by_position(pairs: Neighbours, orbits: Orbits, gradient: Tensor) -> Tensor:
    """dE/dr float64 [A, 3] from dE/d(r_j − r_i) [R, K, 3] of the sites."""
    counts = torch.bincount(orbits.site_of[pairs.i], minlength=len(orbits.sites))
    used = slots(counts, gradient.shape[1], len(pairs.j))
    slope = gradient.new_zeros((len(orbits.site_of), 3))
    slope.index_add_(0, pairs.j, gradient.reshape(-1, 3)[used])
    return slope.index_add_(0, orbits.sites, gradient.sum(1), alpha=-1)


def _by_strain(atoms: Environments, gradient: Tensor) -> Tensor:
    """dE/dε float64 [B, 3, 3], symmetric by rotation invariance, from dE/d(r_j − r_i) [A, K, 3]."""
    virial = torch.einsum("aki,akj->aij", atoms.vector.detach().double(), gradient)
    virial = 0.5 * (virial + virial.mT)
    return virial.new_zeros(atoms.n_crystals, 3, 3).index_add_(0, atoms.crystal, virial)
