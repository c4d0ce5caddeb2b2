"""The Markdown table of a recovery benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.ground_truth import PUBLISHED_METHODS
from benchmarks.recovery.outcome import Outcome
from benchmarks.recovery.scoring import HIT, RANKS, TOLERANCES, wilson
from benchmarks.recovery.summary import generators_of, published_totals, summarise

__all__ = ["table"]

NOTES = (
    f"Rank: of the truth in the final ranking under StructureMatcher's default tolerances; found means among "
    f"the first {HIT}. Ranks of one generator are among the crystals that its own candidates led to.",
    "ΔE: energy of the lowest crystal minus that of the relaxed truth under the same model; negative where "
    "the model prefers another crystal. Space group: true → found at symprec 0.1 Å. rms is in units of "
    "(V/N)^(1/3), matched at equal volume; V/V₀ is found over true, per atom.",
    "Published marks: report of KAKENHI 20K19866, table 1, which prints Ag5GeSe6 where the authors' "
    "released crystal is Ag8GeS6; its marks sum to 17, 20, 33 and 14 while its last line prints 17, 21, 31 "
    "and 13: the higher of each is quoted.",
)


def table(
    outcomes: Sequence[Outcome],
    settings: dict[str, Any],
    problems: dict[str, str],
    beside: Mapping[str, Sequence[Outcome]] | None = None,
) -> str:
    """The targets in the paper's order, the published marks beside ours, and what they add up to.

    Args:
        beside: Outcomes of other runs by their names, whose ranks stand beside.
    """
    generators, summary = generators_of(outcomes), summarise(outcomes, beside)
    ranks = {name: {o.name: _dash(o.rank) for o in others} for name, others in (beside or {}).items()}
    header = [
        "composition",
        *PUBLISHED_METHODS.values(),
        "rank",
        "by energy",
        *generators,
        *ranks,
        "rank, loose",
        "rms",
        "V/V₀",
        "space group",
        "ΔE meV/atom",
        "lost",
        "s",
    ]
    lines = [_row(header), "|---" * len(header) + "|"]
    lines += [_row(_cells(outcome, generators, list(ranks.values()))) for outcome in outcomes]
    lines += [_row(_totals(summary, outcomes, generators, [*ranks], len(header)))]
    budget = ", ".join(f"{name} {value}" for name, value in settings["budget"].items())
    notes = [
        f"Budget: {budget}. Surrogate: {settings['surrogate']}. Relaxer: {settings['relaxer']}. Library: "
        f"{settings['library'] or 'AFLOW prototypes'}, the target's composition left out. "
        f"Seed {settings['seed']}.",
        *NOTES,
    ]
    notes += [f"Left out: {name}: {why}." for name, why in problems.items()]
    return "\n".join([*lines, "", *_sums(outcomes, summary, [*ranks]), "", *(note + "\n" for note in notes)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(outcome: Outcome, generators: Sequence[str], beside: Sequence[dict[str, str]]) -> list[str]:
    published = [{1: "✓", 0: "·"}.get(outcome.published.get(m, -1), "") for m in PUBLISHED_METHODS]
    seconds = f"{sum(outcome.seconds.values()):.0f}"
    if outcome.score is None:
        blanks = [""] * (len(generators) + len(beside) + 7)
        return [outcome.name, *published, "–", *blanks, f"refused: {outcome.refused}", seconds]
    found, above = outcome.score.default, outcome.best_above_truth
    true, matched = outcome.space_groups_true["0.1"], found.space_groups.get("0.1")
    return [
        outcome.name,
        *published,
        f"**{found.rank}**" if outcome.found else _dash(found.rank),
        _dash(found.rank_energy),
        *(_dash(found.rank_of.get(name)) for name in generators),
        *(of_run.get(outcome.name, "") for of_run in beside),
        _dash(outcome.score.loose.rank),
        "" if found.rms is None else f"{found.rms:.3f}",
        "" if found.volume_ratio is None else f"{found.volume_ratio:.3f}",
        f"{true} → {matched}" if matched is not None else f"{true}",
        "" if above is None else f"{1000 * above:+.1f}",
        str(outcome.miss or "").replace("_", " "),
        seconds,
    ]


def _dash(rank: int | None) -> str:
    return "–" if rank is None else str(rank)


def _totals(
    summary: dict[str, Any],
    outcomes: Sequence[Outcome],
    generators: Sequence[str],
    beside: Sequence[str],
    width: int,
) -> list[str]:
    totals = published_totals(outcomes)
    cells = [
        f"**found of {len(outcomes)}**",
        *(str(totals.get(method, "")) for method in PUBLISHED_METHODS),
        f"**{summary[f'found_at_{HIT}']}**",
        str(summary[f"found_at_{HIT}_by_energy"]),
        *(str(summary[f"found_at_{HIT}.{name}"]) for name in generators),
        *(str(summary[f"beside.{name}.found_at_{HIT}"]) for name in beside),
        str(summary[f"found_at_{HIT}_loose"]),
    ]
    return cells + [""] * (width - len(cells) - 1) + [f"{summary['seconds']:.0f}"]


def _sums(outcomes: Sequence[Outcome], summary: dict[str, Any], beside: Sequence[str]) -> list[str]:
    def share(key: str) -> str:
        n = summary[f"{key.rpartition('.')[0]}.n" if key.startswith("beside.") else "n"]
        low, high = wilson(summary[key], n)
        return f"{summary[key]}/{n} [{100 * low:.0f}–{100 * high:.0f} %]"

    rows = [(f"among the first {k}", f"found_at_{k}", f"found_at_{k}_loose") for k in RANKS]
    rows += [
        (f"among the first {k} by energy", f"found_at_{k}_by_energy", f"found_at_{k}_loose_by_energy")
        for k in RANKS
    ]
    rows += [(f"proposed by {g}", f"proposed.{g}", f"proposed_loose.{g}") for g in generators_of(outcomes)]
    rows += [
        ("proposed", "proposed.any", "proposed_loose.any"),
        ("chosen for relaxation", "screened.any", "screened_loose.any"),
        ("relaxed to", "relaxed.any", "relaxed_loose.any"),
    ]
    rows += [
        (f"{name}, among the first {k}", f"beside.{name}.found_at_{k}", "") for name in beside for k in RANKS
    ]
    lines = [_row(["truth", "default tolerances [95 %]", "loose"]), "|---|---|---|"]
    lines += [_row([name, share(key), share(loose) if loose else ""]) for name, key, loose in rows]
    lines += [
        _row(
            [
                "matches of a random plausible crystal",
                *(
                    f"{100 * summary[f'chance.{t}']:.2g} %, any for {summary[f'chance.{t}.targets']}"
                    for t in TOLERANCES
                ),
            ]
        )
    ]
    leaks = {k.removeprefix("leak."): v for k, v in summary.items() if k.startswith("leak.") and v}
    misses = {k.removeprefix("misses."): v for k, v in summary.items() if k.startswith("misses.") and v}
    return [
        *lines,
        "",
        "Lost: " + (", ".join(f"{v} {k.replace('_', ' ')}" for k, v in misses.items()) or "none") + ".",
        "",
        "Compositions in a model's training data: "
        + (", ".join(f"{k.replace('.', ' ')} {v}" for k, v in leaks.items()) or "none searched")
        + "; found by models that have seen none of them: "
        + ", ".join(
            f"{summary[f'{of_run}found_at_{HIT}_clean']} of {summary[f'{of_run}n_clean']}{name}"
            for of_run, name in (("", ""), *((f"beside.{name}.", f" ({name})") for name in beside))
        )
        + ".",
    ]
