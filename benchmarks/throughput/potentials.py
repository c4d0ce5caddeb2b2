"""What Nequix and the orbits of symmetric crystals cost, in seconds that a core worked.

Run as `python -m benchmarks.nequix_speed FOLDER`, the folder with nequix-oam-1.nqx and nequix_reference.py.
What is compared takes turns, so that all meet the same load of the machine.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from csp.crystallography.operations import operations
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import EnergyModel, Evaluation
from csp.relaxation.relax import relax
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from surrogates.potentials.models import load_chgnet, load_nequix
from surrogates.zoo import load_model

__all__ = ["nequix_speed"]

FORMULAS = ("TiO2", "SrTiO3", "GaAs", "CaCO3", "Al2O3", "LiFePO4", "Bi2Te3", "MgB2", "CoSb3", "Mg2SiO4")
MAX_ATOMS = 28
PER_FORMULA = 12
SHAKE = 0.05  # Å, puts crystals into general position
HIGH_SYMMETRY = 4.0  # atoms in an orbit on average, at least
REFERENCE_AT_MOST = 40  # crystals, one by one
ROUNDS = 3
MAX_STEPS = 60


def nequix_speed(folder: Path, seed: int = 0) -> dict[str, float]:
    """Milliseconds per crystal for energy, forces and stress, and ratios of them; and seconds to relax
    proposals. `folder` holds the weights and the plain implementation."""
    proposed = _proposals(seed)
    symmetry = operations(proposed)
    exact = symmetry.symmetrize(proposed)
    n_sites = Surroundings.of(exact, symmetry).orbits.n_sites
    high = (exact.n_atoms / n_sites >= HIGH_SYMMETRY).nonzero().flatten()
    symmetric, known = exact[high], symmetry[high]
    model = load_nequix(folder / "nequix-oam-1.nqx", "nequix-oam-1")
    found = {
        "crystals": float(len(proposed)),
        "atoms": float(proposed.n_atoms.double().mean()),
        "symmetric.crystals": float(len(symmetric)),
        "symmetric.atoms": float(symmetric.n_atoms.double().mean()),
        "symmetric.sites": float(n_sites[high].double().mean()),
        "operations.ms": 1e3 * _best({"": lambda: operations(proposed)})[""] / len(proposed),
    }

    general = _shaken(proposed, seed)
    few = torch.linspace(0, len(general) - 1, min(REFERENCE_AT_MOST, len(general))).long()
    one_by_one = _plain(folder)
    seconds = _best(
        {"nequix": lambda: model.evaluate(general, forces=True), "plain": lambda: one_by_one(general[few])}
    )
    found |= {
        "general.nequix.ms": 1e3 * seconds["nequix"] / len(general),
        "general.plain.ms": 1e3 * seconds["plain"] / len(few),
    }
    found["general.ratio"] = found["general.plain.ms"] / found["general.nequix.ms"]

    few = torch.linspace(0, len(symmetric) - 1, min(REFERENCE_AT_MOST, len(symmetric))).long()
    seconds = _best({"plain": lambda: one_by_one(symmetric[few])})
    plain = found["symmetric.plain.ms"] = 1e3 * seconds["plain"] / len(few)
    for one in (model, load_model("xs"), load_chgnet()):
        whole, orbits = _with_and_without(one, symmetric, Surroundings.of(symmetric, known))
        found |= {f"symmetric.{one.name}.whole.ms": whole, f"symmetric.{one.name}.orbits.ms": orbits}
        found[f"symmetric.{one.name}.ratio"] = whole / orbits
    found["symmetric.plain.ratio"] = plain / found[f"symmetric.{model.name}.orbits.ms"]
    return found | _relaxing(load_model("xs"), proposed)


def _relaxing(model: EnergyModel, crystals: Crystals) -> dict[str, float]:
    """Seconds to relax the crystals in shards, symmetry kept, by a model that is told of it and one that is
    not; operations are found within that time."""

    def run(chosen: EnergyModel) -> None:
        for part in torch.arange(len(crystals)).split(40):
            relax(
                crystals[part],
                chosen,
                max_steps=MAX_STEPS,
                symmetry=operations(crystals[part]),
            )

    seconds = _best({"told": lambda: run(model), "untold": lambda: run(_Untold(model))}, rounds=2)
    return {
        f"relax.{model.name}.untold.s": seconds["untold"],
        f"relax.{model.name}.told.s": seconds["told"],
        f"relax.{model.name}.ratio": seconds["untold"] / seconds["told"],
    }


class _Untold:
    """A model that is told nothing of symmetry and earlier pairs."""

    def __init__(self, model: EnergyModel) -> None:
        self.name, self.label, self.elements, self.device = (
            model.name,
            model.label,
            model.elements,
            model.device,
        )
        self._model = model

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        return self._model.evaluate(crystals, forces=forces)


def _with_and_without(
    model: EnergyModel, crystals: Crystals, surroundings: Surroundings
) -> tuple[float, float]:
    """Milliseconds per crystal for the whole and for one site of each orbit."""
    seconds = _best(
        {
            "whole": lambda: model.evaluate(crystals, forces=True),
            "orbits": lambda: model.evaluate(crystals, forces=True, surroundings=surroundings),
        }
    )
    return 1e3 * seconds["whole"] / len(crystals), 1e3 * seconds["orbits"] / len(crystals)


def _best(work: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of a core for each kind of work, the best of several rounds in which all take turns."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, one in work.items():
            start = time.process_time()
            one()
            best[name] = min(best[name], time.process_time() - start)
    return best


def _proposals(seed: int) -> Crystals:
    generator = RandomGenerator(Library.open(), VolumePrior.load())
    targets = [Target.parse(formula, max_atoms=MAX_ATOMS) for formula in FORMULAS]
    return Crystals.cat([generator.propose(target, PER_FORMULA, seed=seed).crystals for target in targets])


def _shaken(crystals: Crystals, seed: int) -> Crystals:
    rng = torch.Generator().manual_seed(seed)
    shift = SHAKE * torch.randn(crystals.frac.shape, generator=rng, dtype=torch.float64)
    inverse = torch.linalg.inv(crystals.cell)[crystals.batch]
    return crystals.with_geometry(crystals.cell, crystals.frac + torch.einsum("ai,aij->aj", shift, inverse))


def _plain(folder: Path) -> Callable[[Crystals], None]:
    """The plain implementation, called for one crystal after the other."""
    spec = importlib.util.spec_from_file_location("nequix_reference", folder / "nequix_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    calculator = module.NequixCalc(folder / "nequix-oam-1.nqx")

    def run(crystals: Crystals) -> None:
        for atoms in crystals.atoms():
            calculator.calculate(atoms)

    return run


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump(nequix_speed(Path(sys.argv[1])), sys.stdout, indent=1)
