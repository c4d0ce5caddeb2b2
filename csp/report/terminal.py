"""The ranking as a table for a terminal."""

from __future__ import annotations

from rich.table import Table

from csp.search.prediction import Prediction
from csp.search.ranking_table import RankingTable

__all__ = ["for_terminal", "ranking_table"]


def ranking_table(prediction: Prediction, top: int) -> Table:
    """The first `top` of the ranking for a terminal."""
    return for_terminal(prediction.table(top))


def for_terminal(found: RankingTable) -> Table:
    """The table of a ranking."""
    table = Table(title=found.title, caption=found.caption, header_style="bold")
    for name, left in zip(found.columns, found.left, strict=True):
        table.add_column(name.strip(), justify="left" if left else "right", no_wrap=True)
    for row in found.rows:
        table.add_row(*row)
    return table
