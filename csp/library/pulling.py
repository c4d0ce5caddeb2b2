"""Pulling crystals from an OPTIMADE provider into a library file, and going on where a pull stopped.

Beside the file a folder keeps what has come, a page at a time, each written whole: a kill costs one page.
Once all is there the file is written whole and the folder goes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from csp.errors import CspError, InputError, ProviderError
from csp.files import replacing, write_text
from csp.library.entries import read_entry
from csp.library.merging import copy_rows, mark_duplicates
from csp.library.optimade import Client, Page
from csp.library.rows import Entry, library_rows
from csp.library.schema import library_schema

__all__ = ["MOST", "Pull", "PullReport", "State", "pull"]

MOST = 500_000  # entries of one pull: a library is held in memory
MISCOUNT = 0.02  # of the entries that a server counts; fewer that do not come are said, more are an error

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

Enrich = Callable[[Sequence[Entry]], Sequence[Entry]]
"""Adds to the entries of a page what another interface of the provider knows of them."""


@dataclass(slots=True)
class State:
    """What has come of a question.

    Attributes:
        query, base_url: The question, and who was asked.
        licence: Of the data; "" where it is not known.
        following: Address of the next page; "" before the first.
        pages: That have come.
        sent: Entries on them, each once.
        kept: Of these the crystals.
        skipped: Reason → entries left out for it.
        returned: Entries that the server says it has for the question; None: it does not say.
        available: Entries that it says it has in all.
        complete: Have all pages come?
    """

    query: str
    base_url: str
    licence: str = ""
    following: str = ""
    pages: int = 0
    sent: int = 0
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    returned: int | None = None
    available: int | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class PullReport:
    """What became of a pull.

    Attributes:
        out: The library.
        source: Who was asked.
        licence: Of the data; "" where it is not known.
        pulled: Crystals that came.
        skipped: Reason → entries left out for it.
        entries: Of the library that was written, with those that it had before.
        duplicates: Of them that are a crystal of another source again.
        notes: Sentences for people.
    """

    out: Path
    source: str
    licence: str
    pulled: int
    skipped: dict[str, int]
    entries: int
    duplicates: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        licence = self.licence or "a licence that it does not name: ask there before you pass anything on"
        lines = [
            f"{self.pulled} crystals from {self.source}, under {licence}; {self.entries} are in {self.out}."
        ]
        lines += [f"  {count} left out: {why}" for why, count in sorted(self.skipped.items())]
        if self.duplicates:
            lines.append(f"  {self.duplicates} are crystals that another source has too")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@dataclass(slots=True)
class Pull:
    """One question to a provider and the folder that keeps what has come of it. Fields as in `pull`."""

    client: Client
    query: str
    folder: Path
    licence: str = ""
    most: int = MOST
    enrich: Enrich = list

    def run(self, progress: Progress = lambda done, total: None) -> State:
        """Ask for all pages that are not there yet.

        Raises:
            ProviderError: The server fails for good; what has come is kept.
            InputError: The server has more than `most` entries for the question.
        """
        state = self.state()
        if state.complete:
            return state
        known = set(self._ids(state))
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        if not state.licence:
            state.licence = self.licence or self.client.provider.licence or self.client.licence()
        for page in self.client.pages(self.query, state.following):
            self._check_size(state, page)
            entries = [read_entry(one, self.client.provider, state.licence, today) for one in page.entries]
            fresh = {entry.name: entry for entry in entries if entry.name not in known}
            if page.entries and page.following and not fresh:
                raise ProviderError(f"{self.client.provider.title} sends the same entries again and again.")
            known |= fresh.keys()
            found = library_rows(list(self.enrich(list(fresh.values()))))
            state.pages += 1
            self._write_rows(state.pages, found.rows)
            state.skipped = dict(Counter(state.skipped) + Counter(map(str, found.skipped.values())))
            state.sent += len(fresh)
            state.kept += len(found.rows)
            state.returned, state.available = page.returned, page.available
            state.following = page.following
            state.complete = not page.following
            if state.complete:
                self._check_count(state)
            self._keep(state)
            progress(state.sent, max(state.sent, state.returned or 0))
        return state

    def state(self) -> State:
        """What was kept of the same question, or a fresh start."""
        fresh = State(self.query, self.client.provider.base_url)
        try:
            kept = State(**json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return fresh
        same = (kept.query, kept.base_url) == (fresh.query, fresh.base_url)
        return kept if same and all(path.is_file() for path in self._files(kept)) else fresh

    def rows(self, state: State) -> Iterator[Any]:
        """The tables of all pages that have come."""
        import pyarrow.parquet as pq

        for path in self._files(state):
            yield pq.read_table(path, schema=library_schema())

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_size(self, state: State, page: Page) -> None:
        n = max(page.returned or 0, state.sent + len(page.entries))
        if n > self.most:
            self.forget()
            raise InputError(
                f"{self.client.provider.title} has {n:,} entries for this, more than {self.most:,}; narrow "
                "it with --elements, --ratio, --max-atoms or --filter."
            )

    def _check_count(self, state: State) -> None:
        missing = (state.returned or 0) - state.sent
        if missing > MISCOUNT * (state.returned or 0):
            raise ProviderError(
                f"{self.client.provider.title} counts {state.returned:,} entries and sent {state.sent:,}."
            )

    def _ids(self, state: State) -> Iterator[str]:
        import pyarrow.parquet as pq

        for path in self._files(state):
            yield from pq.read_table(path, columns=["material_id"])["material_id"].to_pylist()

    def _files(self, state: State) -> list[Path]:
        return [self._page_file(k) for k in range(1, state.pages + 1)]

    def _page_file(self, k: int) -> Path:
        return self.folder / f"page-{k:05d}.parquet"

    def _write_rows(self, k: int, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with replacing(self._page_file(k)) as part:
            pq.write_table(pa.Table.from_pylist(rows, schema=library_schema()), part, compression="zstd")

    def _keep(self, state: State) -> None:
        write_text(self.folder / "state.json", json.dumps(asdict(state)))


def pull(
    client: Client,
    query: str,
    out: Path,
    *,
    licence: str = "",
    add: bool = False,
    restart: bool = False,
    most: int = MOST,
    enrich: Enrich = list,
    progress: Progress = lambda done, total: None,
) -> PullReport:
    """Write all crystals of a provider for the question to the library `out`.

    A pull of the same question that stopped goes on.

    Args:
        query: In OPTIMADE's filter language; "" asks for everything.
        licence: Of the data, where the provider does not say it.
        add: Put the crystals to those that `out` has: the same entries are replaced, and those that are
            crystals of another source again are marked.
        restart: Forget what had come.
        most: Entries that are pulled at most.
        enrich: Adds to the entries of each page.

    Raises:
        InputError: `out` is there and `add` is not asked for, or no crystal has come.
        ProviderError: The server fails.
    """
    import pyarrow.parquet as pq

    if out.exists() and not add:
        raise InputError(f"{out} is there already; --add puts more to it, or choose another file.")
    name = hashlib.blake2b(f"{client.provider.base_url}\n{query}".encode(), digest_size=6).hexdigest()
    one = Pull(client, query, out.with_name(f".pull-{name}.{out.name}"), licence, most, enrich)
    if restart:
        one.forget()
    before = one.state().sent
    try:
        state = one.run(progress)
    except CspError as error:
        if isinstance(error, ProviderError) and one.state().pages:
            raise ProviderError(
                f"{error} {one.state().sent:,} entries are kept: the same command goes on with them."
            ) from error
        one.forget()
        raise
    if not state.kept:
        one.forget()
        why = max(state.skipped, key=state.skipped.__getitem__, default="it has none for this question.")
        raise InputError(f"No crystal came from {client.provider.title}: {why}")
    with replacing(out) as part:
        with pq.ParquetWriter(part, library_schema(), compression="zstd") as writer:
            new = set(one._ids(state))
            if out.exists():
                copy_rows(out, writer, new)
            for table in one.rows(state):
                writer.write_table(table)
        duplicates = mark_duplicates(part) if out.exists() else 0
        entries = pq.read_metadata(part).num_rows
    one.forget()
    notes = []
    if before:
        notes.append(f"Went on after {before:,} entries that had come before.")
    if state.returned is not None and state.sent != state.returned:
        notes.append(f"It counts {state.returned:,} entries and sent {state.sent:,}.")
    return PullReport(
        out,
        client.provider.title,
        state.licence,
        state.kept,
        state.skipped,
        entries,
        duplicates,
        tuple(notes),
    )
