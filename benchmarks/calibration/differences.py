"""How far energy differences between crystals of one composition are from DFT's, and intervals for them.

Known crystals of compositions that no generator's training has seen, relaxed by a potential for a few steps
with their symmetry kept; each but the lowest by the potential makes a pair with it. The compositions are
halved, and each half is judged with the parameters fitted to the other. (The published potentials have
probably seen these crystals, so that what is truly new may be told too surely.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csp.errors import InputError
from csp.files import write_json, write_text
from csp.library.energies import read_energies
from csp.library.library import Library
from csp.protocols import EnergyModel
from csp.ranking.differences import DifferenceErrors
from csp.relaxation.relax import relax_symmetric
from csp.training.splits import HELD_OUT, composition_name, fold, hashed

__all__ = ["Pairs", "measure"]

STEPS = 20
MAX_ATOMS = 40
AT_MOST = 6  # crystals of a composition, those of the lowest energies
FAR = 1.0  # eV/atom; differences beyond are of no interest to a ranking
SHARES = (0.6827, 0.9545)
COLUMNS = ("composition", "differences", "others", "true")


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """N pairs of a composition's lowest crystal by a potential and another one, eV/atom.

    Attributes:
        composition: int64 [N], which composition each is of.
        differences: float64 [N], by the potential.
        others: float64 [N, M], by M other models at the same geometries.
        true: float64 [N], by DFT.
    """

    composition: Tensor
    differences: Tensor
    others: Tensor
    true: Tensor

    def __len__(self) -> int:
        return len(self.true)

    def __getitem__(self, index: Tensor) -> Pairs:
        return Pairs(self.composition[index], self.differences[index], self.others[index], self.true[index])


def measure(
    library: Path,
    energies: Path,
    out: Path,
    models: Sequence[EnergyModel],
    *,
    limit: int,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Fit and judge the first model's differences with what the others tell: with the second alone, as a
    search has them, and with all. Writes `pairs.json`, `difference_errors.json` and `summary.json`.

    Raises:
        InputError: Fewer than ten compositions have several crystals with an energy.
    """
    names, pairs = _pairs(library, energies, models, limit, seed, say)
    if len(names) < 10:
        raise InputError(f"Only {len(names)} compositions have several crystals of known energy.")
    finisher, others = models[0], models[1:]
    odd = torch.tensor([hashed(name) % 2 == 1 for name in names])[pairs.composition]
    summary: dict[str, Any] = {"compositions": len(names), "pairs": len(pairs)}
    fits = []
    for n in range(len(others) + 1):
        some = Pairs(pairs.composition, pairs.differences, pairs.others[:, :n], pairs.true)
        told = " ".join(model.name for model in others[:n]) or "itself"
        summary |= {f"{name}.{told}": value for name, value in _judged(some, odd).items()}
        fit = DifferenceErrors.fit(some.differences, some.others, some.true)
        label = {"label": str(finisher.label), "pairs": len(pairs)}
        fits.append(label | fit.as_dict([str(model.label) for model in others[:n]]))
    errors = (pairs.true - pairs.differences).abs()
    summary |= {"mean_error_mev": _milli(errors.mean()), "median_error_mev": _milli(errors.median())}
    low = pairs.true.abs() > 0.02
    same_sign = (pairs.true * pairs.differences > 0)[low].double().mean()
    summary |= {"pairs_beyond_20_mev": int(low.sum()), "same_sign_beyond_20_mev": round(float(same_sign), 3)}
    rows = {
        "compositions": names,
        "models": [str(model.label) for model in models],
        "composition": pairs.composition.tolist(),
        **{name: getattr(pairs, name).double().numpy().round(5).tolist() for name in COLUMNS[1:]},
    }
    write_text(out / "pairs.json", json.dumps(rows, separators=(",", ":")) + "\n")
    write_json(out / "difference_errors.json", fits)
    write_json(out / "summary.json", summary)
    return summary


