"""From what a search has stored to its prediction: distinct crystals, ranked, and what is known of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from csp.crystallography.symmetry import reported_space_groups, space_group_symbol
from csp.crystals import Crystals
from csp.errors import ContractError
from csp.protocols import EnergyModel, Provenance, Uncertain
from csp.ranking.differences import DifferenceErrors, disagreements
from csp.ranking.hull import Hull
from csp.ranking.known import KnownCrystals, Told
from csp.ranking.probability import AnswerProbability, best_first, features, scores
from csp.ranking.rank import Ranking
from csp.ranking.references import References
from csp.relaxation.rattle import drop_unimproved, gain
from csp.relaxation.relax import RelaxationResult, Status
from csp.search.funnel import Funnel
from csp.search.pool import merge_provenance
from csp.search.prediction import Prediction, Result, Unranked, Variant, cif_path
from csp.target import Target

__all__ = ["Conclusion", "SearchFeatures", "comparing_stage"]

RELAXING = ("pre_relax", "relax", "refine", "rattle")  # stages in which a relaxation can fail


def comparing_stage(model: EnergyModel) -> str:
    """The name in the store of what another model says of the ranked crystals."""
    return f"compare {model.name}"


@dataclass(frozen=True, slots=True)
class _Relaxed:
    """All that the last model relaxed, rattled crystals after the others.

    Attributes:
        candidate: Of each the id of what was proposed.
        gained: eV/atom that rattling gained for the crystal that each was or comes from; None: not rattled.
    """

    result: RelaxationResult
    candidate: list[str]
    gained: list[float | None]


@dataclass(frozen=True, slots=True, eq=False)
class SearchFeatures:
    """The R distinct crystals of a search, lowest first, and the features by which it may recognise the
    ground truth.

    Attributes:
        crystals: As relaxed.
        per_atom: float64 [R], energy (enthalpy), eV/atom.
        ln_p: float64 [R, 3], see `csp.ranking.probability.scores`.
        duplicates: int64 [R], further candidates that relaxed to the same crystal.
    """

    crystals: Crystals
    per_atom: Tensor
    ln_p: Tensor
    duplicates: Tensor


@dataclass(frozen=True)
class Conclusion:
    """What a search concludes from what its store holds, all of it or the part that is done.

    Attributes:
        target: What was asked for.
        funnel: Who passes each stage.
        references: What energies above the hull are counted from; None: there are none.
        answer_probability: Gives probabilities; None: only energies rank.
        relaxer_why: Why the last model is that one, a clause for people.
        second: Gives a second opinion on the energies; None: there is none.
        difference_errors: How sure energy differences are, by the models of `others`; None: it is not known.
    """

    target: Target
    funnel: Funnel
    references: References | None = None
    answer_probability: AnswerProbability | None = None
    relaxer_why: str = ""
    second: EnergyModel | None = None
    difference_errors: DifferenceErrors | None = None
    known: KnownCrystals | None = None

    def prediction(self) -> Prediction:
        """The ranked crystals, as many as the settings ask for."""
        funnel, ranked = self.funnel, self._ranking.chosen
        probability = self._probability
        by = probability if funnel.settings.order == "probability" else None
        places = torch.arange(len(ranked)) if by is None else best_first(by)
        places = _with_the_lowest(places, funnel.settings.top)
        top = [self._good[k] for k in ranked[places].tolist()]
        hull, of_hull = self._hull()
        return Prediction(
            target=self.target,
            label=funnel.ranking_model.label if top else None,
            results=self._results(top, places, probability, hull),
            crystals=self._relaxed.result.crystals[top],
            funnel=self._counts(),
            models=tuple(
                dict.fromkeys(model.name for model in (funnel.screening_model, funnel.ranking_model))
            ),
            order="energy" if by is None else "probability",
            known_before=self.known.sentence if self.known else "",
            decomposition={} if hull is None else hull.decomposition,
            hull=hull,
            unranked=self._unranked(),
            failed=self._failed,
            relaxer_why=self.relaxer_why,
            warnings=[
                *filter(None, [self.target.formula_note]),
                *self._losses(),
                *funnel.adaptation.notes(funnel.settings.rounds, lambda: funnel.pool),
                *(
                    _shortfall(name, t.requested, reason, count)
                    for name, t in funnel.store.tally().items()
                    for reason, count in sorted(t.failed.items())
                ),
                *of_hull,
                *self._disagreements(places),
            ],
        )

    @cached_property
    def others(self) -> list[EnergyModel]:
        """The models beside the one that ranks: the surrogate, and who gives a second opinion."""
        funnel = self.funnel
        first = [funnel.screening_model] if len(funnel.models) > 1 else []
        return [*first, *([self.second] if self.second else [])]

    @property
    def ranked_crystals(self) -> Crystals:
        """The R distinct crystals, lowest first."""
        return self._relaxed.result.crystals[[self._good[k] for k in self._ranking.chosen.tolist()]]

    def features(self) -> SearchFeatures:
        """The distinct crystals and their features."""
        return SearchFeatures(
            self.ranked_crystals,
            self._per_atom,
            scores(self._proposed),
            self._ranking.n_duplicates,
        )

    # -- what is ranked ---------------------------------------------------------------------------

    @cached_property
    def _symmetric(self) -> tuple[list[str], RelaxationResult]:
        """The ids of what was proposed, and what it relaxed to keeping symmetry."""
        return self.funnel.relaxed()

    @cached_property
    def _relaxed(self) -> _Relaxed:
        ids, relaxed = self._symmetric
        store, settings = self.funnel.store, self.funnel.settings
        # from the store a part of the rattled ones looks like the whole
        if not store.finished or not settings.rattled:
            return _Relaxed(relaxed, ids, [None] * len(ids))
        starts = self.funnel.rattle_starts(relaxed)
        start_ids, freed = store.relaxed("rattle", self.funnel.ranking_model.label)
        if starts.crystals.ids() != start_ids:
            raise ContractError("The stored run was rattled by another version of the engine; run it anew.")
        parent = [*range(len(ids)), *starts.parent]
        both = relaxed.followed_by(freed)
        per_atom = self.funnel.per_atom(both)
        gained = gain(per_atom, parent, len(ids))
        kept = drop_unimproved(per_atom, parent, len(ids))
        return _Relaxed(
            both.take(kept), [ids[parent[k]] for k in kept], [gained.get(parent[k]) for k in kept]
        )

    @cached_property
    def _ranked(self) -> tuple[list[int], Ranking]:
        return self.funnel.ranked(self._relaxed.result)

    @property
    def _good(self) -> list[int]:
        """The places of those that have an energy."""
        return self._ranked[0]

    @property
    def _ranking(self) -> Ranking:
        """Of `_good`."""
        return self._ranked[1]

    @cached_property
    def _probability(self) -> Tensor | None:
        """float64 [R]: of each ranked crystal, lowest first, to be the ground truth; None if not known."""
        if self.answer_probability is None:
            return None
        return self.answer_probability.probabilities(features(self._per_atom, scores(self._proposed)))

    @cached_property
    def _proposed(self) -> list[tuple[Provenance, ...]]:
        """Where each ranked crystal and its duplicates come from, lowest first."""
        starts = self.funnel.starts
        known = dict(zip(starts.ids, starts.provenance, strict=True))
        of_good = [known[self._relaxed.candidate[k]] for k in self._good]
        proposed = merge_provenance(self._ranking.stands_for.tolist(), of_good)
        return [proposed[k] for k in self._ranking.chosen.tolist()]

    @cached_property
    def _per_atom(self) -> Tensor:
        """float64 [R], eV, of the ranked crystals, lowest first."""
        return self.funnel.per_atom(self._relaxed.result)[self._good][self._ranking.chosen]

    @cached_property
    def _by_others(self) -> Tensor:
        """float64 [R, M], eV/atom above the lowest crystal's, of the ranked crystals, lowest first, by the
        other models; NaN where one has not been asked."""
        crystals, store = self.ranked_crystals, self.funnel.store
        columns = []
        for model in self.others:
            ids, found = store.energies(comparing_stage(model), model.label)
            per_atom = self.funnel.enthalpies(crystals.ids(), crystals, ids, found.energy)
            columns.append(torch.tensor(per_atom, dtype=torch.float64))
        by = torch.stack(columns, 1) if columns else torch.zeros(len(crystals), 0, dtype=torch.float64)
        return by - by[:1]

    @cached_property
    def _sigma(self) -> Tensor | None:
        """float64 [R], eV/atom: of how far each ranked crystal, lowest first, is above the lowest."""
        known = bool(torch.isfinite(self._by_others).all()) and len(self._per_atom) > 0
        if self.difference_errors is None or not known:
            return None
        return self.difference_errors.intervals(self._per_atom - self._per_atom[0], self._by_others)

    def _disagreements(self, places: Tensor) -> list[str]:
        """Who orders the first of the ranking otherwise.

        Args:
            places: Of the ranked crystals by energy, in the order to report.
        """
        ours = self.funnel.ranking_model.name
        return [
            f"By {ours} crystal {i + 1} is lower than crystal {j + 1}, by {model.name} it is higher: "
            f"they differ by {1000 * much:.0f} meV/atom."
            for k, model in enumerate(self.others)
            for i, j, much in disagreements(self._per_atom[places], self._by_others[places, k])
        ]

    # -- what is reported -----------------------------------------------------------------------------

    def _counts(self) -> dict[str, int]:
        funnel, (ids, relaxed) = self.funnel, self._symmetric
        labels, _ = funnel.adaptation.labels(funnel.settings.rounds)
        first = funnel.screening_model.label
        return {
            "proposed": sum(t.requested for t in funnel.store.tally().values()),
            "built": len(funnel.built.ids),
            "plausible": len(funnel.plausible),
            "unique": len(funnel.pool.ids),
            **({"labelled": len(labels)} if funnel.learner else {}),
            "pre_relaxed": len(funnel.store.relaxed("pre_relax", first)[0]),
            "relaxed": len(funnel.store.relaxed("relax", first)[0]),
            **({"refined": len(ids)} if len(funnel.models) > 1 else {}),
            "converged": sum(status == Status.CONVERGED for status in relaxed.status),
            "ranked": len(self._ranking.chosen),
        }

    @cached_property
    def _failed(self) -> dict[str, dict[str, int]]:
        """Stage → status → relaxations that ended without an energy."""
        found = {stage: self.funnel.store.failures(stage) for stage in RELAXING}
        return {stage: dict(sorted(counts.items())) for stage, counts in found.items() if counts}

    def _losses(self) -> list[str]:
        """Why there is little or nothing to rank, where a search is done and most relaxations by the last
        model failed."""
        if not self.funnel.store.finished:
            return []
        ids, relaxed = self._symmetric
        good = len(relaxed.with_energy())
        if 2 * good > len(ids):
            return []
        why = Counter(str(status) for status in relaxed.status if not status.has_energy)
        counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in why.most_common())
        model = self.funnel.ranking_model.name
        if not ids:
            return [f"Nothing could be ranked: no candidate was left for {model} to relax."]
        start = f"Of {len(ids)} crystals that {model} relaxed {good or 'none'} can be ranked"
        return [f"{start} ({counts}); it may not be fit for this composition or pressure."]

    def _unranked(self) -> list[Unranked]:
        (ids, relaxed), by_id = self._symmetric, self._by_id
        return [
            Unranked(i, str(status), by_id[i].generator, by_id[i].template_id)
            for i, status in zip(ids, relaxed.status, strict=True)
            if not status.has_energy
        ]

    @cached_property
    def _by_id(self) -> dict[str, Provenance]:
        built = self.funnel.built
        return dict(zip(built.ids, built.provenance, strict=True))

    def _hull(self) -> tuple[Hull | None, list[str]]:
        """The hull at the target's composition, if it is asked for and known; notes for people."""
        funnel, references, model = self.funnel, self.references, self.funnel.ranking_model
        if references is None:
            return None, []
        if not funnel.stored("hull", len(references), model):
            return None, ["There is no energy above the hull: its references are not all relaxed yet."]
        ids, relaxed = funnel.store.relaxed("hull", model.label)
        return references.hull(ids, relaxed, funnel.per_atom(relaxed), model.label)

    def _results(
        self, top: list[int], places: Tensor, probability: Tensor | None, hull: Hull | None
    ) -> list[Result]:
        """The rows of the ranking.

        Args:
            top: Rows of all that was relaxed, in the order to report.
            places: Of each in the order by energy.
        """
        relaxed, model = self._relaxed, self.funnel.ranking_model
        energy, per_atom = relaxed.result.energy, self.funnel.per_atom(relaxed.result)
        above_hull = [None if hull is None else float(per_atom[row]) - hull.energy for row in top]
        crystals = relaxed.result.crystals[top]
        ids, numbers = crystals.ids(), reported_space_groups(crystals, self.funnel.settings.symprec)
        sigma = model.sigma(crystals) if isinstance(model, Uncertain) else None
        n_atoms, volumes, masses = crystals.n_atoms.tolist(), crystals.volumes.tolist(), _masses(crystals)
        provenance = [self._by_id[relaxed.candidate[row]] for row in top]
        told = [
            self.known.of(crystals[k], numbers[k], provenance[k].template_id) if self.known else Told()
            for k in range(len(top))
        ]
        found = self.funnel.times_found()
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
                sigma_ev_per_atom=None if sigma is None else float(sigma[k]),
                density=masses[k] / volumes[k],
                volume_per_atom=volumes[k] / n_atoms[k],
                status=str(relaxed.result.status[row]),
                generator=provenance[k].generator,
                template_id=provenance[k].template_id,
                wyckoff=provenance[k].wyckoff,
                n_duplicates=sum(found[i] for i in {relaxed.candidate[other] for other in self._group(row)})
                - 1,
                above_lowest_ev_per_atom=float(per_atom[row] - self._per_atom[0]),
                lowered_ev_per_atom=relaxed.gained[row],
                e_above_hull_ev_per_atom=above,
                stability="" if hull is None or above is None else hull.words(above),
                rank_energy=place + 1,
                rank_probability=None if by_probability is None else int(by_probability[place]) + 1,
                probability=None if probability is None else float(probability[place]),
                proposed_by=" ".join(sorted(p.generator for p in self._proposed[place])),
                above_lowest_sigma_ev_per_atom=None if self._sigma is None else float(self._sigma[place]),
                known_as=told[k].known_as,
                prototype=told[k].prototype,
                same_type_as=told[k].same_type_as,
                novelty=told[k].novelty if self.known else "",
                variants=self._variants(row, numbers[k]),
            )
            for k, (row, place, above) in enumerate(zip(top, places.tolist(), above_hull, strict=True))
        ]

    def _group(self, row: int) -> list[int]:
        """The rows of all that a ranked crystal stands for, itself included."""
        members = (self._ranking.stands_for == self._good.index(row)).nonzero().flatten().tolist()
        return [self._good[k] for k in members]

    def _variants(self, row: int, number: int) -> tuple[Variant, ...]:
        """Of the duplicates of a ranked crystal the lowest of each other space group."""
        rows = [other for other in self._group(row) if other != row]
        crystals = self._relaxed.result.crystals[rows]
        per_atom = self.funnel.per_atom(self._relaxed.result)
        lowest: dict[int, float] = {}
        for other, found in zip(
            rows, reported_space_groups(crystals, self.funnel.settings.symprec), strict=True
        ):
            above = round(float(per_atom[other] - per_atom[row]), 6)
            lowest[found] = min(above, lowest.get(found, above))
        return tuple(
            Variant(space_group_symbol(found) if found else "", found, above)
            for found, above in sorted(lowest.items(), key=lambda pair: pair[1])
            if found != number
        )


def _with_the_lowest(places: Tensor, top: int) -> Tensor:
    """The first `top` places, and after them that of the lowest crystal, 0, if it would be left out."""
    first = places[:top]
    return first if not len(places) or bool((first == 0).any()) else torch.cat([first, first.new_zeros(1)])


def _shortfall(generator: str, requested: int, reason: str, count: int) -> str:
    if reason == "exhausted":
        return f"{generator} had {requested - count} candidates for this formula, {requested} were asked for."
    return f"{generator}: {count} of {requested} candidates could not be built ({reason})."


def _masses(crystals: Crystals) -> list[float]:
    """Mass of each cell in g/cm³ × Å³."""
    from ase.data import atomic_masses

    grams_per_dalton = 1.66053906660  # × 10⁻²⁴, as 1 cm³ is 10²⁴ Å³
    per_atom = torch.as_tensor(atomic_masses)[crystals.numbers] * grams_per_dalton
    return torch.zeros(len(crystals), dtype=torch.float64).index_add(0, crystals.batch, per_atom).tolist()
