"""The ranking as a small table: what its columns are, and what stands in them.

The terminal, the notebook and `repr` show the same table.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from csp.relaxation.relax import Status
from csp.search.result import Result

__all__ = ["RankingTable", "ranking_table"]

STYLE = "border-collapse: collapse; font-variant-numeric: tabular-nums"


@dataclass(frozen=True, slots=True)
class RankingTable:
    """A table of text.

    Attributes:
        left: Of each column, whether it is of words, which stand to the left, not of numbers.
        more: How many crystals of the ranking are not shown.
    """

    title: str
    columns: tuple[str, ...]
    left: tuple[bool, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...]
    more: int = 0

    @property
    def caption(self) -> str:
        return "; ".join(self.notes)

    def text(self) -> str:
        """For a terminal, without colours: lines of equal width but for the last column."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if left else cell.rjust(width)
                for cell, width, left in zip(row, widths, self.left, strict=True)
            ).rstrip()
            for row in (self.columns, *self.rows)
        ]
        return "\n".join([self.title, *(lines if self.rows else []), *self._last()])

    def html(self) -> str:
        """For a notebook: one table, everything in it escaped."""
        cells = [f'<tr style="border-top: 1px solid #ddd">{self._cells("td", row)}</tr>' for row in self.rows]
        return "\n".join(
            [
                "<div>",
                f"<p><strong>{html.escape(self.title)}</strong></p>",
                f'<table style="{STYLE}">',
                f"<thead><tr>{self._cells('th', self.columns)}</tr></thead>" if self.rows else "",
                "<tbody>",
                *cells,
                "</tbody>",
                "</table>",
                *(f"<p><small>{html.escape(line)}</small></p>" for line in self._last()),
                "</div>",
            ]
        )

    def _cells(self, tag: str, row: tuple[str, ...]) -> str:
        sides = ("left" if left else "right" for left in self.left)
        return "".join(
            f'<{tag} style="text-align: {side}; padding: .2em .6em">{html.escape(cell)}</{tag}>'
            for cell, side in zip(row, sides, strict=True)
        )

    def _last(self) -> list[str]:
        more = [f"… and {self.more} more"] if self.more else []
        return [*more, *([self.caption] if self.caption else [])]


def ranking_table(
    results: Sequence[Result], top: int, *, title: str, pressed: bool, order: str, notes: Sequence[str] = ()
) -> RankingTable:
    """The first `top` of a ranking, in at most 80 columns of text.

    Args:
        pressed: Under pressure, which ranks by enthalpies.
        order: What the ranks are by.
        notes: What stands below the table, before what explains it.
    """
    shown = results[:top]
    symbol = "H" if pressed else "E"
    uncertain = any(result.sigma_ev_per_atom is not None for result in shown)
    sure = any(result.above_lowest_sigma_ev_per_atom is not None for result in shown)
    unconverged = any(result.status != Status.CONVERGED for result in shown)
    hull = any(result.e_above_hull_ev_per_atom is not None for result in results)
    probable = any(result.probability is not None for result in results)
    none = 1.0 - sum(result.probability or 0.0 for result in results)
    told = any(result.novelty for result in shown)
    columns = {
        "": [str(r.rank) for r in shown],
        "p %": [_percent(r.probability) for r in shown] if probable else None,
        f"Δ{symbol} meV/at": [f"{r.above_lowest:.1f}" for r in shown],
        "±": [_millis(r.above_lowest_sigma_ev_per_atom, 0) for r in shown] if sure else None,
        "hull": [_to_hull(r.e_above_hull_ev_per_atom) for r in shown] if hull else None,
        "σ": [_millis(r.sigma_ev_per_atom, 0) for r in shown] if uncertain else None,
        f"{symbol} eV/at": None if hull or probable else [f"{r.enthalpy_ev_per_atom:.4f}" for r in shown],
        "space group": [f"{r.spacegroup} {r.spacegroup_number}" for r in shown],
        "atoms": [str(r.n_atoms) for r in shown],
        "Å³/at": [f"{r.volume_per_atom:.2f}" for r in shown],
        "from": None if told else [_shortened(r.template_id or r.generator) for r in shown],
        "known as": [_shortened(_known(r)) for r in shown] if told else None,
        " ": ["" if r.status == Status.CONVERGED else "*" for r in shown] if unconverged else None,
    }
    present = {name: cells for name, cells in columns.items() if cells is not None}
    explained = [
        *(
            [f"p: of being the lowest-energy one known, {_percent(none)} % that none of these is"]
            if probable
            else []
        ),
        *([f"ordered by {order}"] if shown else []),
        *(["±: 68 %"] if sure else []),
        *(["hull: meV/at above that of what the library holds"] if hull else []),
        *(["* not relaxed to the end"] if unconverged else []),
    ]
    return RankingTable(
        title=title,
        columns=tuple(present),
        left=tuple(name in ("space group", "from", "known as") for name in present),
        rows=list(zip(*present.values(), strict=True)),
        notes=(*notes, *explained),
        more=len(results) - len(shown),
    )


def _millis(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{1000 * value:z.{decimals}f}"


def _to_hull(above: float | None) -> str:
    """Nothing but words tells that a crystal is below the hull: the library may lack a phase."""
    text = _millis(above, 1)
    return f"{text[1:]} below" if text.startswith("-") else text


def _percent(probability: float | None) -> str:
    return "" if probability is None else f"{100 * probability:.0f}"


def _known(result: Result) -> str:
    """The first entry that it is, or how new it is."""
    return result.known_as[0].id if result.known_as else result.novelty


def _shortened(name: str, width: int = 15) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"
