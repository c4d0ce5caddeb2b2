"""Tables for a terminal, without frames: 80 columns are enough for their words and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import Box
from rich.table import Table

if TYPE_CHECKING:
    from csp.search.prediction import Prediction

__all__ = ["plain_table", "ranking_table"]

# a line below the heads; called ASCII, or rich would draw frames on a terminal that is
HEAD_LINE = Box("    \n    \n ── \n    \n    \n    \n    \n    \n", ascii=True)


def plain_table(*heads: str, **options: Any) -> Table:
    """A table of rich without frames, its columns two spaces apart."""
    look: dict[str, Any] = {"box": HEAD_LINE, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    return Table(*heads, header_style="bold", **look, **options)


def ranking_table(prediction: Prediction, top: int) -> Table:
    """The first `top` of the ranking for a terminal."""
    found = prediction.table(top)
    table = plain_table(
        title=found.title, caption=found.caption, title_justify="left", caption_justify="left"
    )
    for name, left in zip(found.columns, found.left, strict=True):
        table.add_column(name.strip(), justify="left" if left else "right", no_wrap=True)
    for row in found.rows:
        table.add_row(*row)
    return table
