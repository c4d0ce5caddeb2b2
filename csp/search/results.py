"""The rows and the sentences in which a search tells what it concludes."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from csp.crystallography.symmetry import reported_space_groups, space_group_symbol
from csp.crystals import Crystals
from csp.lattice_dynamics.evidence import evidence
from csp.lattice_dynamics.phonons import Phonons
from csp.protocols import Uncertain
from csp.ranking.differences import disagreements
from csp.ranking.hull import Hull
from csp.ranking.known import Told
from csp.ranking.probability import best_first
from csp.relaxation.relax import Status
from csp.search.conclude import Conclusion
from csp.search.losses import fallen_into_holes, lost_in_relaxing, not_built
from csp.search.prediction import Prediction, Result, Unranked, Variant, cif_path
from csp.search.work import Work

__all__ = ["lowest_comes_late", "prediction"]

EARLY = 3  # ranks
RELAXING = ("pre_relax", "relax", "refine", "rattle")  # stages in which a relaxation can fail


def prediction(conclusion: Conclusion) -> Prediction:
    """The ranked crystals, as many as the settings ask for."""
    funnel, ranked = conclusion.funnel, conclusion.ranking.chosen
    probability = conclusion.probability
    order, places = conclusion.ordered
    places = _with_the_lowest(places, funnel.settings.top)
    top = [conclusion.good[k] for k in ranked[places].tolist()]
    hull, of_hull = _hull(conclusion)
    return Prediction(
        target=conclusion.target,
        label=funnel.ranking_model.label if top else None,
        results=_results(conclusion, top, places, probability, hull),
        pattern=conclusion.identified.take(places.tolist()) if conclusion.identified else None,
        phonons=_phonons(conclusion, top),
        crystals=conclusion.relaxed.result.crystals[top],
        funnel=_counts(conclusion),
        models=tuple(dict.fromkeys(model.name for model in (funnel.screening_model, funnel.ranking_model))),
        order=order,
        known_before=conclusion.known.sentence if conclusion.known else "",
        decomposition={} if hull is None else hull.decomposition,
        hull=hull,
        unranked=_unranked(conclusion),
        failed=_failed(conclusion),
        relaxer_why=conclusion.relaxer_why,
        history=None if conclusion.rounds is None else conclusion.rounds.history(),
        warnings=[
            *filter(None, [conclusion.target.formula_note]),
            *_losses(conclusion),
            *funnel.adaptation.notes(funnel.settings.rounds, lambda: funnel.pool),
            *not_built(funnel.store.tally()),
            *of_hull,
            *([] if conclusion.identified is None else conclusion.identified.remarks()),
            *_disagreements(conclusion, places),
            *(lowest_comes_late(places, probability) if order == "probability" else []),
            *_without_phonons(conclusion, top),
        ],
    )


def lowest_comes_late(places: Tensor, probability: Tensor | None) -> list[str]:
    """Why the lowest crystal is not among the first three.

    Args:
        places: Of the ranked crystals by energy, in the order to report; the lowest is among them.
        probability: float64 [R], of the ranked crystals by energy.
    """
    at = int((places == 0).nonzero()[0]) + 1 if len(places) else 1
    if at <= EARLY or probability is None:
        return []
    told = f"The lowest crystal by energy has rank {at}, with a probability of {float(probability[0]):.1%}"
    return [f"{told}: what proposed it holds it for unlikely."]


def _disagreements(conclusion: Conclusion, places: Tensor) -> list[str]:
    """Who orders the first of the ranking otherwise.

    Args:
        places: Of the ranked crystals by energy, in the order to report.
    """
    ours = conclusion.funnel.ranking_model.name
    return [
        f"By {ours} crystal {i + 1} is lower than crystal {j + 1}, by {model.name} it is higher: "
        f"they differ by {1000 * much:.0f} meV/atom."
        for k, model in enumerate(conclusion.others)
        for i, j, much in disagreements(conclusion.per_atom[places], conclusion.by_others[places, k])
    ]


def _phonons(conclusion: Conclusion, rows: list[int]) -> list[Phonons | None]:
    """Those of crystals, by their rows; None of one where they are not known, an empty list where they are
    not asked for."""
    if conclusion.dynamics is None:
        return []
    return [conclusion.dynamics.phonons(conclusion.relaxed.result.crystals[row]) for row in rows]


def _without_phonons(conclusion: Conclusion, rows: list[int]) -> list[str]:
    """Of the first, those that have none."""
    if conclusion.dynamics is None:
        return []
    first = rows[: conclusion.funnel.settings.phonons]
    crystals = conclusion.relaxed.result.crystals[first]
    return [
        f"Crystal {k + 1} has no phonons: {conclusion.dynamics.why_none(crystals[k])}."
        for k, known in enumerate(_phonons(conclusion, first))
        if known is None
    ]


def _counts(conclusion: Conclusion) -> dict[str, int]:
    funnel, (ids, relaxed) = conclusion.funnel, conclusion.symmetric
    further = Counter[str]() if conclusion.rounds is None else conclusion.rounds.counts()
    labels, _ = funnel.adaptation.labels(funnel.settings.rounds)
    first = funnel.screening_model.label
    counts = {
        "proposed": sum(t.requested for t in funnel.store.tally().values()),
        "built": len(funnel.built.ids),
        "plausible": len(funnel.plausible),
        "unique": len(funnel.pool.ids),
        **({"labelled": len(labels)} if funnel.learner else {}),
        "pre_relaxed": len(funnel.store.relaxed("pre_relax", first)[0]),
        "relaxed": len(funnel.store.relaxed("relax", first)[0]),
        **({"refined": len(ids) - further["refined"]} if len(funnel.models) > 1 else {}),
        "converged": sum(status == Status.CONVERGED for status in relaxed.status),
        "ranked": len(conclusion.ranking.chosen),
    }
    return {name: count + further[name] for name, count in counts.items()}


def _losses(conclusion: Conclusion) -> list[str]:
    """Of a search that is done."""
    model = conclusion.funnel.ranking_model.name
    if not conclusion.funnel.store.finished:
        return []
    holes = fallen_into_holes(sum(conclusion.in_holes().values()), conclusion.funnel.models)
    return [*lost_in_relaxing(conclusion.symmetric[1], model), *holes]


def _unranked(conclusion: Conclusion) -> list[Unranked]:
    (ids, relaxed), by_id = conclusion.symmetric, conclusion.by_id
    return [
        Unranked(i, str(status), by_id[i].generator, by_id[i].template_id)
        for i, status in zip(ids, relaxed.status, strict=True)
        if not status.has_energy
    ]


def _hull(conclusion: Conclusion) -> tuple[Hull | None, list[str]]:
    """The hull at the target's composition, if it is asked for and known; notes for people."""
    funnel, references, model = conclusion.funnel, conclusion.references, conclusion.funnel.ranking_model
    if references is None:
        return None, []
    if not Work(funnel.settings, funnel.store).stored("hull", len(references), model):
        return None, ["There is no energy above the hull: its references are not all relaxed yet."]
    ids, relaxed = funnel.store.relaxed("hull", model.label)
    # entries of the target itself, of which the references are but some: none shall be called stabler than
    # what the library holds
    begun, ends = conclusion.symmetric
    own = [k for k in ends.with_energy() if conclusion.by_id[begun[k]].own]
    names = {begun[k]: conclusion.by_id[begun[k]].template_id for k in own}
    both = relaxed.followed_by(ends.take(own))
    return references.hull([*ids, *(begun[k] for k in own)], both, funnel.per_atom(both), model.label, names)


