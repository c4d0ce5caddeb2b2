"""The library of a search that names none: the user's own, or what the Materials Project has for the target.

Asked for are the entries of the target's ratio, which templates come from, and of its chemical system, which
the convex hull is made of; they are kept in the user's cache folder. Where nothing may or can be asked, the
embedded prototypes serve.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from csp.download import offline
from csp.errors import CspError
from csp.files import alone_with, replacing
from csp.library.chosen import chosen
from csp.library.filters import of_ratio, of_system
from csp.library.library import Library
from csp.library.optimade import Client
from csp.library.providers import PROVIDERS, Provider
from csp.library.pulling import Pull, State
from csp.library.schema import library_schema
from csp.target import Target

__all__ = ["Found", "library_for", "reopened"]

BUDGET = 60.0  # s that asking may take
FRESH = 30 * 24 * 3600.0  # s after which the same is asked again
AT_ONCE = 1000  # entries on a page

EMBEDDED = "embedded"

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A library and how it was come by.

    Attributes:
        note: A sentence for people; "" where they named it.
        place: The path of its file, or `EMBEDDED`, by which the same run finds it again (`reopened`); ""
            where people named it.
    """

    library: Library
    note: str = ""
    place: str = ""


def reopened(place: str, note: str) -> Found | None:
    """The library that a run began with, however much more could be had by now; None where it is gone."""
    if place == EMBEDDED:
        return Found(Library.open(), note, place)
    return Found(Library.open(Path(place)), note, place) if place and Path(place).is_file() else None


def library_for(
    target: Target,
    *,
    ask: bool = True,
    provider: Provider = PROVIDERS["mp"],
    budget: float = BUDGET,
    cache: Path | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Found:
    """The user's own library, else what the provider has for the target, else the embedded prototypes.

    Args:
        ask: May the provider be asked? CSP_OFFLINE forbids it too.
        budget: Seconds that asking may take.
        cache: Folder of what was asked before; None: the user's.

    Raises:
        InputError: The user's own library is gone or damaged.
    """
    own = chosen()
    if own is not None:
        return Found(Library.open(own), f"Library: your own, {own}.", str(own))
    known = _Kept.of(target, provider, cache)
    if known.fresh:
        return known.open()
    if not ask or offline():
        if known.file.is_file():
            return known.open()
        return _embedded("nothing may be asked")
    try:
        return known.ask(budget, progress)
    except (CspError, OSError) as error:  # OSError: the cache folder cannot be written
        if known.file.is_file():
            return known.open()
        return _embedded(str(error).rstrip("."))


def _embedded(why: str) -> Found:
    library = Library.open()
    return Found(
        library,
        f"Library: the {len(library):,} embedded AFLOW prototypes alone ({why}); "
        "`csp library pull` gets a database, `csp library use` keeps one.",
        EMBEDDED,
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of a provider's answers to a target: `file` once it is whole."""

    target: Target
    provider: Provider
    file: Path

    @classmethod
    def of(cls, target: Target, provider: Provider, cache: Path | None) -> _Kept:
        from platformdirs import user_cache_path

        what = f"{provider.base_url}\n{_system(target)}\n{of_ratio(target.counts)}"
        name = hashlib.blake2b(what.encode(), digest_size=8).hexdigest()
        folder = (cache or user_cache_path("csp-engine")) / "libraries"
        return cls(target, provider, folder / f"{target.formula}-{name}.parquet")

    @property
    def fresh(self) -> bool:
        return self.file.is_file() and time.time() - self.file.stat().st_mtime < FRESH

    def open(self) -> Found:
        library = Library.open(self.file)
        when = time.strftime("%Y-%m-%d", time.localtime(self.file.stat().st_mtime))
        return Found(
            library,
            f"Library: {len(library):,} entries of the {self.provider.title} as of {when}.",
            str(self.file.absolute()),
        )

    def ask(self, budget: float, progress: Progress) -> Found:
        """Ask for the system, then for the ratio, one process at a time.

        Raises:
            CspError: Nothing came.
        """
        deadline = time.monotonic() + budget
        self.file.parent.mkdir(parents=True, exist_ok=True)
        lock = self.file.with_suffix(".lock")
        lock.touch()
        with alone_with(lock):  # others that want the same wait here
            return self.open() if self.fresh else self._asked(deadline, progress)

    def _asked(self, deadline: float, progress: Progress) -> Found:
        states: list[tuple[Pull, State]] = []
        failure: CspError | None = None
        with Client(self.provider, AT_ONCE, deadline=deadline) as client:
            for what, query in (("system", _system(self.target)), ("ratio", of_ratio(self.target.counts))):
                part = Pull(client, query, self.file.with_name(f".{what}-{self.file.stem}"))
                try:
                    state = part.run(lambda done, total: progress("library", done, total))
                except CspError as error:
                    state, failure = part.state(), error
                states.append((part, state))
                if failure is not None:
                    break
        if not any(state.kept for _, state in states):
            raise failure or CspError(f"The {self.provider.title} has no entry of this ratio or system.")
        whole = failure is None
        # what has not all come is used now and gone on with the next time
        sent = sum(state.sent for _, state in states)
        place = self.file if whole else self.file.with_name(f"{self.file.stem}-part-{sent}.parquet")
        self._write(place, states)
        if whole:
            for part, _ in states:
                part.forget()
            return self.open()
        library = Library.open(place)
        return Found(
            library,
            f"Library: {len(library):,} entries of the {self.provider.title}, not all that it has "
            f"({str(failure).rstrip('.')}); the next search goes on asking.",
            str(place.absolute()),
        )

    def _write(self, place: Path, states: list[tuple[Pull, State]]) -> None:
        """Write each entry once, and with them the size of the whole database, of which these are all that
        concern the target."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        available = max((state.available or 0 for _, state in states), default=0)
        schema = library_schema().with_metadata({"available": str(available), "source": self.provider.title})
        seen: set[str] = set()
        with replacing(place) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for part, state in states:
                for table in part.rows(state):
                    names = table["material_id"].to_pylist()
                    fresh = pa.array([name not in seen for name in names], pa.bool_())
                    seen |= set(names)
                    writer.write_table(table.filter(fresh).replace_schema_metadata(schema.metadata))


def _system(target: Target) -> str:
    from ase.data import chemical_symbols

    return of_system([chemical_symbols[z] for z in target.numbers])
