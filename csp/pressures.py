"""A formula at several pressures: a prediction at each, all crystals relaxed at all, and the transitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystals import Crystals
from csp.device import resolve_device
from csp.engine import predict
from csp.matching.matcher import Matcher
from csp.protocols import EnergyModel, Uncertain
from csp.ranking.enthalpies import Enthalpies
from csp.relaxation.relax import GPA, RelaxationResult
from csp.search.dynamics import MOST_STEPS, silent
from csp.search.funnel import Progress
from csp.search.history import Heard
from csp.search.prediction import Prediction
from csp.search.stages import WHOLE
from csp.search.under_pressure import Phase, UnderPressure
from csp.search.work import Work
from csp.settings import SearchSettings
from csp.store.store import Store
from surrogates.zoo import load_model

__all__ = ["compare", "folder_of", "predict_at"]

TAKEN = 10  # of each prediction, the first
ALIKE = 5e-4  # eV/atom; crystals whose enthalpies differ by less at all pressures are one
PROTOTYPES = "aflow:"  # entries that are examples of a structure, not names that people know
LOW = 0.1  # eV/atom above the lowest; of these the models are compared
DISAGREE = 0.02  # eV/atom
GROWN = 1.5  # times what it is at the lowest pressure

Floats = NDArray[np.float64]


def folder_of(out: Path, pressure: float) -> Path:
    """The out folder of the prediction at one of several pressures."""
    return out / f"{pressure:g}GPa"


def predict_at(
    pressures: Sequence[float],
    settings: SearchSettings,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = lambda stage, done, total: None,
    heard: Heard = lambda now, before: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> UnderPressure:
    """Predict at each pressure, each into a folder of its own, and compare what was found.

    Args:
        pressures: GPa, two or more.
        settings: Of all predictions, their pressure apart.
        resume: Go on with what is in the folders.
    """
    ordered = sorted(set(pressures))
    predictions = []
    for pressure in ordered:
        at = settings.model_copy(update={"pressure": pressure})
        say(f"At {pressure:g} GPa:")
        folder = folder_of(out, pressure)
        predictions.append(
            predict(
                at,
                at.target(),
                folder,
                device=device,
                resume=resume,
                progress=progress,
                heard=heard,
                say=say,
            )
        )
    models = [load_model(name, resolve_device(device)) for name in predictions[0].models]
    return compare(ordered, predictions, models, settings, out, progress=progress)


def compare(
    pressures: Sequence[float],
    predictions: Sequence[Prediction],
    models: Sequence[EnergyModel],
    settings: SearchSettings,
    out: Path,
    *,
    progress: Progress = lambda stage, done, total: None,
) -> UnderPressure:
    """Relax the first crystals of all predictions at all pressures; what is done is kept in the out folder.

    Args:
        pressures: GPa, ascending, of the predictions.
        models: The first and the last of the predictions; the last relaxes.
    """
    starts, phases = _distinct(pressures, predictions)
    ids = starts.ids()
    decisive = {"label": str(models[-1].label), "max_force": settings.max_force}
    store = Store.begin(out, decisive, formula=predictions[0].target.formula, versions={}, resume=True)
    relaxed, n = list[RelaxationResult](), len(ids)
    for k, pressure in enumerate(pressures):
        work = Work(settings.model_copy(update={"pressure": pressure}), store)

        def told(done: int, before: int = k * n) -> None:
            progress("relaxing all at all pressures", before + done, n * len(pressures))

        relaxed.append(_relaxed(work, models[-1], ids, starts, pressure, told))
    progress("relaxing all at all pressures", n * len(pressures), n * len(pressures))
    enthalpies = _enthalpies(pressures, relaxed)
    kept = _apart(enthalpies.enthalpy)
    relaxed = [one.take(kept) for one in relaxed]
    enthalpies = Enthalpies(enthalpies.pressures, enthalpies.enthalpy[kept], enthalpies.volume[kept])
    disagreement, sigma = _doubts(enthalpies, relaxed, models)
    return UnderPressure(
        predictions[0].target.formula,
        models[-1].label,
        [phases[k] for k in kept],
        enthalpies,
        relaxed,
        disagreement,
        sigma,
        predictions[0].models,
        _warnings(enthalpies, disagreement, sigma, predictions[0].models),
    )


def _distinct(pressures: Sequence[float], predictions: Sequence[Prediction]) -> tuple[Crystals, list[Phase]]:
    """The first of all predictions: of those that StructureMatcher takes for one crystal, one of each space
    group, of the lowest pressure."""
    parts = [one.crystals[: min(TAKEN, len(one.crystals))] for one in predictions]
    crystals = Crystals.cat(parts)
    results = [(at, r) for at, one in zip(pressures, predictions, strict=True) for r in one.results[:TAKEN]]
    groups = Matcher.DEFAULT.group(crystals).tolist()
    members: dict[tuple[int, int], list[int]] = {}
    for k, (_, result) in enumerate(results):
        members.setdefault((groups[k], result.spacegroup_number), []).append(k)
    phases = []
    for rows in members.values():
        known = tuple(dict.fromkeys(entry.id for k in rows for entry in results[k][1].known_as))
        first = results[rows[0]][1]
        found_at = tuple(dict.fromkeys(results[k][0] for k in rows))
        named = [entry for entry in known if not entry.startswith(PROTOTYPES)]
        name = f"{first.spacegroup or '?'}{f' ({named[0]})' if named else ''}"
        phases.append(Phase(name, first.spacegroup, first.spacegroup_number, found_at, known))
    return crystals[[rows[0] for rows in members.values()]], phases


def _relaxed(
    work: Work,
    model: EnergyModel,
    ids: Sequence[str],
    starts: Crystals,
    pressure: float,
    told: Callable[[int], None],
) -> RelaxationResult:
    """The starts relaxed at a pressure, each a stage of its own: more predictions bring more crystals."""
    parts = []
    for k, i in enumerate(ids):
        told(k)
        name = f"at {pressure:g} GPa {i}"
        work.relax("refine", model, [i], starts[k], WHOLE, silent, name=name, max_steps=MOST_STEPS)
        parts.append(work.store.relaxed(name, model.label)[1])
    together = parts[0]
    for part in parts[1:]:
        together = together.followed_by(part)
    return together


def _enthalpies(pressures: Sequence[float], relaxed: Sequence[RelaxationResult]) -> Enthalpies:
    enthalpy, volume = [], []
    for pressure, one in zip(pressures, relaxed, strict=True):
        n, volumes = one.crystals.n_atoms, one.crystals.volumes
        good = torch.tensor([status.has_energy for status in one.status])
        h = (one.energy + pressure * GPA * volumes) / n
        enthalpy.append(torch.where(good, h, torch.nan).numpy())
        volume.append((volumes / n).numpy())
    return Enthalpies(np.array(pressures, dtype=np.float64), np.array(enthalpy).T, np.array(volume).T)


def _apart(enthalpy: Floats) -> list[int]:
    """Rows whose enthalpies are not those of an earlier row at all pressures."""
    kept: list[int] = []
    for k, row in enumerate(enthalpy):
        if np.isfinite(row).any() and not any(
            np.allclose(row, enthalpy[j], rtol=0, atol=ALIKE, equal_nan=True) for j in kept
        ):
            kept.append(k)
    return kept


def _doubts(
    enthalpies: Enthalpies, relaxed: Sequence[RelaxationResult], models: Sequence[EnergyModel]
) -> tuple[Floats, Floats]:
    """At each pressure how far the models disagree, and the first's own uncertainty, eV/atom."""
    first = models[0]
    disagreement, sigma = [], []
    for k, (pressure, one) in enumerate(zip(enthalpies.pressures, relaxed, strict=True)):
        ours = enthalpies.enthalpy[:, k]
        low = np.flatnonzero(ours <= np.nanmin(ours) + LOW) if np.isfinite(ours).any() else np.array([], int)
        crystals = one.crystals[low]
        own = first.sigma(crystals) if isinstance(first, Uncertain) and len(low) else None
        sigma.append(math.nan if own is None else float(own.mean()))
        if len(models) < 2 or len(low) < 2:
            disagreement.append(math.nan)
            continue
        energy = first.evaluate(crystals.to(first.device)).energy.cpu()
        theirs = ((energy + pressure * GPA * crystals.volumes) / crystals.n_atoms).numpy()
        lowest = int(ours[low].argmin())
        apart = (theirs - theirs[lowest]) - (ours[low] - ours[low][lowest])
        disagreement.append(float(np.sqrt((np.delete(apart, lowest) ** 2).mean())))
    return np.array(disagreement), np.array(sigma)