def _results(
    conclusion: Conclusion, top: list[int], places: Tensor, probability: Tensor | None, hull: Hull | None
) -> list[Result]:
    """The rows of the ranking.

    Args:
        top: Rows of all that was relaxed, in the order to report.
        places: Of each in the order by energy.
    """
    relaxed, known, model = conclusion.relaxed, conclusion.known, conclusion.funnel.ranking_model
    energy, per_atom = relaxed.result.energy, conclusion.funnel.per_atom(relaxed.result)
    above_hull = [None if hull is None else float(per_atom[row]) - hull.energy for row in top]
    crystals = relaxed.result.crystals[top]
    ids, numbers = crystals.ids(), reported_space_groups(crystals, conclusion.funnel.settings.symprec)
    sigma = model.sigma(crystals) if isinstance(model, Uncertain) else None
    n_atoms, volumes, masses = crystals.n_atoms.tolist(), crystals.volumes.tolist(), _masses(crystals)
    provenance = [conclusion.by_id[relaxed.candidate[row]] for row in top]
    told = [known.of(crystals[k], provenance[k].template_id) if known else Told() for k in range(len(top))]
    found = conclusion.funnel.times_found()
    if conclusion.rounds is not None:
        found.update(conclusion.rounds.times_found())
    vibrations = evidence(_phonons(conclusion, top), [float(per_atom[row]) for row in top])
    by_probability = None if probability is None else best_first(probability).argsort()
    return [
        Result(
            rank=k + 1,
            id=ids[k],
            file=cif_path(k + 1),
            n_atoms=n_atoms[k],
            spacegroup=space_group_symbol(numbers[k]) if numbers[k] else "",
            spacegroup_number=numbers[k],
            energy_ev_per_atom=float(energy[row]) / n_atoms[k],
            enthalpy_ev_per_atom=float(per_atom[row]),
            sigma_ev_per_atom=_at(sigma, k),
            density=masses[k] / volumes[k],
            volume_per_atom=volumes[k] / n_atoms[k],
            status=str(relaxed.result.status[row]),
            generator=provenance[k].generator,
            template_id=provenance[k].template_id,
            wyckoff=provenance[k].wyckoff,
            n_duplicates=sum(found[i] for i in {relaxed.candidate[other] for other in conclusion.group(row)})
            - 1,
            above_lowest_ev_per_atom=float(per_atom[row] - conclusion.per_atom[0]),
            lowered_ev_per_atom=relaxed.gained[row],
            e_above_hull_ev_per_atom=above,
            stability="" if hull is None or above is None else hull.words(above),
            rank_energy=place + 1,
            rank_probability=None if by_probability is None else int(by_probability[place]) + 1,
            probability=_at(probability, place),
            proposed_by=" ".join(sorted(p.generator for p in conclusion.proposed[place])),
            above_lowest_sigma_ev_per_atom=_at(conclusion.sigma, place),
            known_as=told[k].known_as,
            prototype=told[k].prototype,
            same_type_as=told[k].same_type_as,
            novelty=told[k].novelty if known else "",
            variants=_variants(conclusion, row, numbers[k]),
            led_from=relaxed.led_from[row],
            **vibrations[k],
            **({} if conclusion.identified is None else conclusion.identified.fields(place)),
        )
        for k, (row, place, above) in enumerate(zip(top, places.tolist(), above_hull, strict=True))
    ]


