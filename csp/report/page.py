"""The one page of a prediction: self-contained HTML that works offline; nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup

from csp.report.card import Card
from csp.report.doubts import doubts
from csp.report.energy_volume import energy_volume_svg
from csp.report.hull_diagram import hull_svg
from csp.report.phonons import order_with_warmth
from csp.report.record import RunRecord
from csp.report.rounds import rounds_svg
from csp.report.words import (
    TERMS,
    answer,
    decomposition,
    printed_formula,
    printed_formulas,
    printed_space_group,
    type_name,
    wyckoff_summary,
)
from csp.search.prediction import Prediction
from csp.search.ranking_table import to_hull

__all__ = ["FUNNEL", "card_page", "plain_value", "render_page", "render_pressures", "rendered"]

FUNNEL = {
    "proposed": "proposed by the generators",
    "built": "built in the exact composition",
    "plausible": "plausible in distances and volume",
    "unique": "distinct",
    "screened": "screened by energy",
    "labelled": "labelled to learn from",
    "pre_relaxed": "drawn ones, relaxed briefly",
    "relaxed": "relaxed",
    "refined": "relaxed on by the last model",
    "converged": "converged",
    "ranked": "ranked, duplicates merged",
}


def render_page(prediction: Prediction, record: RunRecord, cards: Sequence[Card]) -> str:
    """The page as HTML. Equal predictions and records give equal text: it holds no date, and of the timings
    when the rounds of a deep search were closed.

    Args:
        cards: Of the ranked crystals, in their order.
    """
    return rendered(
        "page.html.jinja",
        cards,
        prediction=prediction,
        target=prediction.target,
        record=record,
        settings={name: plain_value(value) for name, value in record.settings.items()},
        pressed=prediction.target.pressure != 0,
        order="the powder pattern and energy" if prediction.order == "pattern" else prediction.ordered_by,
        decomposition=decomposition(prediction) or "the library's crystals",
        answer=answer(prediction) if prediction.results else (),
        doubts=doubts(prediction, [card.crystal for card in cards]),
        foretold=prediction.results[0].properties if prediction.results else (),
        has_known=any(r.novelty for r in prediction.results),
        has_pattern=any(r.probability_pattern is not None for r in prediction.results),
        has_sigma=any(r.sigma_ev_per_atom is not None for r in prediction.results),
        has_interval=any(r.above_lowest_sigma_ev_per_atom is not None for r in prediction.results),
        funnel=_funnel(prediction.funnel),
        has_phonons=any(r.dynamic_stability for r in prediction.results),
        warmth=order_with_warmth(prediction.results),
        lowest_300k=_lowest(r.free_energy_300k_ev_per_atom for r in prediction.results),
        lowest_1000k=_lowest(r.free_energy_1000k_ev_per_atom for r in prediction.results),
        unranked=sorted(Counter((u.status, u.generator) for u in prediction.unranked).items()),
        figure=energy_volume_svg(prediction) if prediction.results else "",
        hull=_hull(prediction),
        history=prediction.history,
        rounds=rounds_svg(prediction.history, record.timings) if prediction.history else "",
    )


def _hull(prediction: Prediction) -> str:
    """The figure as HTML takes it, "" where there is none."""
    svg = hull_svg(prediction) or ""
    return svg[svg.find("<svg") :] if svg else ""


def render_pressures(told: Mapping[str, Any], figure: str, reports: Sequence[str]) -> str:
    """The page of a formula at several pressures.

    Args:
        told: What `pressures.json` holds.
        figure: Enthalpies over pressure, as SVG.
        reports: At each pressure the address of the prediction's page.
    """
    return rendered("pressures.html.jinja", [], told=told, figure=figure, reports=reports)


def _prose(text: str) -> Markup:
    """A sentence as HTML: formulas as printed, what stands in backticks as code."""
    parts = enumerate(re.split("`([^`]*)`", text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if k % 2 else printed_formulas(part) for k, part in parts
    )


def _lowest(values: Iterable[float | None]) -> float:
    return min((value for value in values if value is not None), default=0.0)


def card_page(card: Card) -> str:
    """A page of one card alone, for notebooks."""
    return rendered("one_card.html.jinja", [card])


def rendered(template: str, cards: Sequence[Card], **values: Any) -> str:
    """A page of this folder's templates, with all that it needs inside it."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "formula": printed_formula,
        "formulas": printed_formulas,
        "prose": _prose,
        "type_name": type_name,
        "space_group": printed_space_group,
        "to_hull": to_hull,
        "wyckoff": wyckoff_summary,
    }
    scripts = [_part("3Dmol-min.js"), _part("page.js")] if cards else []
    return environment.get_template(template).render(
        cards=cards,
        data=[card.data for card in cards],
        terms=TERMS,
        style=_part("page.css"),
        scripts=scripts,
        policy=_policy(scripts),
        **values,
    )


@cache
def _part(name: str) -> str:
    return (resources.files("csp") / "data" / "page" / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy under which the page can run these scripts and load nothing."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _funnel(funnel: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """(stage in words, count, length of its bar in per cent)."""
    largest = max(funnel.values(), default=0) or 1
    return [(FUNNEL.get(name, name), count, 100 * count / largest) for name, count in funnel.items()]


def plain_value(value: Any) -> str:
    """A setting as people read it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
