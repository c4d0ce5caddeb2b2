"""What every energy model and every generator promises, checked.

Plug-ins and tests call these: a ContractError names the promise that was broken.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from csp.crystallography.operations import operations
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import ContractError, InputError
from csp.protocols import EnergyModel, Evaluation, Generator, Proposals
from csp.target import Target

__all__ = ["check_energy_model", "check_generator"]


def check_energy_model(
    model: EnergyModel,
    crystals: Crystals,
    *,
    energy_tolerance: float = 1e-5,
    force_tolerance: float = 1e-3,
    stress_tolerance: float = 1e-4,
    difference_tolerance: float = 1e-2,
    step: float = 1e-2,
    seed: int = 0,
) -> None:
    """Check the contract of `EnergyModel` on sample crystals, each of more than one atom and unsymmetric.

    Args:
        model: The model to check.
        crystals: The sample.
        energy_tolerance: eV/atom, rounding of the model's energies.
        force_tolerance: eV/Å, rounding of its forces.
        stress_tolerance: eV/Å³, rounding of its stress.
        difference_tolerance: eV/Å, and eV/atom for stress × volume per atom: error allowed to finite
            differences.
        step: Of the finite differences: Å for an atom, a tenth of it for a strain.
        seed: Of the random rotations, shifts and directions.

    Raises:
        ContractError: For the first promise that does not hold.
    """
    check = _EnergyCheck(model, energy_tolerance, force_tolerance, stress_tolerance)
    before = [t.clone() for t in (crystals.cell, crystals.frac, crystals.numbers, crystals.offsets)]
    reference = check.evaluate(crystals, "a batch")
    after = [crystals.cell, crystals.frac, crystals.numbers, crystals.offsets]
    if not all(torch.equal(x, y) for x, y in zip(before, after, strict=True)):
        raise ContractError(f"{model.name} changes the crystals it is given.")

    check.evaluate(Crystals.empty(device=crystals.device), "an empty batch")
    check.evaluate(_one_atom_cells(model, crystals), "cells of one atom")
    energies = model.evaluate(crystals)
    if energies.forces is not None and energies.forces.shape != crystals.frac.shape:
        raise ContractError(f"{model.name} returns forces of a wrong shape when they are not asked for.")
    check.energies(energies.energy, reference.energy, crystals, "without forces")
    for b in range(len(crystals)):
        alone = check.evaluate(crystals[b], "one crystal")
        check.same(alone, _part(reference, crystals, b), crystals[b], "alone and in a batch")
    order = torch.arange(len(crystals) - 1, -1, -1)
    backwards = check.evaluate(crystals[order], "a batch in reverse")
    for place, b in enumerate(order.tolist()):
        check.same(
            _part(backwards, crystals[order], place),
            _part(reference, crystals, b),
            crystals[b],
            "in any order",
        )

    generator = torch.Generator().manual_seed(seed)
    check.invariances(crystals, reference, generator)
    check.differences(crystals, reference, difference_tolerance, step, generator)
    check.continuity(crystals)
    check.symmetry(crystals)
    _check_unknown_elements(model, crystals)


class _EnergyCheck:
    """One model with the tolerances of its check."""

    def __init__(self, model: EnergyModel, energy: float, force: float, stress: float) -> None:
        self.model, self.energy, self.force, self.stress = model, energy, force, stress

    def evaluate(self, crystals: Crystals, what: str) -> Evaluation:
        """Energies, forces and stress; raises ContractError unless label, shapes and types are right."""
        found = self.model.evaluate(crystals, forces=True)
        name = f"{self.model.name}, given {what},"
        if found.label != self.model.label:
            raise ContractError(f"{name} returns the label {found.label}, not its own {self.model.label}.")
        if found.forces is None or found.stress is None:
            raise ContractError(f"{name} returns no forces or no stress.")
        expected = {
            "energy": (found.energy, (len(crystals),)),
            "forces": (found.forces, tuple(crystals.frac.shape)),
            "stress": (found.stress, (len(crystals), 3, 3)),
        }
        if found.sigma is not None:
            expected["sigma"] = (found.sigma, (len(crystals),))
        for field, (value, shape) in expected.items():
            if tuple(value.shape) != shape or value.dtype != torch.float64:
                raise ContractError(f"{name} returns {field} as {value.dtype} {list(value.shape)}.")
            if value.device != crystals.device:
                raise ContractError(f"{name} returns {field} on {value.device}, not on {crystals.device}.")
            if value.requires_grad or not bool(value.isfinite().all()):
                raise ContractError(f"{name} returns {field} that is not plain finite numbers.")
        return found

    def energies(self, found: Tensor, expected: Tensor, crystals: Crystals, what: str) -> None:
        self._close(
            found / crystals.n_atoms, expected / crystals.n_atoms, self.energy, f"energy per atom {what}"
        )

    def same(self, found: Evaluation, expected: Evaluation, crystals: Crystals, what: str) -> None:
        self.energies(found.energy, expected.energy, crystals, what)
        self._close(found.forces, expected.forces, self.force, f"forces {what}")
        self._close(found.stress, expected.stress, self.stress, f"stress {what}")

    def invariances(self, crystals: Crystals, reference: Evaluation, generator: torch.Generator) -> None:
        forces, stress = _derivatives(reference)

        def random(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64).to(crystals.cell)

        moved = replace(crystals, frac=crystals.frac + random(len(crystals), 3)[crystals.batch])
        self.same(self.evaluate(moved, "shifted atoms"), reference, crystals, "after a shift of all atoms")
        image = (3 * random(*crystals.frac.shape)).round() - 1
        moved = replace(crystals, frac=crystals.frac + image)
        self.same(self.evaluate(moved, "other images"), reference, crystals, "with other periodic images")

        rotation = torch.linalg.qr(random(3, 3) - 0.5).Q
        rotation = rotation * torch.linalg.det(rotation)  # proper; x → x @ rotation
        turned = replace(crystals, cell=crystals.cell @ rotation)
        expected = Evaluation(
            reference.label, reference.energy, forces @ rotation, rotation.T @ stress @ rotation
        )
        self.same(self.evaluate(turned, "rotated crystals"), expected, crystals, "after a rotation")

        swap = crystals.offsets[crystals.batch] + crystals.offsets[crystals.batch + 1] - 1
        swap = swap - torch.arange(len(swap), device=swap.device)  # each crystal's atoms in reverse
        permuted = replace(crystals, frac=crystals.frac[swap], numbers=crystals.numbers[swap])
        expected = replace(reference, forces=forces[swap])
        self.same(self.evaluate(permuted, "permuted atoms"), expected, crystals, "after a permutation")

        for b in range(len(crystals)):
            one = crystals[b]
            sheared = one.cell.clone()  # a → a + b, the same lattice
            sheared[:, 0] += one.cell[:, 1]
            frac = one.frac.clone()
            frac[:, 1] -= frac[:, 0]
            same = _part(reference, crystals, b)
            self.same(
                self.evaluate(replace(one, cell=sheared, frac=frac), "another cell"),
                same,
                one,
                "in another cell",
            )
            doubled = _doubled(one)
            force, stress_b = _derivatives(same)
            twice = Evaluation(same.label, 2 * same.energy, force.repeat(2, 1), stress_b)
            self.same(self.evaluate(doubled, "a supercell"), twice, doubled, "in a supercell")

    def differences(
        self,
        crystals: Crystals,
        reference: Evaluation,
        tolerance: float,
        step: float,
        generator: torch.Generator,
    ) -> None:
        """Forces and stress against finite differences of the energy, in random directions."""
        forces, stress = _derivatives(reference)
        inverse = torch.linalg.inv(crystals.cell)[crystals.batch]

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(crystals.cell)

        def slope(cell: Tensor | float, frac: Tensor | float, h: float) -> Tensor:
            """Five-point derivative along a change of cells or coordinates, its error of fourth order."""
            path = [
                replace(crystals, cell=crystals.cell + k * h * cell, frac=crystals.frac + k * h * frac)
                for k in (-2, -1, 1, 2)
            ]
            energy = self.model.evaluate(Crystals.cat(path)).energy.view(4, -1)
            return (8 * (energy[2] - energy[1]) - (energy[3] - energy[0])) / (12 * h)

        for _ in range(3):
            direction = random(*crystals.frac.shape)
            direction /= direction.norm(dim=1, keepdim=True)
            shift = torch.einsum("ai,aij->aj", direction, inverse)
            found = slope(0.0, shift, step)
            expected = torch.zeros_like(found).index_add(
                0, crystals.batch, -(forces * direction).sum(1).to(found)
            )
            scale = crystals.n_atoms.sqrt()
            self._close(found / scale, expected / scale, tolerance, "forces against finite differences")

            strain = random(len(crystals), 3, 3)
            strain = (strain + strain.mT) / (2 * strain.norm(dim=(1, 2), keepdim=True))
            found = slope(crystals.cell @ strain, 0.0, step / 10)
            expected = (stress * strain).sum((1, 2)) * crystals.volumes
            n = crystals.n_atoms
            self._close(found / n, expected / n, 10 * tolerance, "stress against finite differences")

    def continuity(self, crystals: Crystals) -> None:
        """No jumps of the energy while a crystal expands evenly and neighbours leave the cutoff.

        A pair lost at a sharp cutoff leaves second differences far above those around them.
        """
        base = crystals[0]
        growth = (1.0 + 0.003 * torch.arange(90, dtype=torch.float64)).tolist()
        path = Crystals.cat([replace(base, cell=base.cell * g) for g in growth])
        energy = self.model.evaluate(path).energy / float(base.n_atoms[0])
        bend = (energy[2:] - 2 * energy[1:-1] + energy[:-2]).abs()
        usual = bend.unfold(0, 11, 1).median(1).values
        excess = bend[5:-5] - (10 * usual + 20 * self.energy)
        if bool((excess > 0).any()):
            worst = int(excess.argmax())
            raise ContractError(
                f"{self.model.name} is not smooth at its cutoff: as a crystal expands, its energy jumps by "
                f"{float(bend[worst + 5]):.1e} eV/atom where {float(usual[worst]):.1e} is usual."
            )

    def symmetry(self, crystals: Crystals) -> None:
        """Told of the operations that crystals keep, and of pairs in earlier shapes, it gives the same.

        The crystals: pyrites of the sample's elements, whose anions are equivalent by operations that turn
        them, and a doubled cell. They change a little, so that pairs with a skin last, and then much.
        """
        numbers = crystals.numbers.unique().tolist()
        doubled = _doubled(crystals[0])
        shapes = [
            Crystals.cat([_pyrite(numbers[0], numbers[-1], *shape).to(doubled.device), doubled])
            for shape in ((0.385, 5.5), (0.387, 5.52), (0.35, 5.9))
        ]
        surroundings = Surroundings.of(shapes[0], operations(shapes[0]), skin=0.3)
        if surroundings.orbits.trivial:
            raise ContractError("The crystals of the contract have lost their symmetry.")
        for k, shape in enumerate(shapes):
            found = self.model.evaluate(shape, forces=True, surroundings=surroundings)
            alone = self.evaluate(shape, "symmetric crystals")
            self.same(found, alone, shape, "with and without symmetry" + " and earlier pairs" * (k > 0))

    def _close(self, found: Tensor | None, expected: Tensor | None, tolerance: float, what: str) -> None:
        assert found is not None
        assert expected is not None
        error = float((found - expected.to(found)).abs().max()) if found.numel() else 0.0
        if not error <= tolerance:
            raise ContractError(
                f"{self.model.name}: {what} differ by {error:.1e}, more than the allowed {tolerance:.0e}."
            )


def _derivatives(evaluation: Evaluation) -> tuple[Tensor, Tensor]:
    assert evaluation.forces is not None
    assert evaluation.stress is not None
    return evaluation.forces, evaluation.stress


def _part(evaluation: Evaluation, crystals: Crystals, b: int) -> Evaluation:
    """What belongs to one crystal of a batch."""
    forces, stress = _derivatives(evaluation)
    atoms = slice(int(crystals.offsets[b]), int(crystals.offsets[b + 1]))
    return Evaluation(evaluation.label, evaluation.energy[b : b + 1], forces[atoms], stress[b : b + 1])


def _one_atom_cells(model: EnergyModel, crystals: Crystals) -> Crystals:
    """One atom of every element of the sample in a skewed cell of 15 Å³."""
    numbers = crystals.numbers.unique()
    cell = crystals.cell.new_tensor([[2.6, 0.0, 0.0], [0.9, 2.4, 0.0], [0.4, 0.7, 2.4]])
    return Crystals(
        cell.repeat(len(numbers), 1, 1),
        crystals.frac.new_zeros((len(numbers), 3)),
        numbers,
        torch.arange(len(numbers) + 1, device=crystals.device),
    )


def _pyrite(cation: int, anion: int, u: float, a: float) -> Crystals:
    """Space group Pa-3, 4a and 8c (u, u, u), in a cubic cell of a Å."""
    half = [[0.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]
    signs = [[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]
    anions = [
        [shift + sign * s * u for shift, s in zip(shifts, row, strict=True)]
        for sign in (1, -1)
        for shifts, row in zip(half, signs, strict=True)
    ]
    cell = [[a, 0.0, 0.0], [0.0, a, 0.0], [0.0, 0.0, a]]
    return Crystals.from_arrays([cell], [half + anions], [[cation] * 4 + [anion] * 8])


def _doubled(one: Crystals) -> Crystals:
    """Two cells of one crystal side by side."""
    return Crystals(
        one.cell * one.cell.new_tensor([[2.0], [1.0], [1.0]]),
        torch.cat([one.frac, one.frac + one.frac.new_tensor([1.0, 0.0, 0.0])])
        * one.frac.new_tensor([0.5, 1, 1]),
        one.numbers.repeat(2),
        2 * one.offsets,
    )


def _check_unknown_elements(model: EnergyModel, crystals: Crystals) -> None:
    unknown = next((z for z in range(1, 119) if z not in model.elements), None)
    if unknown is None:
        return
    strange = replace(crystals, numbers=torch.full_like(crystals.numbers, unknown))
    try:
        model.evaluate(strange)
    except InputError:
        return
    raise ContractError(f"{model.name} evaluates the element {unknown}, which is not in its `elements`.")


def check_generator(
    generator: Generator, target: Target, *, n: int = 24, seed: int = 0, stochastic: bool = True
) -> None:
    """Check the contract of `Generator` on n candidates of a target.

    Args:
        generator: The generator to check.
        target: What it is asked for.
        n: Candidates to ask for.
        seed: Seed to ask with.
        stochastic: Another seed is expected to give other candidates.

    Raises:
        ContractError: For the first promise that does not hold.
    """
    name = generator.name
    whole = generator.propose(target, n, seed=seed)
    _check_proposals(name, whole, target, n, seed, range(n))
    again = generator.propose(target, n, seed=seed)
    if again.crystals.ids() != whole.crystals.ids() or again.provenance != whole.provenance:
        raise ContractError(f"{name} does not give the same candidates for the same seed.")
    _check_proposals(name, generator.propose(target, 0, seed=seed), target, 0, seed, range(0))

    index = [row.index for row in whole.provenance]
    ids = whole.crystals.ids()
    for start, stop in ((0, n // 2), (n // 3, n), (n - 1, n)):
        part = generator.propose(target, stop - start, seed=seed, start=start)
        _check_proposals(name, part, target, stop - start, seed, range(start, stop))
        inside = [k for k, i in enumerate(index) if start <= i < stop]
        if part.crystals.ids() != [ids[k] for k in inside] or part.provenance != [
            whole.provenance[k] for k in inside
        ]:
            raise ContractError(
                f"{name} gives other candidates {start}-{stop - 1} in a shard than in the whole."
            )
    if stochastic and generator.propose(target, n, seed=seed + 1).crystals.ids() == ids:
        raise ContractError(f"{name} gives the same candidates for another seed.")


def _check_proposals(name: str, found: Proposals, target: Target, n: int, seed: int, indices: range) -> None:
    """Counts, provenance, composition and constraints of one call."""
    built = len(found.crystals)
    if found.requested != n or len(found.provenance) != built or built + found.failed.total() != n:
        raise ContractError(
            f"{name}: of {n} candidates asked for it counts {found.requested}, {built} were built with "
            f"{len(found.provenance)} rows of provenance, and {found.failed.total()} failed."
        )
    index = [row.index for row in found.provenance]
    if index != sorted(set(index)) or not set(index) <= set(indices):
        raise ContractError(f"{name}: the indices of its candidates are not ascending within {indices}.")
    crystals = found.crystals
    if crystals.cell.dtype != torch.float64 or crystals.device.type != "cpu":
        raise ContractError(f"{name} gives crystals in {crystals.cell.dtype} on {crystals.device}.")
    if not bool(crystals.cell.isfinite().all() & crystals.frac.isfinite().all()):
        raise ContractError(f"{name} gives cells or coordinates that are not finite.")
    unit = Counter(dict(zip(target.numbers, target.counts, strict=True)))
    for row, (cell, _, numbers) in zip(found.provenance, crystals.arrays(), strict=True):
        where = f"{name}, candidate {row.index}:"
        z, rest = divmod(len(numbers), target.n_atoms)
        if rest or Counter(numbers.tolist()) != Counter({e: z * m for e, m in unit.items()}):
            raise ContractError(f"{where} its atoms are not a multiple of {target.formula}.")
        if z not in target.formula_units:
            raise ContractError(f"{where} {z} formula units are not allowed by the target.")
        if not target.allows_group(row.space_group):
            raise ContractError(f"{where} space group {row.space_group} is not allowed by the target.")
        if row.seed != seed or row.generator != name:
            raise ContractError(f"{where} its provenance names generator {row.generator}, seed {row.seed}.")
        if not math.isfinite(row.score):
            raise ContractError(f"{where} its score is {row.score}.")
        if abs(float(torch.linalg.det(torch.as_tensor(cell)))) < 1e-3:
            raise ContractError(f"{where} its cell has no volume.")
