"""What Nequix costs against a plain implementation of it, in seconds that a core worked.

Run as `python -m benchmarks.throughput.nequix FOLDER`, the folder with nequix-oam-1.nqx and its
nequix_reference.py.
What is compared takes turns, so that all meet the same load of the machine. What symmetry saves in a search
is measured by `benchmarks.symmetry`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from csp.crystallography.operations import operations
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from surrogates.potentials.models import load_nequix

__all__ = ["nequix_speed"]

FORMULAS = ("TiO2", "SrTiO3", "GaAs", "CaCO3", "Al2O3", "LiFePO4", "Bi2Te3", "MgB2", "CoSb3", "Mg2SiO4")
MAX_ATOMS = 28
PER_FORMULA = 12
SHAKE = 0.05  # Å, puts crystals into general position
HIGH_SYMMETRY = 4.0  # atoms in an orbit on average, at least
ROUNDS = 3


def nequix_speed(folder: Path, seed: int = 0) -> dict[str, float]:
    """Milliseconds per crystal for energy, forces and stress, in general position and told of symmetry, and
    ratios of them. `folder` holds the weights and the plain implementation."""
    proposed = _proposals(seed)
    symmetry = operations(proposed)
    exact = symmetry.symmetrize(proposed)
    n_sites = Surroundings.of(exact, symmetry).orbits.n_sites
    high = (exact.n_atoms / n_sites >= HIGH_SYMMETRY).nonzero().flatten()
    model, one_by_one = load_nequix(folder / "nequix-oam-1.nqx", "nequix-oam-1"), _plain(folder)
    general, symmetric = _shaken(proposed, seed), exact[high]
    known = Surroundings.of(symmetric, symmetry[high])
    found = {
        "operations.ms": 1e3 * _best({"": lambda: operations(proposed)})[""] / len(proposed),
    }
    for name, crystals, surroundings in (("general", general, None), ("symmetric", symmetric, known)):
        seconds = _best(
            {
                "nequix": partial(model.evaluate, crystals, forces=True, surroundings=surroundings),
                "plain": partial(one_by_one, crystals),
            }
        )
        found |= {f"{name}.{which}.ms": 1e3 * s / len(crystals) for which, s in seconds.items()}
        found |= {
            f"{name}.crystals": float(len(crystals)),
            f"{name}.atoms": float(crystals.n_atoms.double().mean()),
            f"{name}.ratio": seconds["plain"] / seconds["nequix"],
        }
    return found | {"symmetric.sites": float(n_sites[high].double().mean())}


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
