"""The ranking as a table for a terminal."""

from __future__ import annotations

from rich.table import Table

from csp.search.prediction import Prediction

__all__ = ["ranking_table"]


def ranking_table(prediction: Prediction, top: int) -> Table:
    """The first `top` of the ranking for a terminal."""
    found = prediction.table(top)
    table = Table(title=found.title, caption=found.caption, header_style="bold")
    for name, left in zip(found.columns, found.left, strict=True):
        table.add_column(name.strip(), justify="left" if left else "right", no_wrap=True)
    for row in found.rows:
        table.add_row(*row)
    return table
