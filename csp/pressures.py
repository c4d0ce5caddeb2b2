"""A formula at several pressures: a prediction at each, all crystals relaxed at all, and the transitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystals import Crystals
from csp.device import resolve_device
from csp.engine import NOTHING_GIVEN, Given, predict
from csp.errors import CspError
from csp.matching.matcher import Matcher
from csp.protocols import EnergyModel, Uncertain
from csp.ranking.enthalpies import Enthalpies
from csp.relaxation.relax import GPA, RelaxationResult, Status
from csp.report.pressures import folder_of, write_pressures
from csp.search.dynamics import MOST_STEPS, silent
from csp.search.funnel import Progress
from csp.search.history import Heard
from csp.search.holes import Holes
from csp.search.losses import fallen_into_holes
from csp.search.prediction import Prediction
from csp.search.stages import WHOLE
from csp.search.under_pressure import Phase, UnderPressure
from csp.search.work import Work
from csp.settings import SearchSettings
from csp.store.store import Store
from surrogates.zoo import load_model

__all__ = ["COMPARING", "compare", "predict_at"]

COMPARING = "relaxing all at all pressures"  # what is done after the predictions
TAKEN = 10  # of each prediction, the first
ALIKE = 5e-4  # eV/atom; crystals whose enthalpies differ by less at all pressures are one
PROTOTYPES = "aflow:"  # entries that are examples of a structure, not names that people know
LOW = 0.1  # eV/atom above the lowest; of these the models are compared
DISAGREE = 0.02  # eV/atom
GROWN = 1.5  # times what it is at the lowest pressure

Floats = NDArray[np.float64]


def predict_at(
    at: Sequence[SearchSettings],
    out: Path | None,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = lambda stage, done, total: None,
    heard: Heard = lambda now, before: None,
    given: Given = NOTHING_GIVEN,
    say: Callable[[str], None] = lambda sentence: None,
) -> UnderPressure:
    """Predict at each pressure, each into a folder of its own, compare what was found, and write that too.

    Args:
        at: Settings that differ in their pressures alone, ascending (`SearchSettings.at`).
        out: None: nothing is kept but what is returned.
        resume: Go on with what is in the folders.
        given: As of `csp.engine.predict`.

    Raises:
        CspError: At none of the pressures a crystal could be ranked.
    """
    predictions = []
    for settings in at:
        say(f"At {settings.pressure:g} GPa:")
        predictions.append(
            predict(
                settings,
                settings.target(),
                folder_of(out, settings.pressure) if out else None,
                device=device,
                resume=resume,
                progress=progress,
                heard=heard,
                given=given,
                say=say,
            )
        )
    with nullcontext(out) if out else TemporaryDirectory(prefix="csp-") as folder:
        found = compare(at, predictions, Path(folder), device=device, progress=progress, given=given)
    if out:
        write_pressures(found, out)
    return found


def compare(
    at: Sequence[SearchSettings],
    predictions: Sequence[Prediction],
    out: Path,
    *,
    device: str = "auto",
    progress: Progress = lambda stage, done, total: None,
    given: Given = NOTHING_GIVEN,
    store_url: str | None = None,
) -> UnderPressure:
    """Relax the first crystals of all predictions at all pressures; what is done is kept.

    Args:
        at: Settings of the predictions, by ascending pressure.
        out: Where what is done is kept.
        store_url: Database that keeps it under the path of `out`; none: a file in `out`.

    Raises:
        CspError: None of the predictions ranks a crystal.
    """
    if not any(len(one) for one in predictions):
        raise CspError(f"At none of the pressures a crystal of {predictions[0].target.formula} is ranked.")
    names = predictions[0].models
    models = [given.models.get(name) or load_model(name, resolve_device(device)) for name in names]
    pressures = [settings.pressure for settings in at]
    starts, phases = _distinct(pressures, predictions)
    ids = starts.ids()
    store = Store.begin(
        store_url or out,
        {"label": str(models[-1].label), "max_force": at[0].max_force},
        formula=predictions[0].target.formula,
        versions={},
        resume=True,
        run=str(out) if store_url else "run",
    )
    relaxed, n = list[RelaxationResult](), len(ids)
    for k, settings in enumerate(at):
        work = Work(settings, store)

        def told(done: int, before: int = k * n) -> None:
            progress(COMPARING, before + done, n * len(pressures))

        relaxed.append(_relaxed(work, models[-1], ids, starts, settings.pressure, told))
    progress(COMPARING, n * len(pressures), n * len(pressures))
    relaxed, holes = _without_holes(relaxed, phases, models)
    enthalpies = _enthalpies(pressures, relaxed)
    kept = _apart(enthalpies.enthalpy)
    relaxed = [one.take(kept) for one in relaxed]
    enthalpies = Enthalpies(enthalpies.pressures, enthalpies.enthalpy[kept], enthalpies.volume[kept])
    disagreement, sigma = _doubts(enthalpies, relaxed, models)
    return UnderPressure(
        predictions[0].target.formula,
        list(predictions),
        models[-1].label,
        [phases[k] for k in kept],
        enthalpies,
        relaxed,
        disagreement,
        sigma,
        names,
        [*_warnings(enthalpies, disagreement, sigma, names), *holes],
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


def _without_holes(
    relaxed: Sequence[RelaxationResult], phases: Sequence[Phase], models: Sequence[EnergyModel]
) -> tuple[list[RelaxationResult], list[str]]:
    """The same at each pressure, without energies of what is in a hole of the last model there, and sentences
    that say so; what is known is in none."""
    if len(models) == 1:
        return list(relaxed), []
    holes, known = Holes(models[0]), [k for k, phase in enumerate(phases) if phase.known_as]
    kept = [holes.marked(one, one, known) for one in relaxed]
    n = sum(status == Status.HOLE for one in kept for status in one.status)
    return kept, fallen_into_holes(n, models)


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
