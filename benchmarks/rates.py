"""Throughput of generators, energy models, relaxation and de-duplication as flat numbers, each beside its
ratio to a named reference that was measured in the same run on the same crystals."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from benchmarks.throughput import generation_rate, pyxtal_rate
from benchmarks.throughput_models import energy_rate
from csp.crystals import Crystals
from csp.errors import InputError
from csp.library import Library
from csp.matcher import Matcher
from csp.protocols import Generator
from csp.relax import relax
from csp.target import Target
from csp.volume import VolumePrior
from generators.space_group import SpaceGroupGenerator
from generators.template import TemplateGenerator
from surrogates.potentials import load_potential

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator

__all__ = ["deduplication", "energies", "generation"]

T = TypeVar("T")
Rates = Iterator[tuple[str, float]]
"""Names as in `summary.json` with values, as they are measured."""

RANDOM = (("CaCO3", 167, 2), ("CaCO3", 14, 8), ("CaCO3", 1, 8))  # formula, space group, formula units
TEMPLATED = "CaTiO3"
REPEATS = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (4, 2, 2))  # of a perovskite's five atoms
ATOMS_AT_ONCE = {"cpu": 160, "cuda": 10_240}  # in all crystals of one measurement
STEPS = 5  # of a timed relaxation
DUPLICATED = "TiO2"
JUDGED, DEDUPLICATED = 1000, 10_000  # crystals given to pymatgen and to us, to us alone


def generation(library: Library, limit: int | None, seed: int) -> Rates:
    """Accepted crystals a second on one core; reference PyXtal on the same composition and space group."""
    for formula, group, z in RANDOM[:limit]:
        rate = generation_rate(formula, group, z, seed=seed)
        key = f"generation.space_group.{rate.formula}-{group}-{rate.n_atoms}"
        yield f"{key}.per_second", rate.per_second
        yield f"{key}.ratio_to_pyxtal", rate.per_second / pyxtal_rate(formula, group, z)
    target = Target.parse(TEMPLATED)
    generator: Generator = TemplateGenerator(library, VolumePrior.load())
    seconds, proposals = _timed(lambda: generator.propose(target, 1024, seed=seed))
    yield f"generation.template.{TEMPLATED}.per_second", len(proposals.crystals) / seconds


def energies(relaxer: str, device: torch.device, limit: int | None, seed: int) -> Rates:
    """Energies, forces and stress, and relaxation steps, a second, by atoms per cell.

    The reference is the package's own calculator called for one crystal after the other.
    """
    model, reference = load_potential(relaxer, device), _reference(relaxer, device)
    for repeat in REPEATS[:limit]:
        crystals = _perovskites(repeat, ATOMS_AT_ONCE[device.type], seed).to(device)
        n, n_atoms = len(crystals), int(crystals.n_atoms[0])
        (rate,) = energy_rate(model, reference, crystals, (n,), rounds=2)
        key = f"energy.{model.name}.{n_atoms}_atoms"
        yield f"{key}.per_second", 1 / rate.model
        yield f"{key}.ratio_to_package", rate.ratio
        seconds, _ = _timed(partial(relax, crystals, model, max_steps=STEPS, max_force=1e-9))
        yield f"relaxation.{model.name}.{n_atoms}_atoms.steps_per_second", n * STEPS / seconds


def deduplication(library: Library, limit: int | None, seed: int) -> Rates:
    """Crystals a second brought into groups; reference pymatgen's `StructureMatcher.group_structures`, on
    the first `JUDGED` of them, where the groups have to be the same (`deduplication.same_groups` = 1)."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    crystals = _candidates(DUPLICATED, DEDUPLICATED, library, seed)
    few = crystals[: min(JUDGED, 50 * limit) if limit else JUDGED]
    seconds, groups = _timed(lambda: Matcher.DEFAULT.group(few))
    structures = few.structures()
    for k, structure in enumerate(structures):
        structure.properties["k"] = k
    theirs, grouped = _timed(lambda: StructureMatcher().group_structures(structures))
    leaders = groups.tolist()
    same = all(len({leaders[s.properties["k"]] for s in group}) == 1 for group in grouped)
    yield "deduplication.same_groups", float(same and len(grouped) == len(set(leaders)))
    yield f"deduplication.{len(few)}.per_second", len(few) / seconds
    yield f"deduplication.{len(few)}.ratio_to_pymatgen", theirs / seconds
    if not limit:
        seconds, _ = _timed(lambda: Matcher.DEFAULT.group(crystals))
        yield f"deduplication.{len(crystals)}.per_second", len(crystals) / seconds


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    """Wall-clock seconds, and what came out."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _perovskites(repeat: tuple[int, int, int], n_atoms: int, seed: int) -> Crystals:
    """Rattled supercells of CaTiO3, as many as hold about `n_atoms` in all."""
    from ase.spacegroup import crystal

    cell = crystal(
        ("Ca", "Ti", "O"),
        [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0)],
        spacegroup=221,
        cellpar=[3.9] * 3 + [90] * 3,
    )
    supercells = []
    for k in range(max(1, n_atoms // (len(cell) * repeat[0] * repeat[1] * repeat[2]))):
        atoms = cell.repeat(repeat)
        atoms.rattle(0.05, seed=seed + k)
        supercells.append(atoms)
    return Crystals.from_atoms(supercells)


def _candidates(formula: str, n: int, library: Library, seed: int) -> Crystals:
    """Random symmetric crystals of one composition, cells of up to 12 atoms."""
    target = Target.parse(formula, max_atoms=12)
    generator = SpaceGroupGenerator(library, VolumePrior.load())
    parts: list[Crystals] = []
    while sum(map(len, parts)) < n:
        parts.append(generator.propose(target, n, seed=seed, start=n * len(parts)).crystals)
    return Crystals.cat(parts)[:n]


def _reference(relaxer: str, device: torch.device) -> BaseCalculator:
    """The calculator that the potential's own package gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if relaxer == "chgnet":
            from chgnet.model.dynamics import CHGNetCalculator

            return CHGNetCalculator(use_device=device.type, on_isolated_atoms="ignore")
        if Path(relaxer).is_dir():
            import matgl
            from matgl.ext.ase import PESCalculator

            return PESCalculator(matgl.load_model(relaxer), stress_unit="eV/A3")
    raise InputError(f"There is no reference for {relaxer!r}; measure chgnet or a folder of matgl's.")