def _warnings(
    enthalpies: Enthalpies, disagreement: Floats, sigma: Floats, models: tuple[str, ...]
) -> list[str]:
    """Where compression has led the potentials out of what they were trained on."""
    found = []
    at = enthalpies.pressures
    places = [int(enthalpies.lowest[np.searchsorted(enthalpies.grid, p)]) for p in at]
    for k in range(len(at)):
        volume = enthalpies.volume[places[k], k] / enthalpies.volume[places[0], 0]
        where = f"At {at[k]:g} GPa, where volumes are {volume:.2f} of those at {at[0]:g} GPa,"
        if disagreement[k] > DISAGREE and not disagreement[k] <= GROWN * disagreement[0]:
            found.append(
                f"{where} {models[0]} and {models[-1]} disagree by {1000 * disagreement[k]:.0f} meV/atom in "
                f"differences ({1000 * disagreement[0]:.0f} at {at[0]:g} GPa): hardly trained there."
            )
        elif sigma[k] > DISAGREE and sigma[k] > GROWN * sigma[0]:
            found.append(
                f"{where} {models[0]} puts its own error at {1000 * sigma[k]:.0f} meV/atom "
                f"({1000 * sigma[0]:.0f} at {at[0]:g} GPa): it was hardly trained there."
            )
    return found
