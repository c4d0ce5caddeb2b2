"""How often a powder pattern tells the right crystal, and how right the probabilities are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.files import begin
from benchmarks.xrd.calibration import PROPOSED, Judged, fit_probability, judge, reliability
from benchmarks.xrd.scans import measure_scans
from benchmarks.xrd.simulated import Case, cases
from csp.diffraction.probability import EVIDENCE
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.library.library import Library

__all__ = ["measure", "summary"]

TARGETS = 200
FEWEST = 4  # cases, for weights to be fitted on half of them


def measure(
    library: Path,
    energies: Path,
    out: Path,
    *,
    scans: Path | None,
    known: Sequence[Path],
    entries: int,
    limit: int | None,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Simulated patterns, and real scans if there is a folder of them.

    Args:
        entries: Only compositions of which the library has so many crystals.

    Writes `cases.jsonl` (after each target), `summary.json`, `pattern_probability.json`, `scans.json` and
    `table.md`.

    Raises:
        InputError: The out folder holds cases of other settings, or too few targets were asked for.
    """
    settings: dict[str, Any] = {
        "seed": seed,
        "entries": entries,
        "library": Library.open(library).fingerprint,
    }
    begin(out, settings)
    done = cases(library, energies, out, limit or TARGETS, entries, seed, say)
    if len(done) < FEWEST:
        raise InputError(f"{len(done)} targets are too few to fit probabilities to.", setting="limit")
    judged = judge(done)
    place = out / "scans.json"
    if scans is not None and not place.is_file():
        write_json(place, measure_scans(scans, [library, *known], say))
    real = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else []
    fitted = fit_probability(done)
    weights = dict(zip(EVIDENCE, (round(w, 3) for w in fitted.weights), strict=True))
    write_json(out / "pattern_probability.json", {"weights": weights, "none": round(fitted.none, 3)})
    found = settings | summary(done, judged, real)
    write_json(out / "summary.json", found)
    write_text(out / "table.md", _table(done, judged, real))
    return found


def summary(
    done: Sequence[Case], judged: Sequence[Judged], scans: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Flat counts.

    `first`: targets whose right crystal is first by probability, in all and of those with each kind of
    sample; `first_or_twin`: behind none but its twins (`Case.twins`); `first_by_misfit`: by the misfit of the
    fit alone. `log_loss`: of the event that happened, nats. `none_*`: with the right crystal left out, how
    often "none of these" is the likeliest, and with it.
    """
    kinds = {
        "all": lambda case: True,
        "pure": lambda case: not case.impurities,
        "impurities_told": lambda case: bool(case.impurities) and case.told,
        "impurities_unknown": lambda case: bool(case.impurities) and not case.told,
        "known_polymorphs": lambda case: case.polymorphs > 0,
    }
    found: dict[str, Any] = {}
    for name, of_kind in kinds.items():
        ranks = [one.rank for case, one in zip(done, judged, strict=True) if of_kind(case)]
        found |= {f"n.{name}": len(ranks), f"first.{name}": sum(rank == 1 for rank in ranks)}
        found[f"first_or_twin.{name}"] = sum(
            one.behind <= set(case.twins) for case, one in zip(done, judged, strict=True) if of_kind(case)
        )
    found["first_by_misfit"] = sum(all(case.misfit[0] < m for m in case.misfit[1:]) for case in done)
    losses = [
        -PROPOSED * np.log(one.with_it[0]) - (1 - PROPOSED) * np.log(1 - one.without_it.sum())
        for one in judged
    ]
    found["log_loss"] = round(float(np.mean(losses)), 4)
    left_out = [bool(1 - j.without_it.sum() > j.without_it.max(initial=0)) for j in judged]
    found["none_when_left_out"] = sum(left_out)
    found["none_when_there"] = sum(bool(1 - j.with_it.sum() > j.with_it.max()) for j in judged)
    found["decoys"] = round(float(np.mean([len(case.misfit) - 1 for case in done])), 1)
    found["seconds_per_target"] = round(float(np.mean([case.seconds for case in done])), 1)
    for way in ("unknown", "told"):
        some = [entry for entry in scans if entry["way"] == way]
        if some:
            found[f"scans.n.{way}"] = len(some)
            found[f"scans.first.{way}"] = sum(entry["rank"] == 1 for entry in some)
    told = [entry for entry in scans if entry["way"] == "told"]
    if told:
        error = np.mean([abs(entry["weight_found"] - entry["weight"]) for entry in told])
        found["scans.weight_error"] = round(float(error), 3)
    return found


def _table(done: Sequence[Case], judged: Sequence[Judged], scans: Sequence[dict[str, Any]]) -> str:
    lines = [
        "## Probabilities",
        "",
        "| of | told, % | true, % | n |",
        "|---|---:|---:|---:|",
        *(
            f"| {row['of']} | {100 * row['told']:.1f} | {100 * row['true']:.1f} | {row['n']} |"
            for row in reliability(judged)
        ),
        "",
        "## Not first",
        "",
        "| formula | rank | behind twins alone | misfit | least of the others | beside it | told | counts |",
        "|---|---:|---|---:|---:|---|---|---:|",
    ]
    for case, one in zip(done, judged, strict=True):
        if one.rank > 1:
            shares = " + ".join(f"{100 * share:.0f} %" for share in case.impurities) or "nothing"
            told = "yes" if case.told else "no"
            behind_twins = "yes" if one.behind <= set(case.twins) else "no"
            lines.append(
                f"| {case.formula} | {one.rank} | {behind_twins} | {case.misfit[0]:.2f} "
                f"| {min(case.misfit[1:]):.2f} | {shares} | {told} | {case.counts:.0f} |"
            )
    if scans:
        lines += [
            "",
            "## Real scans",
            "",
            "| scan | phase | other phase | first | crystals | rank | p, % | misfit | next | weight, % "
            "| found, % |",
            "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {e['scan']} | {e['phase']} | {e['way']} | {e['first']} | {e['crystals']} | {e['rank']} "
            f"| {100 * e['probability']:.0f} | {e['misfit']:.2f} | {e['next_misfit']:.2f} | "
            f"{100 * e['weight']:.0f} | {100 * e['weight_found']:.0f} |"
            for e in scans
        ]
    return "\n".join(lines) + "\n"
