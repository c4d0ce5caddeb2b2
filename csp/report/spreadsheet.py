"""Tables as CSV, which spreadsheets open."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["csv_text"]

COMPUTED = ("=", "+", "-", "@", "\t", "\r")  # what begins so in a table (OWASP, "CSV injection")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table with a header. Text that a spreadsheet would compute, as a name may be, becomes text to it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _no_formula(value) for name, value in row.items()})
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(COMPUTED) else value
