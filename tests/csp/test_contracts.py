"""The contract checks pass an analytic model and an honest generator, and catch broken ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from csp.contracts import check_energy_model, check_generator
from csp.crystallography.neighbours import neighbour_list
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import ContractError
from csp.protocols import EnergyModel, Evaluation, Generator, Label, Proposals, Provenance
from csp.target import Target
from tests.lennard_jones import LennardJones

LJ_PRECISION = {
    "energy_tolerance": 1e-9,
    "force_tolerance": 1e-8,
    "stress_tolerance": 1e-9,
    "difference_tolerance": 1e-5,
    "step": 1e-4,
}


def sample() -> Crystals:
    """Three crystals without symmetry, of different sizes, near the density of a solid."""
    generator = torch.Generator().manual_seed(3)
    cells, fracs, numbers = [], [], []
    for kinds, side in (([3, 9], 3.4), ([12, 8, 8], 4.0), ([55, 17, 17, 26], 5.2)):
        cell = side * (torch.eye(3) + 0.25 * torch.rand(3, 3, generator=generator))
        grid = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])[: len(kinds)]
        cells.append(cell.numpy())
        fracs.append((grid + 0.08 * torch.rand(len(kinds), 3, generator=generator)).numpy())
        numbers.append(kinds)
    return Crystals.from_arrays(cells, fracs, numbers)


class Altered:
    """Lennard-Jones with its answers falsified."""

    name = "altered"
    label = LennardJones.label
    elements = LennardJones.elements
    device = torch.device("cpu")

    def __init__(self, alter: Callable[[Evaluation, Crystals], Evaluation]) -> None:
        self._alter = alter
        self._honest = LennardJones()

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        return self._alter(self._honest.evaluate(crystals, forces=forces), crystals)


class Truncated:
    """A pair attraction cut off without smoothing."""

    name = "truncated"
    label = Label("toy", "none", "1")
    elements = frozenset(range(1, 119))
    device = torch.device("cpu")

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        pairs = neighbour_list(crystals, 5.0)
        n, batch = len(crystals), crystals.batch
        energy = torch.zeros(n, dtype=torch.float64).index_add(0, batch[pairs.i], -0.5 * pairs.distance**-6)
        pull = 6.0 * pairs.distance[:, None] ** -8 * pairs.vector
        force = torch.zeros_like(crystals.frac).index_add(0, pairs.i, pull)
        stress = torch.zeros((n, 3, 3), dtype=torch.float64)
        stress = stress.index_add(0, batch[pairs.i], 0.5 * pairs.vector[:, :, None] * pull[:, None])
        return Evaluation(self.label, 10 * energy, 10 * force, 10 * stress / crystals.volumes[:, None, None])


def _writes_into_input(found: Evaluation, crystals: Crystals) -> Evaluation:
    crystals.frac.add_(0.25)
    return found


def _needs_two_atoms(found: Evaluation, crystals: Crystals) -> Evaluation:
    few = crystals.n_atoms < 2
    return replace(found, energy=found.energy.masked_fill(few, torch.nan))


ALTERATIONS: dict[str, tuple[str, Callable[[Evaluation, Crystals], Evaluation]]] = {
    "inputs": ("changes the crystals", _writes_into_input),
    "label": ("label", lambda e, c: replace(e, label=Label("other", "none", "1"))),
    "precision": ("energy as torch.float32", lambda e, c: replace(e, energy=e.energy.float())),
    "one-atom cells": ("finite", _needs_two_atoms),
    "batch": ("alone and in a batch", lambda e, c: replace(e, energy=e.energy + 0.01 * len(c))),
    "order": ("in any order", lambda e, c: replace(e, energy=e.energy[c.n_atoms.argsort()])),
    "translation": (
        "shift of all atoms",
        lambda e, c: replace(e, energy=e.energy + 0.01 * (c.frac[c.offsets[1:] - 1, 0] * 6.28).sin()),
    ),
    "image": (
        "shift of all atoms|periodic images",
        lambda e, c: replace(e, energy=e.energy + 0.01 * c.frac[c.offsets[1:] - 1, 0]),
    ),
    "rotation": ("rotation", lambda e, c: replace(e, energy=e.energy + 0.01 * c.cell[:, 0, 0])),
    "supercell": (
        "supercell",
        lambda e, c: replace(e, energy=e.energy + 0.01 * c.volumes ** (1 / 3)),
    ),
    "force sign": (
        "forces against finite",
        lambda e, c: e if e.forces is None else replace(e, forces=-e.forces),
    ),
    "stress sign": (
        "stress against finite",
        lambda e, c: e if e.stress is None else replace(e, stress=-e.stress),
    ),
    "stress per cell": (
        "supercell|stress against finite",
        lambda e, c: e if e.stress is None else replace(e, stress=e.stress * c.volumes[:, None, None]),
    ),
    "no stress": ("no forces or no stress", lambda e, c: replace(e, stress=None)),
}


def test_lennard_jones_keeps_the_contract() -> None:
    model: EnergyModel = LennardJones()
    check_energy_model(model, sample(), **LJ_PRECISION)


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_broken_models_are_caught(kind: str) -> None:
    message, alter = ALTERATIONS[kind]
    with pytest.raises(ContractError, match=message):
        check_energy_model(Altered(alter), sample(), **LJ_PRECISION)


def test_sharp_cutoff_is_caught() -> None:
    with pytest.raises(ContractError, match="not smooth at its cutoff"):
        check_energy_model(Truncated(), sample(), **LJ_PRECISION)


def test_unknown_elements_must_be_refused() -> None:
    model = LennardJones()
    model.elements = model.elements - {95}  # evaluates it no more: refused, as it must
    check_energy_model(model, sample(), **LJ_PRECISION)
    lenient = Altered(lambda found, crystals: found)
    lenient.elements = frozenset(range(2, 97))  # hydrogen is not in them, and is evaluated
    with pytest.raises(ContractError, match="not in its `elements`"):
        check_energy_model(lenient, sample(), **LJ_PRECISION)


class CubicBoxes:
    """An honest generator: one formula unit at random in a cubic box; every fifth is given up."""

    name = "boxes"

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        parts, provenance = [], []
        failed: Counter[str] = Counter()
        for index in range(start, start + n):
            if index % 5 == 4:
                failed["crowded"] += 1
                continue
            generator = torch.Generator().manual_seed(self.key(seed, index, start))
            frac = torch.rand(target.n_atoms, 3, generator=generator, dtype=torch.float64)
            numbers = [z for z, m in zip(target.numbers, target.counts, strict=True) for _ in range(m)]
            parts.append(Crystals.from_arrays([4 * torch.eye(3).numpy()], [frac.numpy()], [numbers]))
            provenance.append(Provenance(self.name, index, seed, self.group(index)))
        return Proposals(Crystals.cat(parts), provenance, n, failed)

    def key(self, seed: int, index: int, start: int) -> int:
        return 1000 * seed + index

    def group(self, index: int) -> int:
        return 1


class KeyedByCall(CubicBoxes):
    def key(self, seed: int, index: int, start: int) -> int:
        return 1000 * seed + index - start


class IgnoresSeed(CubicBoxes):
    def key(self, seed: int, index: int, start: int) -> int:
        return index


class AnyGroup(CubicBoxes):
    def group(self, index: int) -> int:
        return 1 + index


class LosesCount(CubicBoxes):
    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        return replace(super().propose(target, n, seed=seed, start=start), failed=Counter())


class WrongComposition(CubicBoxes):
    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        found = super().propose(target, n, seed=seed, start=start)
        numbers = torch.where(found.crystals.numbers == 8, 16, found.crystals.numbers)
        return replace(found, crystals=replace(found.crystals, numbers=numbers))


TARGET = Target.parse("SrTiO3", z=1, space_groups=frozenset({1, 2}))


def test_honest_generator_keeps_the_contract() -> None:
    check_generator(CubicBoxes(), TARGET)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (KeyedByCall(), "in a shard"),
        (IgnoresSeed(), "another seed"),
        (AnyGroup(), "space group 3 is not allowed"),
        (LosesCount(), "24 candidates asked for"),
        (WrongComposition(), "not a multiple"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_broken_generators_are_caught(generator: Generator, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_generator(generator, TARGET)


def test_formula_units_must_be_allowed() -> None:
    with pytest.raises(ContractError, match="1 formula units are not allowed"):
        check_generator(CubicBoxes(), Target.parse("SrTiO3", z=2))