def _at(values: Tensor | None, place: int) -> float | None:
    return None if values is None else float(values[place])


def _variants(conclusion: Conclusion, row: int, number: int) -> tuple[Variant, ...]:
    """Of the duplicates of a ranked crystal the lowest of each other space group."""
    rows = [other for other in conclusion.group(row) if other != row]
    crystals = conclusion.relaxed.result.crystals[rows]
    per_atom = conclusion.funnel.per_atom(conclusion.relaxed.result)
    lowest: dict[int, float] = {}
    for other, found in zip(
        rows, reported_space_groups(crystals, conclusion.funnel.settings.symprec), strict=True
    ):
        above = round(float(per_atom[other] - per_atom[row]), 6)
        lowest[found] = min(above, lowest.get(found, above))
    return tuple(
        Variant(space_group_symbol(found) if found else "", found, above)
        for found, above in sorted(lowest.items(), key=lambda pair: pair[1])
        if found != number
    )


def _failed(conclusion: Conclusion) -> dict[str, dict[str, int]]:
    """Stage → status → relaxations that ended without an energy."""
    found = {stage: conclusion.funnel.store.failures(stage) for stage in RELAXING[:-1]}
    found[RELAXING[-1]] = conclusion.funnel.store.failures(conclusion.rattling)
    for stage, counts in {} if conclusion.rounds is None else conclusion.rounds.failures().items():
        found[stage] += counts
    for stage, n in conclusion.in_holes().items():
        found[stage] += Counter({Status.HOLE: n} if n else {})
    return {stage: dict(sorted(counts.items())) for stage, counts in found.items() if counts}


def _with_the_lowest(places: Tensor, top: int) -> Tensor:
    """The first `top` places, and after them that of the lowest crystal, 0, if it would be left out."""
    first = places[:top]
    return first if not len(places) or bool((first == 0).any()) else torch.cat([first, first.new_zeros(1)])


def _masses(crystals: Crystals) -> list[float]:
    """Mass of each cell in g/cm³ × Å³."""
    from ase.data import atomic_masses

    grams_per_dalton = 1.66053906660  # × 10⁻²⁴, as 1 cm³ is 10²⁴ Å³
    per_atom = torch.as_tensor(atomic_masses)[crystals.numbers] * grams_per_dalton
    return torch.zeros(len(crystals), dtype=torch.float64).index_add(0, crystals.batch, per_atom).tolist()
