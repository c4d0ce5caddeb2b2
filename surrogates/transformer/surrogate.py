"""The transformer as an energy model of the engine."""

from __future__ import annotations

import torch
from torch import Tensor

from csp.crystals import Crystals, ranges
from csp.errors import InputError
from csp.protocols import Evaluation, Label
from surrogates.transformer.correction import LastLayerCorrection
from surrogates.transformer.environments import Environments, environments
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

    def evaluate(self, crystals: Crystals, *, forces: bool = False) -> Evaluation:
        """See `EnergyModel`; InputError for elements that the network was not trained on."""
        unknown = set(crystals.numbers.unique().tolist()) - self.elements
        if unknown:
            numbers = ", ".join(str(z) for z in sorted(unknown))
            raise InputError(f"The surrogate {self.name} was not trained on the elements {numbers}.")
        there = crystals.to(self.device)
        energy = there.cell.new_zeros(len(there), dtype=torch.float64)
        force = torch.zeros_like(there.frac, dtype=torch.float64)
        stress = torch.zeros_like(there.cell, dtype=torch.float64)
        sigma = torch.zeros_like(energy)
        for rows in self._chunks(there):
            part = there[rows]
            atoms = environments(part, self.network.architecture.cutoff, self.network.radii.dtype)
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
                force[ranges(there.offsets[rows], part.n_atoms)] = -_by_position(atoms, gradient.double())
                stress[rows] = _by_strain(atoms, gradient.double()) / part.volumes[:, None, None]
        home = crystals.device
        return Evaluation(
            self.label,
            energy.to(home),
            force.to(home) if forces else None,
            stress.to(home) if forces else None,
            sigma.to(home) if self.rigidity else None,
        )

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
        for rows in self._chunks(there):
            atoms = environments(there[rows], self.network.architecture.cutoff, self.network.radii.dtype)
            features[rows] = _mean(self.network.features(atoms), atoms)
        return features.to(crystals.device)

    def _chunks(self, crystals: Crystals) -> list[Tensor]:
        """Rows of crystals of similar density, so that padding wastes little, sized for the device."""
        sphere = 4.0 / 3.0 * torch.pi * self.network.architecture.cutoff**3
        per_atom = crystals.n_atoms * sphere / crystals.volumes  # expected neighbours of an atom
        order = torch.argsort(per_atom, stable=True)
        work = torch.cumsum((per_atom * crystals.n_atoms)[order], 0)
        limit = NEIGHBOURS_AT_ONCE.get(self.device.type, NEIGHBOURS_AT_ONCE["cpu"])
        _, sizes = torch.unique_consecutive(torch.div(work, limit, rounding_mode="floor"), return_counts=True)
        return list(order.split(sizes.tolist())) if len(order) else []


def _mean(features: Tensor, atoms: Environments) -> Tensor:
    """float64 [B, W]: the mean over each crystal's atoms of features [A, W]."""
    total = features.new_zeros(atoms.n_crystals, features.shape[1], dtype=torch.float64)
    n_atoms = torch.bincount(atoms.crystal, minlength=atoms.n_crystals)
    return total.index_add(0, atoms.crystal, features.double()) / n_atoms[:, None]


def _by_position(atoms: Environments, gradient: Tensor) -> Tensor:
    """dE/dr float64 [A, 3] from dE/d(r_j − r_i) [A, K, 3]."""
    to_neighbours = torch.zeros_like(gradient[:, 0])
    to_neighbours.index_add_(0, atoms.neighbour.reshape(-1), gradient.reshape(-1, 3))
    return to_neighbours - gradient.sum(1)


def _by_strain(atoms: Environments, gradient: Tensor) -> Tensor:
    """dE/dε float64 [B, 3, 3], symmetric by rotation invariance, from dE/d(r_j − r_i) [A, K, 3]."""
    virial = torch.einsum("aki,akj->aij", atoms.vector.detach().double(), gradient)
    virial = 0.5 * (virial + virial.mT)
    return virial.new_zeros(atoms.n_crystals, 3, 3).index_add_(0, atoms.crystal, virial)
