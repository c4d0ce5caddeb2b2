"""Throughput of generators, energy models, relaxation and de-duplication as flat numbers, each beside its
ratio to a named reference that was measured in the same run on the same crystals."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from benchmarks.machine import threads
from benchmarks.throughput.deduplication import dedup_rate
from benchmarks.throughput.generation import generation_rate, pyxtal_rate
from benchmarks.throughput.models import energy_rate
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Generator
from csp.relaxation.relax import relax
from csp.target import Target
from generators.space_group.generator import SpaceGroupGenerator
from generators.templates.metric_learning import MetricLearningGenerator
from generators.templates.template import TemplateGenerator
from surrogates.zoo import is_ours, load_model

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator

__all__ = ["deduplication", "energies", "generation"]

T = TypeVar("T")
Rates = Iterator[tuple[str, float]]
"""Names as in `summary.json` with values, as they are measured."""

RANDOM = (("CaCO3", 167, 2), ("CaCO3", 14, 8), ("CaCO3", 1, 8))  # formula, space group, formula units
LEARNED = RANDOM[:2]  # in all groups; PyXtal is asked for one
TEMPLATED = ("CaTiO3", 62, 4)  # the same; most crystals like it are in this one
REPEATS = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (4, 2, 2))  # of a perovskite's five atoms
ATOMS_AT_ONCE = {"cpu": 160, "cuda": 10_240}  # in all crystals of one measurement
STEPS = 5  # of a timed relaxation
JUDGED, DEDUPLICATED = 1000, 10_000  # crystals given to pymatgen itself, and to us


def generation(library: Library, limit: int | None, seed: int) -> Rates:
    """Accepted crystals a second on one core; reference PyXtal for the same composition and cell in one space
    group."""
    pyxtal = {case: pyxtal_rate(*case) for case in (*RANDOM[:limit], TEMPLATED)}
    for case in RANDOM[:limit]:
        rate = generation_rate(*case, seed=seed)
        key = f"generation.random.{rate.formula}-{rate.space_group}-{rate.n_atoms}"
        yield f"{key}.per_second", rate.per_second
        yield f"{key}.ratio_to_pyxtal", rate.per_second / pyxtal[case]
    volume = VolumePrior.load()
    learned, of_templates = SpaceGroupGenerator(library, volume), Target.parse(TEMPLATED[0])
    proposed: list[tuple[Generator, tuple[str, int, int], Target, int]] = [
        *((learned, case, Target.parse(case[0], z=case[2]), 2048) for case in LEARNED[:limit]),
        (TemplateGenerator(library, volume), TEMPLATED, of_templates, 1024),
        (MetricLearningGenerator(library, volume), TEMPLATED, of_templates, 1024),
    ]
    for generator, case, target, n in proposed:
        per_second = _proposals_per_second(generator, target, n, seed)
        size = f"-{target.z * target.n_atoms}" if target.z else ""
        key = f"generation.{generator.name}.{target.formula}{size}"
        yield f"{key}.per_second", per_second
        yield f"{key}.ratio_to_pyxtal", per_second / pyxtal[case]


def _proposals_per_second(generator: Generator, target: Target, n: int, seed: int) -> float:
    """Crystals built a second of CPU time on one thread, once what is the same for all is loaded."""
    with threads(1):
        generator.propose(target, 1, seed=seed + 1)
        began = time.process_time()
        proposals = generator.propose(target, n, seed=seed)
        return len(proposals.crystals) / (time.process_time() - began)


def energies(name: str, device: torch.device, limit: int | None, seed: int) -> Rates:
    """Energies with forces and stress, energies alone, and relaxation steps, a second, by atoms per cell.

    The reference is the package's own calculator called for one crystal after the other, for a model of ours
    that of CHGNet, which it stands in for.
    """
    model = load_model(name, device)
    package = "chgnet" if is_ours(name) else "package"
    reference = _reference("chgnet" if is_ours(name) else name, device)
    for repeat in REPEATS[:limit]:
        crystals = _perovskites(repeat, ATOMS_AT_ONCE[device.type], seed).to(device)
        n, n_atoms = len(crystals), int(crystals.n_atoms[0])
        with warnings.catch_warnings():  # CHGNet's calculator makes scalars of tensors that have gradients
            warnings.simplefilter("ignore", UserWarning)
            (rate,) = energy_rate(model, reference, crystals, (n,), rounds=2)
        key = f"energy.{model.name}.{n_atoms}_atoms"
        yield f"{key}.per_second", 1 / rate.model
        yield f"{key}.ratio_to_{package}", rate.ratio
        seconds, _ = _timed(partial(model.evaluate, crystals))
        yield f"{key}.without_forces_per_second", n / seconds
        seconds, _ = _timed(partial(relax, crystals, model, max_steps=STEPS, max_force=1e-9))
        yield f"relaxation.{model.name}.{n_atoms}_atoms.steps_per_second", n * STEPS / seconds


def deduplication(library: Path | None, device: torch.device, limit: int | None, seed: int) -> Rates:
    """Crystals a second brought into groups; reference pymatgen's `StructureMatcher.group_structures`,
    measured for the first `JUDGED` of them (`.different` of these got another group from us) and counted
    from its comparisons for all (see `dedup_rate`)."""
    n, judged = (100 * limit, 100 * limit) if limit else (DEDUPLICATED, JUDGED)
    rate = dedup_rate(n, library=library, n_checked=judged, seed=seed, device=device.type)
    key = f"deduplication.{rate.formula}-{rate.n}"
    yield f"{key}.per_second", rate.n / rate.seconds
    yield f"{key}.ratio_to_pymatgen", rate.ratio
    yield f"{key}.first_{rate.checked}.ratio_to_pymatgen", rate.checked_ratio
    yield f"{key}.first_{rate.checked}.different", rate.checked_different


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


def _reference(potential: str, device: torch.device) -> BaseCalculator:
    """The calculator that the potential's own package gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if potential == "chgnet":
            from chgnet.model import CHGNet
            from chgnet.model.dynamics import CHGNetCalculator

            with redirect_stdout(StringIO()):  # it says which device it runs on, and its size
                network = CHGNet.load(use_device=device.type, verbose=False)
                return CHGNetCalculator(network, use_device=device.type, on_isolated_atoms="ignore")
        if Path(potential).is_dir():
            try:
                import matgl
                from matgl.ext.ase import PESCalculator
            except ImportError as error:
                raise MissingError("matgl is the reference: pip install 'csp-engine[benchmarks]'.") from error

            return PESCalculator(matgl.load_model(potential), stress_unit="eV/A3")
    raise InputError(f"There is no reference for {potential!r}; measure chgnet or a folder of matgl's.")
