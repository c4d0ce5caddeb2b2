"""What do twenty DFT energies of a composition's own virtual crystals buy? READ `DftBenchmark.run` FIRST.

For each formula there is a pool of virtual crystals, all that the model puts within 2 eV/atom of the lowest,
as a search chooses its labels. Some, drawn at random, are labelled to measure on and never learned from;
others are chosen in two rounds as a search chooses them. All labels are kept in `labels/FORMULA.xyz`, so that
a run goes on where it was stopped and what was labelled once is judged anew without the code that made it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import machine
from benchmarks.rank_metrics import ordered
from benchmarks.surrogate.pool import make_pool
from csp.crystals import Crystals
from csp.device import resolve_device
from csp.errors import InputError
from csp.files import replacing, write_json, write_text
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import DONE, EnergyModel, Label, Labeller
from csp.target import Target
from surrogates.active_learning import WINDOW, choose
from surrogates.dft.gpaw import Gpaw, GpawSettings
from surrogates.labellers import load_labeller
from surrogates.training.label_files import read_labels
from surrogates.training.labelled import Labelled, compositions, hashed
from surrogates.transfer.adapt import adapt, near_duplicates
from surrogates.transfer.regression import Block, Floats, fit_linear
from surrogates.transformer.surrogate import Surrogate
from surrogates.zoo import load_model

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["DftBenchmark", "judged"]

POOL = 300
TIGHT = GpawSettings(cutoff=700.0, kspacing=0.17)  # what the defaults are compared with
CONVERGED_WITH = 4  # atoms at most, of the crystals that convergence is shown for

Say = Callable[[str], None]


@dataclass(frozen=True)
class DftBenchmark:
    """A benchmark in its out folder.

    Attributes:
        labels: How many are chosen in two rounds.
        test: How many are labelled to measure on.
        max_atoms: Atoms of a cell.
        failed: Calculations without an energy, by formula and reason.
    """

    out: Path
    model: Surrogate
    potentials: list[EnergyModel]
    labeller: str
    library: Library
    labels: int
    test: int
    max_atoms: int
    seed: int
    device: torch.device
    failed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def begin(
        cls,
        structures: Path,
        out: Path,
        *,
        model: str = "xs",
        potentials: Sequence[str] = (),
        labeller: str = "gpaw",
        labels: int = 20,
        test: int = 60,
        max_atoms: int = 4,
        seed: int = 0,
        device: str = "auto",
    ) -> DftBenchmark:
        """Start a benchmark, or go on with the one in `out`.

        Raises:
            InputError: The model cannot be adapted.
        """
        place = resolve_device(device)
        surrogate = load_model(model, place)
        if not isinstance(surrogate, Surrogate):
            raise InputError(f"{model} cannot be adapted to labels; choose a surrogate of ours.")
        others = [load_model(name, place) for name in potentials]
        library = Library.open(structures)
        return cls(out, surrogate, others, labeller, library, labels, test, max_atoms, seed, place)

    def run(self, formulas: Sequence[str], say: Say = lambda line: None) -> dict[str, Any]:
        """Label and judge each formula; write `summary.json` and `table.md`, after each anew."""
        summary: dict[str, Any] = {}
        for formula in formulas:
            self._label(Target.parse(formula, max_atoms=self.max_atoms), say)
            labelled, label = read_labels([self._file(formula)])
            roles = [str(frame.info["role"]) for frame in _frames(self._file(formula))]
            summary |= judged(formula, labelled, roles, label, self.model, self.potentials)
            summary[f"seen.{formula}"] = hashed(compositions(labelled.crystals)[0]) in self.model.seen
            summary[f"label.{formula}"] = str(label)
            if self.labeller == Gpaw.name:
                summary |= self._converged(formula, labelled, say)
            write_json(self.out / "summary.json", summary | self._circumstances())
            write_text(self.out / "table.md", _table(summary))
        return summary

    # -- labels -----------------------------------------------------------------------------------

    def _label(self, target: Target, say: Say) -> None:
        """Bring `labels/FORMULA.xyz` up to the asked number of labels; enough of them stay, whichever model
        they were chosen for."""
        roles = [frame.info["role"] == "test" for frame in _frames(self._file(target.formula))]
        if sum(roles) >= self.test and len(roles) - sum(roles) >= self.labels:
            return
        crystals, origins = make_pool(target, self.library, VolumePrior.load(), self.seed, POOL)
        energy = self.model.evaluate(crystals).energy / crystals.n_atoms
        near = (energy <= energy.min() + WINDOW).nonzero().flatten().tolist()
        crystals, origins = crystals[near], [origins[k] for k in near]
        shuffled = np.random.default_rng(self.seed).permutation(len(crystals))
        kept = np.sort(shuffled[: self.test]).tolist()
        among = sorted(shuffled[self.test :].tolist())
        model, taken, energies = self.model, list[int](), torch.zeros(0, dtype=torch.float64)
        for role, n in (("round 1", self.labels // 2), ("round 2", self.labels - self.labels // 2)):
            energy = model.evaluate(crystals).energy / crystals.n_atoms
            new = choose(model.features(crystals), energy, model.sigma(crystals), among, taken, n, self.seed)
            found, label = self._energies(target.formula, crystals, new, origins, role, say)
            taken, energies = taken + new, torch.cat([energies, found])
            good = [k for k, e in zip(taken, energies.tolist(), strict=True) if np.isfinite(e)]
            model = adapt(self.model, crystals[good], energies[energies.isfinite()], label).surrogate
        self._energies(target.formula, crystals, kept, origins, "test", say)

    def _energies(
        self, formula: str, crystals: Crystals, rows: Sequence[int], origins: list[str], role: str, say: Say
    ) -> tuple[Tensor, Label]:
        """float64 [N]: eV per cell of these rows, from the file or computed and put there; NaN: failed."""
        path = self._file(formula)
        frames = _frames(path)
        known = {frame.info["id"]: frame for frame in frames}
        ids, labeller = crystals.ids(), None
        energies = []
        for k in rows:
            if ids[k] not in known:
                labeller = labeller or load_labeller(self.labeller, self.device)
                found = labeller.compute(crystals[[k]], self.out / "work" / formula)
                if found.outcome[0] != DONE:
                    self.failed[f"{formula}: {found.outcome[0]}"] += 1
                    energies.append(np.nan)
                    continue
                frame = _frame(crystals[[k]], float(found.energy[0]), labeller, ids[k], origins[k], role)
                frames.append(frame)
                known[ids[k]] = frame
                _write(path, frames)
                say(f"{formula:<8} {role:<8} {len(frames):3d} labels")
            energies.append(known[ids[k]].get_potential_energy())
        _, label = read_labels([path])
        return torch.tensor(energies, dtype=torch.float64), label

    def _file(self, formula: str) -> Path:
        return self.out / "labels" / f"{formula}.xyz"

    # -- is what labels converged? ----------------------------------------------------------------

    def _converged(self, formula: str, labelled: Labelled, say: Say) -> dict[str, Any]:
        """By how much the differences of energy among three crystals, the lowest, the median and the highest
        of the small ones, change with a cutoff of 700 eV and k-points 0.17 Å⁻¹ apart; meV/atom."""
        path = self.out / "labels" / f"{formula}-tight.json"
        if not path.is_file():
            small = (labelled.crystals.n_atoms <= CONVERGED_WITH).nonzero().flatten()
            per_atom = (labelled.energy / labelled.crystals.n_atoms)[small]
            order = small[torch.argsort(per_atom)]
            rows = order[[0, len(order) // 2, len(order) - 1]]
            found = Gpaw(TIGHT).compute(labelled.crystals[rows], self.out / "work" / f"{formula}-tight")
            if found.failed:
                self.failed.update({f"{formula}, tight: {why}": n for why, n in found.failed.items()})
                return {f"converged_mev.{formula}": None}
            n_atoms = labelled.crystals.n_atoms[rows]
            usual = (labelled.energy[rows] / n_atoms).tolist()
            tight = (found.energy / n_atoms).tolist()
            ids = labelled.crystals[rows].ids()
            write_json(path, {"crystals": ids, "ev_per_atom": usual, "tight_ev_per_atom": tight})
            say(f"{formula:<8} convergence is shown")
        kept = json.loads(path.read_text(encoding="utf-8"))
        shift = 1000 * (np.array(kept["ev_per_atom"]) - np.array(kept["tight_ev_per_atom"]))
        return {f"converged_mev.{formula}": round(float(np.ptp(shift)), 2)}

    def _circumstances(self) -> dict[str, Any]:
        return {
            "model": str(self.model.label),
            "failed": dict(self.failed),
            "seed": self.seed,
            **machine(self.device),
        }


def judged(
    formula: str,
    labelled: Labelled,
    roles: Sequence[str],
    label: Label,
    model: Surrogate,
    potentials: Sequence[EnergyModel],
) -> dict[str, Any]:
    """tau, tau_low (within 0.3 eV/atom of the lowest) and mae_mev .{formula}.{contestant} on the labels of
    role "test", learned from the others.

    Contestants are the model as it is, adapted to the first round and to all labels, and each potential
    alone and with an affine correction by all labels. What has learned nothing gets the best constant there
    is, of which `error_ratio` has the adapted one's share.
    """
    n_atoms = labelled.crystals.n_atoms
    truth = (labelled.energy / n_atoms).numpy()
    test = np.array([role == "test" for role in roles])
    first = np.array([role == "round 1" for role in roles])
    summary: dict[str, Any] = {
        f"n_test.{formula}": int(test.sum()),
        f"n_labels.{formula}": int((~test).sum()),
    }

    def measure(name: str, energy: Floats, *, shifted: bool) -> float:
        rest = (truth - energy)[test]
        error = 1000 * float(np.abs(rest - (np.median(rest) if shifted else 0.0)).mean())
        order = ordered(energy[test], truth[test])
        summary[f"tau.{formula}.{name}"] = round(order.tau, 4)
        summary[f"tau_low.{formula}.{name}"] = None if order.tau_low is None else round(order.tau_low, 4)
        summary[f"mae_mev.{formula}.{name}"] = round(error, 2)
        return error

    before = (model.evaluate(labelled.crystals).energy / n_atoms).numpy()
    untuned = measure("before", before, shifted=True)
    for name, learned in (("first_round", first), ("after", ~test)):
        rows = learned.nonzero()[0]
        found = adapt(model, labelled.crystals[rows], labelled.energy[rows], label)
        energy = (found.surrogate.evaluate(labelled.crystals).energy / n_atoms).numpy()
        error = measure(name, energy, shifted=False)
        summary[f"error_ratio.{formula}.{name}"] = round(error / untuned, 4)
        summary[f"strategy.{formula}.{name}"] = found.strategy
    sigma = found.surrogate.sigma(labelled.crystals)
    if sigma is not None:
        off = np.abs(energy - truth)[test] / sigma.cpu().numpy()[test]
        summary[f"coverage_68.{formula}"] = round(float((off < 1.0).mean()), 4)
        summary[f"coverage_95.{formula}"] = round(float((off < 1.96).mean()), 4)
    group = near_duplicates(labelled.crystals[(~test).nonzero()[0]])
    for potential in potentials:
        alone = (potential.evaluate(labelled.crystals).energy / n_atoms).numpy()
        measure(potential.name, alone, shifted=True)
        blocks = [Block(np.ones((len(alone), 1)), None), Block((alone - alone[~test].mean())[:, None], 0.3)]
        fit = fit_linear([Block(b.columns[~test], b.width) for b in blocks], (truth - alone)[~test], group)
        change = np.concatenate([b.columns for b in blocks], 1) @ fit.weights
        measure(f"{potential.name}_affine", alone + change, shifted=False)
    return summary


# -- files ------------------------------------------------------------------------------------------


def _frames(path: Path) -> list[Atoms]:
    from ase.io import read

    return list(read(path, index=":", format="extxyz")) if path.is_file() else []


def _write(path: Path, frames: list[Atoms]) -> None:
    from ase.io import write

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        write(partial, frames, format="extxyz")


def _frame(crystal: Crystals, energy: float, labeller: Labeller, name: str, origin: str, role: str) -> Atoms:
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms: Atoms = crystal.atoms()[0]
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    label = labeller.label
    atoms.info |= {"id": name, "origin": origin, "role": role}
    atoms.info |= {"functional": label.functional, "correction": label.correction, "code": label.checkpoint}
    return atoms


def _table(summary: dict[str, Any]) -> str:
    """Markdown: error and τ of each contestant for each formula."""
    formulas = [key.split(".")[1] for key in summary if key.startswith("n_test.")]
    names = list(dict.fromkeys(key.split(".", 2)[2] for key in summary if key.startswith("tau.")))
    rows = [f"| MAE, meV/atom / τ_b | {' | '.join(formulas)} |", "|---" + "|---:" * len(formulas) + "|"]
    for name in names:
        cells = [
            f"{summary[f'mae_mev.{f}.{name}']:.0f} / {summary[f'tau.{f}.{name}']:.2f}"
            if f"tau.{f}.{name}" in summary
            else ""
            for f in formulas
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