def _judged(pairs: Pairs, odd: Tensor) -> dict[str, float]:
    """Coverage, in per cent, and mean width of the intervals, each half with the other's fit."""
    inside = {share: torch.zeros(len(pairs), dtype=torch.bool) for share in SHARES}
    width = torch.zeros(len(pairs), dtype=torch.float64)
    for fitted_on, judged in ((odd, ~odd), (~odd, odd)):
        fit = DifferenceErrors.fit(*_columns(pairs[fitted_on]))
        differences, others, true = _columns(pairs[judged])
        for share in SHARES:
            inside[share][judged] = (true - differences).abs() <= fit.intervals(differences, others, share)
        width[judged] = fit.intervals(differences, others)
    covered = {f"covered_{100 * s:.0f}": round(100 * float(inside[s].double().mean()), 1) for s in SHARES}
    return covered | {"median_sigma_mev": _milli(width.median())}


def _columns(pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    return pairs.differences, pairs.others, pairs.true


def _milli(value: Tensor) -> float:
    return round(1000 * float(value), 1)


def _pairs(
    library: Path,
    energies: Path,
    models: Sequence[EnergyModel],
    limit: int,
    seed: int,
    say: Callable[[str], None],
) -> tuple[list[str], Pairs]:
    """The names of the compositions, and the pairs."""
    opened, known = Library.open(library), read_energies(energies)
    chosen = _compositions(opened, known, models, limit, seed)
    names, rows = list(chosen), [row for members in chosen.values() for row in members]
    dft = np.array([known[str(opened.material_id[row])] for row in rows])
    of = np.repeat(np.arange(len(names)), [len(members) for members in chosen.values()])
    say(f"{len(rows)} crystals of {len(names)} compositions; {models[0].name} relaxes them")
    crystals, energy, good = relax_symmetric(opened.crystals(rows), models[0], STEPS)
    by = [energy / crystals.n_atoms]
    for model in models[1:]:
        say(model.name)
        found = [model.evaluate(crystals[k : k + 64]).energy for k in range(0, len(crystals), 64)]
        by.append(torch.cat(found).cpu() / crystals.n_atoms)
    per_atom, true, of = torch.stack(by, 1), torch.from_numpy(dft[good]), of[good]
    parts = []
    for k in range(len(names)):
        members = torch.from_numpy(np.flatnonzero(of == k))
        if len(members) < 2:
            continue
        lowest = members[per_atom[members, 0].argmin()]
        rest = members[members != lowest]
        apart = per_atom[rest] - per_atom[lowest]
        parts.append(Pairs(torch.full((len(rest),), k), apart[:, 0], apart[:, 1:], true[rest] - true[lowest]))
    pairs = Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in COLUMNS))
    return names, pairs[(pairs.differences < FAR) & (pairs.true.abs() < FAR)]


def _compositions(
    library: Library, known: dict[str, float], models: Sequence[EnergyModel], limit: int, seed: int
) -> dict[str, list[int]]:
    """Rows of the library by composition of the held-out fold, lowest first, of those with at least two that
    all models know the elements of."""
    elements = frozenset.intersection(*(frozenset(model.elements) for model in models))
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    found: dict[str, list[int]] = {}
    for row, z, n in zip(rows.tolist(), numbers.tolist(), counts.tolist(), strict=True):
        name = composition_name(z, n)
        usable = str(library.material_id[row]) in known and library.n_atoms[row] <= MAX_ATOMS
        if usable and fold(name) == HELD_OUT and {x for x in z if x} <= elements:
            found.setdefault(name, []).append(row)
    several = [name for name in found if len(found[name]) > 1]
    several.sort(key=lambda name: hashed(f"{seed} {name}"))
    return {
        name: sorted(found[name], key=lambda row: known[str(library.material_id[row])])[:AT_MOST]
        for name in several[:limit]
    }
