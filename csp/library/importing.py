"""Crystals of one's own as a library: CIFs, extended XYZ, ASE databases and Parquet to Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from csp.errors import CrystalError, InputError
from csp.files import replacing
from csp.library.rows import Entry, library_rows
from csp.library.schema import library_schema
from csp.library.sources import open_source

__all__ = ["ImportReport", "import_structures"]

ROWS_AT_ONCE = 1000
NAMED = 3  # of the crystals left out for a reason, in the printed report

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(slots=True)
class ImportReport:
    """What became of the crystals of a source: each is written or left out for a reason.

    Attributes:
        out: The new library.
        written: Entries in the new library.
        skipped: Name of each crystal that was left out → why.
        reasons: Names of these by what is wrong in a few words.
        other_files: Files of a folder that are no CIFs.
    """

    out: Path
    written: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    other_files: int = 0

    def leave_out(self, name: str, error: InputError) -> None:
        """Note why."""
        self.skipped[name] = str(error)
        kind = error.kind if isinstance(error, CrystalError) else str(error).rstrip(".")
        self.reasons.setdefault(kind, []).append(name)

    def __str__(self) -> str:
        lines = [f"{self.written} crystals written to {self.out}, {len(self.skipped)} left out."]
        for kind, names in sorted(self.reasons.items(), key=lambda reason: -len(reason[1])):
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            first = self.skipped[names[0]].rstrip(".")
            why = "" if first == kind else f" ({names[0]}: {first})"
            lines.append(f"  {len(names)}, {kind}: {', '.join(names[:NAMED])}{more}{why}")
        if self.other_files:
            lines.append(f"  {self.other_files} other files of the folder are no CIFs and were not read")
        return "\n".join(lines)


def import_structures(
    source: Path,
    out: Path,
    *,
    source_name: str,
    licence: str,
    progress: Progress = lambda done, total: None,
) -> ImportReport:
    """Write every ordered, three-dimensionally periodic crystal of `source` to the library `out`.

    What cannot be read is reported and the rest goes on. `out` is written whole or not at all.

    Raises:
        MissingError: There is no `source`.
        InputError: It is of no known kind or holds no crystal.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened = open_source(source)
    report = ImportReport(out, other_files=opened.other_files)
    names: Counter[str] = Counter()
    with replacing(out) as part:
        with pq.ParquetWriter(part, library_schema(), compression="zstd") as writer:

            def write(entries: list[Entry]) -> None:
                found = library_rows(entries)
                for name, why in found.skipped.items():
                    report.leave_out(name, why)
                writer.write_table(pa.Table.from_pylist(found.rows, schema=library_schema()))
                report.written += len(found.rows)

            waiting: list[Entry] = []
            for done, entries in enumerate(opened.entries, 1):
                for entry in entries:
                    names[entry.name] += 1
                    again = f"-{names[entry.name]}" if names[entry.name] > 1 else ""
                    waiting.append(
                        entry._replace(
                            name=entry.name + again,
                            source=entry.source or source_name,
                            licence=entry.licence or licence,
                        )
                    )
                if len(waiting) >= ROWS_AT_ONCE:
                    write(waiting)
                    waiting = []
                progress(done, opened.units)
            write(waiting)
        if not report.written:
            why = next(iter(report.skipped.values()), "it is empty.")
            raise InputError(f"No crystal in {source} can be imported: {why}")
    return report
