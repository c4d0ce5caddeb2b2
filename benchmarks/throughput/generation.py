"""How fast candidates are made: `python -m benchmarks.throughput.generation`."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass

import torch

from benchmarks.machine import threads
from csp.crystallography.neighbours import distance_ratio, neighbour_list
from csp.crystals import Crystals
from csp.errors import MissingError
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator

__all__ = ["GenerationRate", "generation_rate", "pyxtal_rate"]

MIN_DISTANCE = 0.85  # × sum of covalent radii
VOLUME_WINDOW = 0.25
CASES = (("CaCO3", 167, 2), ("CaCO3", 14, 8), ("CaCO3", 1, 8))


@dataclass(frozen=True, slots=True)
class GenerationRate:
    """What a generator made on one core.

    Attributes:
        per_second: Accepted crystals a second: right composition, far enough apart, within the volume window.
        share_built: Of the candidates asked for, the share that was built.
        share_distinct: Of the accepted, the share with a fingerprint of their own.
        smallest_ratio: Smallest distance in all of them, by the sum of covalent radii, from the full
            neighbour list.
    """

    formula: str
    space_group: int
    n_atoms: int
    accepted: int
    seconds: float
    per_second: float
    share_built: float
    share_distinct: float
    smallest_ratio: float


def generation_rate(formula: str, space_group: int, z: int, n: int = 8192, seed: int = 0) -> GenerationRate:
    """Time `n` candidates of the random generator on one thread, after a warm-up; then check each."""
    with threads(1):
        target = Target.parse(formula, z=z, space_groups=frozenset({space_group}), max_atoms=200)
        volume = VolumePrior.load()
        generator = RandomGenerator(Library.open(), volume)
        generator.propose(target, 512, seed=seed + 1)
        began = time.process_time()
        proposals = generator.propose(target, n, seed=seed)
        seconds = time.process_time() - began
    crystals = proposals.crystals
    accepted, smallest = _accepted(crystals, target, z * volume.predict(target.numbers, target.counts))
    return GenerationRate(
        formula=target.formula,
        space_group=space_group,
        n_atoms=z * target.n_atoms,
        accepted=int(accepted.sum()),
        seconds=seconds,
        per_second=float(accepted.sum()) / seconds,
        share_built=len(crystals) / n,
        share_distinct=_share_distinct(crystals[accepted]),
        smallest_ratio=smallest,
    )


def pyxtal_rate(formula: str, space_group: int, z: int, n: int = 20) -> float:
    """Crystals a second of PyXtal, with its own defaults, for the same composition and primitive cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from pyxtal import pyxtal
        except ImportError as error:
            raise MissingError("PyXtal is the reference: pip install 'csp-engine[benchmarks]'.") from error

        from csp.crystallography.wyckoff import wyckoff_table

        target = Target.parse(formula, max_atoms=200)
        conventional = int(torch.linalg.det(wyckoff_table().to_primitive[space_group]).round()) * z
        symbols = [_symbol(number) for number in target.numbers]
        made = 0
        began = time.process_time()
        for seed in range(n):
            crystal = pyxtal()
            crystal.from_random(
                3, space_group, symbols, [c * conventional for c in target.counts], random_state=seed
            )
            made += bool(crystal.valid)
        return made / (time.process_time() - began)


def _accepted(crystals: Crystals, target: Target, volume: float) -> tuple[torch.Tensor, float]:
    """bool [B], and the smallest distance ratio; independent of the generator's own screening."""
    ratio = distance_ratio(crystals, limit=1.0)
    accepted = ratio >= MIN_DISTANCE
    accepted &= (crystals.volumes / volume - 1).abs() <= VOLUME_WINDOW
    for number, count in zip(target.numbers, target.counts, strict=True):
        held = torch.zeros(len(crystals), dtype=torch.int64)
        held.index_add_(0, crystals.batch, (crystals.numbers == number).long())
        accepted &= held * target.n_atoms == count * crystals.n_atoms
    return accepted, float(ratio.min()) if len(crystals) else float("nan")


def _share_distinct(crystals: Crystals) -> float:
    """By volume and the mean inverse sixth power of distances within 6 Å, weighted by element, at 1e-4."""
    if not len(crystals):
        return float("nan")
    keys = []
    for start in range(0, len(crystals), 256):
        part = crystals[start : start + 256]
        pairs = neighbour_list(part, 6.0)
        weight = part.numbers.double()
        terms = (weight[pairs.i] * weight[pairs.j]).sqrt() * pairs.distance**-6
        total = torch.zeros(len(part), dtype=torch.float64).index_add_(0, part.batch[pairs.i], terms)
        keys.append(torch.stack([part.volumes, total.log() * 10], dim=1))
    return len(torch.unique((torch.cat(keys) * 1e3).round(), dim=0)) / len(crystals)


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


def main() -> None:
    for case in CASES:
        rate = asdict(generation_rate(*case))
        theirs = pyxtal_rate(*case)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in rate.items()})
        print(f"  PyXtal {theirs:.1f} a second; ratio {rate['per_second'] / max(theirs, 1e-9):.0f}")


if __name__ == "__main__":
    main()
