"""How far pressure compresses a crystal of which only the composition is known: where searches under pressure
begin.

The bulk modulus follows from the elements and the volume, log10(K V²) = c + Σ_e x_e c_e with x_e the atomic
fraction of element e, K in GPa and V in Å³/atom, fitted by ridge regression to the Materials Project's
elastic constants (compositions that the fit has not seen: 26 % in the mean). The volume follows from it by
the equation of state of Vinet et al., J. Phys.: Condens. Matter 1, 1941 (1989), which holds to high
compression.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystals import Crystals
from csp.files import write_json

__all__ = ["bulk_modulus", "compressed", "compression", "fit"]

SHIPPED = Path(__file__).parents[1] / "data" / "bulk_modulus.json"
RIDGE = 0.3
B_PRIME = 4.5  # dK/dP; 4 to 5 in most solids
STRETCHED = 1.06  # of the edge: beyond it, nothing holds together under tension


def compression(
    numbers: Sequence[int], counts: Sequence[int], volume_per_atom: float, pressure: float
) -> float:
    """V(pressure) / V(0).

    Args:
        numbers, counts: The composition.
        volume_per_atom: At no pressure, Å³.
        pressure: GPa; negative: tension.
    """
    if pressure == 0:
        return 1.0
    ratio = pressure / (3 * bulk_modulus(numbers, counts, volume_per_atom))
    low, high = 0.05, STRETCHED  # of the edge x = (V/V0)^(1/3)
    for _ in range(60):
        x = 0.5 * (low + high)
        vinet = (1 - x) / x**2 * math.exp(1.5 * (B_PRIME - 1) * (1 - x))
        low, high = (x, high) if vinet > ratio else (low, x)
    return (0.5 * (low + high)) ** 3


def compressed(crystals: Crystals, pressure: float) -> Crystals:
    """The crystals at the volumes that a pressure, GPa, is expected to leave them."""
    factors: list[float] = []
    for _, _, numbers in crystals.arrays():
        z, n = np.unique(numbers, return_counts=True)
        per_atom = float(crystals.volumes[len(factors)]) / len(numbers)
        factors.append(compression(z.tolist(), n.tolist(), per_atom, pressure))
    return crystals.scaled_to(crystals.volumes * torch.tensor(factors, dtype=torch.float64))


def bulk_modulus(numbers: Sequence[int], counts: Sequence[int], volume_per_atom: float) -> float:
    """K in GPa, at no pressure; elements of which nothing is known count as the mean of all."""
    known, total = _shipped(), sum(counts)
    log = known["mean"] + sum(
        n / total * known.get(str(z), 0.0) for z, n in zip(numbers, counts, strict=True)
    )
    return float(10.0 ** (log - 2 * math.log10(volume_per_atom)))


def fit(
    fractions: NDArray[np.float64], volume_per_atom: NDArray[np.float64], modulus: NDArray[np.float64]
) -> dict[str, float]:
    """The coefficients: "mean", and of each element by its atomic number.

    Args:
        fractions: [N, 119], atomic fractions by atomic number.
        volume_per_atom: [N], Å³.
        modulus: [N], GPa.
    """
    target = np.log10(modulus) + 2 * np.log10(volume_per_atom)
    mean = float(target.mean())
    solved = np.linalg.solve(
        fractions.T @ fractions + RIDGE * np.eye(fractions.shape[1]), fractions.T @ (target - mean)
    )
    seen = np.flatnonzero(fractions.any(axis=0))
    return {"mean": round(mean, 4), **{str(z): round(float(solved[z]), 4) for z in seen}}


@cache
def _shipped() -> dict[str, float]:
    coefficients: dict[str, float] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return coefficients


def _main(structures: Path, properties: Path) -> None:
    """Write the table that ships: `python -m csp.library.compression STRUCTURES PROPERTIES`, Parquet files,
    the second with the columns material_id and log10_k_vrh."""
    import pyarrow as pa

    from csp.library.library import Library
    from csp.library.tables import read_table

    library = Library.open(structures)
    columns = {"material_id": pa.string(), "log10_k_vrh": pa.float64()}
    known = read_table(properties, columns, "table of bulk moduli").to_pylist()
    modulus = {row["material_id"]: 10.0 ** row["log10_k_vrh"] for row in known if row["log10_k_vrh"]}
    rows = np.array([k for k, name in enumerate(library.material_id.tolist()) if modulus.get(name, 0.0) > 1])
    fractions = np.zeros((len(rows), 119))
    for k, (z, n) in enumerate(zip(*library.compositions(rows), strict=True)):
        fractions[k, z[n > 0]] = n[n > 0] / n.sum()
    crystals = library.crystals(rows)
    volumes = (crystals.volumes / crystals.n_atoms).numpy()
    wanted = np.array([modulus[name] for name in library.material_id[rows].tolist()])
    write_json(SHIPPED, fit(fractions, volumes, wanted))


if __name__ == "__main__":
    import sys

    _main(Path(sys.argv[1]), Path(sys.argv[2]))
