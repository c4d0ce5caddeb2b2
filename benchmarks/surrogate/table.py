"""The Markdown table of a surrogate benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.surrogate.summary import BEST

__all__ = ["PUBLISHED_MAE", "table"]

PUBLISHED_MAE = {
    "CGCNN": 31.0,
    "MEGNet": 30.0,
    "ALIGNN": 22.0,
    "Matformer": 21.0,
    "Crystalformer": 18.6,
    "CrystalFramer": 17.2,
}
"""meV/atom on the 4,239 test crystals of the MEGNet split after training on 60,000, as tabulated in
Taniai et al., ICLR 2024 (Crystalformer) and Ito et al., ICLR 2025 (CrystalFramer)."""

ROWS = (
    ("mae_test_mev", "test MAE, meV/atom", 1.0),
    ("mae_test_newcomp_mev", "… new compositions", 1.0),
    ("tau_virtual", "Kendall τ, virtual crystals", 1.0),
    ("tau_virtual_low", "… within 0.3 eV/atom of the best", 1.0),
    (f"best{BEST}_virtual", f"teacher's best in our best {BEST}, %", 100.0),
    ("relax_gap_mev", "relaxation gap, median, meV/atom", 1.0),
    ("relax_match", "… ends that match, %", 100.0),
    ("relax_match_nothing", "… starts that match already, %", 100.0),
    ("relax_50gpa_gap_mev", "… under 50 GPa, median, meV/atom", 1.0),
    ("relax_50gpa_match", "… ends that match, %", 100.0),
    ("crystals_per_s", "crystals of 16 atoms / s", 1.0),
    ("crystals_per_cpu_s", "… / CPU second", 1.0),
    ("crystals_per_s_ratio_to_teacher", "… × the teacher in this run", 1.0),
)

NOTES = (
    "In brackets: 95 % bootstrap intervals over compositions, and the number of crystals, compositions or "
    "starts.",
    "Kendall τ_b and the best crystal are by single points of the teacher, a universal potential, among the "
    "virtual crystals of one composition, averaged over compositions that no model here was trained on.",
    "Gap: teacher's energy of the model's end minus that of its own end, from one start of each composition, "
    "over starts that do not match the teacher's end yet (StructureMatcher 0.1, 0.15, 3°, not scaled); a "
    "relaxation that failed counts as infinite.",
)


def table(summary: dict[str, Any], models: Sequence[str]) -> str:
    """Models beside each other, published errors and circumstances below."""
    lines = ["| | " + " | ".join(models) + " |", "|---|" + "---:|" * len(models)]
    for key, title, factor in ROWS:
        cells = [_cell(summary, f"{key}.{model}", factor) for model in models]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    published = ", ".join(f"{name} {mae:g}" for name, mae in PUBLISHED_MAE.items())
    notes = [
        *NOTES,
        f"Published test MAE after training on 60,000 crystals, meV/atom: {published} (Taniai et al., "
        "ICLR 2024; Ito et al., ICLR 2025). How many ours learned from stands on their cards.",
        f"The teacher is {summary['teacher']}.",
        f"Pool of {summary['pool.compositions']} compositions, {summary['pool.substituted']} substituted "
        f"and {summary['pool.random']} random crystals, seed {summary['seed']}, hash {summary['pool.hash']}; "
        f"{summary['pool.left_out_as_seen']} left out, since a model was trained on them.",
        f"{summary['machine.cpu']}, {summary['machine.threads']} threads, {summary['machine.device']} "
        f"{summary.get('machine.gpu', '')}; torch {summary['machine.torch']}.",
        *_omissions(summary, models),
    ]
    return "\n".join([*lines, "", *(note + "\n" for note in notes)])


def _cell(summary: dict[str, Any], key: str, factor: float) -> str:
    """ "0.712 [0.690, 0.731], 200": value, interval, number; empty where nothing was measured."""
    if key not in summary:
        return ""
    if f"{key}.n" not in summary:
        return _number(summary[key], factor)
    if not summary[f"{key}.n"]:
        return "–"
    value, low, high = (_number(summary[f"{key}{suffix}"], factor) for suffix in ("", ".low", ".high"))
    return f"{value} [{low}, {high}], {summary[f'{key}.n']}"


def _number(value: float | None, factor: float) -> str:
    if value is None:  # a median over failed relaxations
        return "∞"
    return f"{factor * value:,.3g}" if abs(factor * value) < 1000 else f"{factor * value:,.0f}"


def _omissions(summary: dict[str, Any], models: Sequence[str]) -> list[str]:
    """What was left out."""
    reasons = {
        "unsupported_compositions": "compositions left out for elements that {} does not know",
        "unsupported_test": "test crystals left out for elements that {} does not know",
        "relax_failed": "relaxations failed with {}",
        "relax_teacher_failed": "relaxations failed with the teacher, beside {}",
    }
    notes = [
        f"{summary[f'{key}.{model}']} {reason.format(model)}."
        for key, reason in reasons.items()
        for model in models
        if summary.get(f"{key}.{model}")
    ]
    if "tau_virtual.relaxed_only" not in summary:
        notes.append("No network trained on relaxed crystals only was given (`baseline_relaxed`).")
    return notes
