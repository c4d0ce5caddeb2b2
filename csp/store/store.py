"""Runs, candidates, energies and outcomes in SQL: the one record of a search and the one way to resume.

The unit of work and of resume is the shard. A shard is written in one transaction that begins with
its own row in `shards`; whoever comes second finds that row and writes nothing. So a run killed at
any moment has whole shards only, and workers that take the same shard do no harm. SQLite keeps the
run in its out folder; the same tables live in PostgreSQL when the location is a URL.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql
import torch
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import ContractError, InputError, LabelError, StoreError
from csp.protocols import Evaluation, Label, Proposals, Provenance
from csp.relaxation.relax import RelaxationResult, Status
from csp.store import tables
from csp.store.rows import blobs, column, crystals_of, label_row, vectors, vectors_of

__all__ = ["Candidates", "Store", "Tally"]

PROPOSALS = "proposals"

# -- what is read back ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidates:
    """B built candidates in the order of (generator, index)."""

    ids: list[str]
    crystals: Crystals
    provenance: list[Provenance]


@dataclass(frozen=True, slots=True)
class Tally:
    """What the stored shards of one generator were asked for, and what could not be built, by reason."""

    requested: int
    failed: Counter[str]


# -- the store ------------------------------------------------------------------------------------


class Store:
    """One run in one database.

    A location is a folder, for SQLite in its file `run.sqlite`, or an SQLAlchemy URL. Writers write
    a shard whole or not at all, and a second time change nothing. Readers give float64 tensors on
    the CPU in an order that does not depend on the order of writing. NaN is NULL in SQLite. A
    database that cannot be read or written is a StoreError. A URL's password is never shown.
    """

    def __init__(self, location: Path | str, run: str = "run") -> None:
        """Use `Store.begin` or `Store.open`; this only connects."""
        self.run = run
        self._place = tables.place(location)
        self._engine = tables.connect(location)
        on_sqlite = self._engine.dialect.name == "sqlite"
        self._insert: Any = sqlite.insert if on_sqlite else postgresql.insert

    @classmethod
    def begin(
        cls,
        location: Path | str,
        settings: Mapping[str, Any],
        *,
        formula: str,
        versions: Mapping[str, str],
        resume: bool = False,
        run: str = "run",
    ) -> Store:
        """Start a run, or go on with it if `resume`; resuming what was never started starts it.

        Args:
            location: A folder, for SQLite, or an SQLAlchemy URL.
            settings: JSON values; all that the results depend on.
            formula: Of the target.
            versions: Of Python and the packages.
            resume: Go on with a run that is there.
            run: Name of the run in the database.

        Raises:
            InputError: When the run exists and `resume` is false, or when it was started with other settings,
                naming them.
        """
        if isinstance(location, Path):
            try:
                location.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"The out folder {location} cannot be made: {error.strerror}.") from error
        store = cls(location, run)
        row = {
            "id": run,
            "schema": tables.SCHEMA,
            "formula": formula,
            "settings": dict(settings),
            "versions": dict(versions),
            "created": datetime.now(UTC),
        }
        with store._transaction() as connection:
            tables.create(connection)
            started = store._claim(connection, tables.runs, row)
        if started:
            return store
        with store._transaction() as connection:
            tables.upgrade(connection, run)
        if not resume:
            raise InputError(
                f"{store._place} already holds a run of {store.formula}; "
                "`resume` goes on with it, or choose another `out`."
            )
        differences = _differences(
            {"formula": store.formula, **store.settings},
            {"formula": formula, **json.loads(json.dumps(dict(settings)))},
        )
        if differences:
            raise InputError(
                f"The run in {store._place} was started with other settings: {'; '.join(differences)}."
            )
        return store

    @classmethod
    def open(cls, location: Path | str, run: str = "run") -> Store:
        """A run that exists, to read or extend.

        Raises:
            InputError: Where there is none.
        """
        if isinstance(location, Path) and not (location / tables.FILE).is_file():
            raise InputError(f"{location} does not hold a run.")
        store = cls(location, run)
        with store._transaction() as connection:
            known = sql.inspect(connection).has_table(tables.runs.name)
            if known:
                tables.upgrade(connection, run)
        if not known or not store._run_row:
            raise InputError(f"{store._place} does not hold the run {run!r}.")
        return store

    # -- the run ------------------------------------------------------------------------------------

    @property
    def formula(self) -> str:
        """The run's formula."""
        return str(self._run_row["formula"])

    @property
    def settings(self) -> dict[str, Any]:
        """All that its results depend on."""
        return dict(self._run_row["settings"])

    @property
    def versions(self) -> dict[str, str]:
        """Of Python and the packages that started it."""
        return dict(self._run_row["versions"])

    @property
    def finished(self) -> bool:
        """Did it come to its end?"""
        return self._run_row["finished"] is not None

    def finish(self) -> None:
        """Note that the run came to its end."""
        with self._transaction() as connection:
            statement = sql.update(tables.runs).where(
                tables.runs.c.id == self.run, tables.runs.c.finished.is_(None)
            )
            connection.execute(statement.values(finished=datetime.now(UTC)))

    # -- shards ---------------------------------------------------------------------------------------

    def done(self, stage: str, generator: str = "") -> set[int]:
        """The shards of a stage that are written."""
        query = sql.select(tables.shards.c.shard).where(
            tables.shards.c.stage == stage, tables.shards.c.generator == generator
        )
        return {row["shard"] for row in self._rows(query, tables.shards)}

    def write_proposals(
        self, generator: str, shard: int, proposals: Proposals, stage: str = PROPOSALS
    ) -> None:
        """Candidates as a generator made them, with the count of those it could not build."""
        crystals, provenance = proposals.crystals, proposals.provenance
        if any(p.generator != generator for p in provenance):
            raise ContractError(f"The proposals of {generator!r} carry another generator's name.")
        _same_length(crystals, provenance)
        rows = [
            {"index": p.index, "id": id_, "provenance": p.as_dict(), **geometry}
            for p, id_, geometry in zip(provenance, crystals.ids(), blobs(crystals), strict=True)
        ]
        self._write(
            tables.candidates, stage, shard, rows, generator, proposals.requested, dict(proposals.failed)
        )

    def write_energies(self, stage: str, shard: int, ids: Sequence[str], evaluation: Evaluation) -> None:
        """Energies (and σ) of the crystals with these ids. Forces and stress are not kept."""
        _same_length(ids, evaluation.energy)
        energy = evaluation.energy.tolist()
        sigma = [None] * len(ids) if evaluation.sigma is None else evaluation.sigma.tolist()
        label = label_row(evaluation.label)
        rows = [
            {"id": id_, "position": k, "energy": energy[k], "sigma": sigma[k], **label}
            for k, id_ in enumerate(ids)
        ]
        self._write(tables.energies, stage, shard, rows)

    def write_relaxed(self, stage: str, shard: int, ids: Sequence[str], relaxed: RelaxationResult) -> None:
        """Relaxed crystals; `ids` are those of the starts, each once in a stage."""
        _same_length(ids, relaxed.crystals)
        energy, max_force = relaxed.energy.tolist(), relaxed.max_force.tolist()
        steps, label = relaxed.steps.tolist(), label_row(relaxed.label)
        rows = [
            {
                "id": id_,
                "position": k,
                "status": str(relaxed.status[k]),
                "steps": steps[k],
                "energy": energy[k],
                "max_force": max_force[k],
                **label,
                **geometry,
            }
            for k, (id_, geometry) in enumerate(zip(ids, blobs(relaxed.crystals), strict=True))
        ]
        self._write(tables.outcomes, stage, shard, rows)

    def write_forces(
        self, stage: str, shard: int, crystals: Crystals, evaluation: Evaluation, first: int = 0
    ) -> None:
        """Forces on the atoms of crystals, which have the places from `first` in the stage."""
        assert evaluation.forces is not None
        _same_length(crystals, evaluation.energy)
        label = label_row(evaluation.label)
        rows = [
            {"position": first + k, "forces": forces, **label}
            for k, forces in enumerate(vectors(evaluation.forces, crystals))
        ]
        self._write(tables.forces, stage, shard, rows)

    # -- reading ----------------------------------------------------------------------------------------

    def close(self, stage: str, shard: int) -> None:
        """Note that something is done, by an empty shard."""
        self._write(tables.energies, stage, shard, [])

    def candidates(self, stage: str = PROPOSALS) -> Candidates:
        """All built candidates of a stage."""
        order = (tables.candidates.c.generator, tables.candidates.c.index)
        query = sql.select(tables.candidates).where(tables.candidates.c.stage == stage)
        rows = self._rows(query.order_by(*order), tables.candidates)
        return Candidates(
            [row["id"] for row in rows], crystals_of(rows), [Provenance(**row["provenance"]) for row in rows]
        )

    def tally(self, stage: str = PROPOSALS) -> dict[str, Tally]:
        """What each generator was asked for in a stage and could not build."""
        query = sql.select(tables.shards).where(tables.shards.c.stage == stage)
        tallies: dict[str, Tally] = {}
        for row in self._rows(
            query.order_by(tables.shards.c.generator, tables.shards.c.shard), tables.shards
        ):
            before = tallies.get(row["generator"], Tally(0, Counter()))
            tallies[row["generator"]] = Tally(
                before.requested + row["requested"], before.failed + Counter(row["failed"])
            )
        return tallies

    def failures(self, stage: str) -> Counter[str]:
        """How many relaxations of a stage ended without an energy that means something, by their status."""
        counted = sql.func.count().label("n")
        query = sql.select(tables.outcomes.c.status, counted).where(tables.outcomes.c.stage == stage)
        rows = self._rows(query.group_by(tables.outcomes.c.status), tables.outcomes)
        return Counter({r["status"]: r["n"] for r in rows if not Status(r["status"]).has_energy})

    def count(self, stage: str) -> int:
        """Relaxations of a stage."""
        counted = sql.func.count().label("n")
        query = sql.select(counted).select_from(tables.outcomes).where(tables.outcomes.c.stage == stage)
        return int(self._rows(query, tables.outcomes)[0]["n"])

    def energies(self, stage: str, label: Label) -> tuple[list[str], Evaluation]:
        """Ids and energies of a stage, shard after shard in the order written to each.

        Raises:
            LabelError: If any of them has another label.
        """
        rows = self._stage(tables.energies, stage, label)
        sigma = column(rows, "sigma")
        known = bool(torch.isfinite(sigma).any())
        evaluation = Evaluation(label, column(rows, "energy"), sigma=sigma if known else None)
        return [row["id"] for row in rows], evaluation

    def relaxed(self, stage: str, label: Label) -> tuple[list[str], RelaxationResult]:
        """Ids of the starts, and the relaxed crystals of a stage, in the order of `energies`.

        Raises:
            LabelError: If any of them has another label.
        """
        rows = self._stage(tables.outcomes, stage, label)
        return [row["id"] for row in rows], RelaxationResult(
            crystals_of(rows),
            label,
            column(rows, "energy"),
            column(rows, "max_force"),
            torch.tensor([row["steps"] for row in rows], dtype=torch.int64),
            [Status(row["status"]) for row in rows],
        )

    def forces(self, stage: str, label: Label) -> list[Tensor]:
        """float64 [n, 3], eV/Å, of the crystals of a stage by their places.

        Raises:
            LabelError: If any of them has another label.
        """
        return vectors_of(self._stage(tables.forces, stage, label), "forces")

    # -- inside -------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DatabaseError as error:
            if type(error) not in (DatabaseError, OperationalError):
                raise  # a mistake in the engine, not a trouble of the database
            reason = str(error.orig).strip().splitlines()[0]
            raise StoreError(f"The store in {self._place} cannot be used: {reason}.") from error

    def _write(
        self,
        table: sql.Table,
        stage: str,
        shard: int,
        rows: list[dict[str, Any]],
        generator: str = "",
        requested: int | None = None,
        failed: Mapping[str, int] | None = None,
    ) -> None:
        """A shard and its rows in one transaction; nothing if the shard is there.

        Raises:
            ContractError: If a crystal is already in another shard of the stage, or twice in this one.
        """
        key = dict(zip(tables.SHARD, (self.run, stage, generator, shard), strict=True))
        counts = {"requested": len(rows) if requested is None else requested, "failed": failed or {}}
        try:
            with self._transaction() as connection:
                if self._claim(connection, tables.shards, {**key, **counts}) and rows:
                    connection.execute(sql.insert(table), [{**key, **row} for row in rows])
        except IntegrityError as error:
            raise ContractError(
                f"Shard {shard} of stage {stage!r} is refused, a crystal may be twice in it: {error.orig}."
            ) from error

    def _claim(self, connection: sql.Connection, table: sql.Table, row: Mapping[str, Any]) -> bool:
        """Insert a row if its key is free; whether it was. Waits for another who is about to."""
        key = table.primary_key.columns
        claim = self._insert(table).values(dict(row)).on_conflict_do_nothing().returning(*key)
        return connection.execute(claim).first() is not None

    def _rows(self, query: sql.Select[Any], table: sql.Table) -> Sequence[sql.RowMapping]:
        with self._transaction() as connection:
            return connection.execute(query.where(table.c.run_id == self.run)).mappings().all()

    def _stage(self, table: sql.Table, stage: str, label: Label) -> Sequence[sql.RowMapping]:
        query = sql.select(table).where(table.c.stage == stage)
        rows = self._rows(query.order_by(table.c.shard, table.c.position), table)
        others = {tuple(row[name] for name in Label.__slots__) for row in rows} - {
            tuple(label_row(label).values())
        }
        if others:
            found = ", ".join(sorted(str(Label(*other)) for other in others))
            raise LabelError(f"The energies of stage {stage!r} were asked for as {label} but are {found}.")
        return rows

    @property
    def _run_row(self) -> sql.RowMapping:
        with self._transaction() as connection:
            query = sql.select(tables.runs).where(tables.runs.c.id == self.run)
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise InputError(f"{self._place} does not hold the run {self.run!r}.")
        if row["schema"] != tables.SCHEMA:
            raise InputError(
                f"The run in {self._place} was written by another version of the engine "
                f"(store schema {row['schema']}, this one reads {tables.SCHEMA})."
            )
        return row


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """'name (now x, was y)' for each leaf that differs between two nested settings."""
    found = []
    for name in dict.fromkeys([*before, *now]):
        was, is_ = before.get(name), now.get(name)
        if isinstance(was, Mapping) and isinstance(is_, Mapping):
            found += _differences(was, is_, f"{prefix}{name}.")
        elif was != is_:
            found.append(f"{prefix}{name} (now {is_}, was {was})")
    return found


def _same_length(a: Any, b: Any) -> None:
    if len(a) != len(b):
        raise ContractError(f"{len(a)} and {len(b)} rows cannot be stored side by side.")
