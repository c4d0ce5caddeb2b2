"""The ranking as a table for a terminal."""

from __future__ import annotations

from rich.table import Table

from csp.relaxation.relax import Status
from csp.search.prediction import Prediction, Result

__all__ = ["ranking_table"]


def ranking_table(prediction: Prediction, top: int) -> Table:
    """The first `top` of the ranking for a terminal."""
    pressed = prediction.target.pressure != 0
    table = Table(title=f"{prediction.target.formula} · {prediction.label}", header_style="bold")
    symbol = "H" if pressed else "E"
    uncertain = any(result.sigma_ev_per_atom is not None for result in prediction.results[:top])
    spread = ("σ",) if uncertain else ()
    unconverged = any(result.status != Status.CONVERGED for result in prediction.results[:top])
    hull, probable = prediction.has_hull, prediction.has_probability
    told = any(result.novelty for result in prediction.results[:top])
    absolute = not (hull or probable)  # for 80 columns to be enough
    for name in (
        "",
        *(("p %",) if probable else ()),
        f"Δ{symbol} meV/at",
        *(("hull",) if hull else ()),
        *spread,
        *((f"{symbol} eV/at",) if absolute else ()),
        "space group",
        "atoms",
        "Å³/at",
        "from",
        *(("known as",) if told else ()),
        *(("",) if unconverged else ()),
    ):
        left = name in ("space group", "from", "known as")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for result in prediction.results[:top]:
        table.add_row(
            str(result.rank),
            *((_percent(result.probability),) if probable else ()),
            f"{result.above_lowest:.1f}",
            *((_millis(result.e_above_hull_ev_per_atom, 1),) if hull else ()),
            *(_millis(result.sigma_ev_per_atom, 0) for _ in spread),
            *((f"{result.enthalpy_ev_per_atom:.4f}",) if absolute else ()),
            f"{result.spacegroup} {result.spacegroup_number}",
            str(result.n_atoms),
            f"{result.volume_per_atom:.2f}",
            _shortened(result.template_id or result.generator, 11 if told else 15),
            *((_shortened(_known(result), 13),) if told else ()),
            *(("" if result.status == Status.CONVERGED else "*",) if unconverged else ()),
        )
    notes = [prediction.who_did_what] if prediction.models else []
    if probable:
        notes.append("p: of being the ground state")
    notes.append(f"ordered by {prediction.order}")
    if hull:
        notes.append("hull: meV/at above it")
    if unconverged:
        notes.append("* not relaxed to the end")
    table.caption = "; ".join(notes)
    return table


def _millis(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{1000 * value:z.{decimals}f}"


def _percent(probability: float | None) -> str:
    return "" if probability is None else f"{100 * probability:.0f}"


def _known(result: Result) -> str:
    """The first entry that it is, or how new it is."""
    return result.known_as[0].id if result.known_as else result.novelty


def _shortened(name: str, width: int = 15) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
