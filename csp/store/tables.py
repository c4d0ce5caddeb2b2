"""The tables of the store, and the way to the database that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sql

from csp.errors import MissingError
from csp.protocols import Label

__all__ = [
    "FILE",
    "SCHEMA",
    "SHARD",
    "candidates",
    "connect",
    "create",
    "energies",
    "forces",
    "outcomes",
    "place",
    "runs",
    "shards",
    "upgrade",
]

FILE = "run.sqlite"
SCHEMA = 2
RENAMED_STAGES = {"improve": "pre_relax", "judge": "rescore", "finish": "refine"}  # of schema 1
RENAMED_SETTINGS = {"finished": "refined"}
BUSY_TIMEOUT = 60.0  # seconds that a writer waits for another
CREATION = 0x637370  # number of the lock under which PostgreSQL's tables are made


metadata = sql.MetaData()
_JSON = sql.JSON(none_as_null=True)

runs = sql.Table(
    "runs",
    metadata,
    sql.Column("id", sql.String, primary_key=True),
    sql.Column("schema", sql.Integer, nullable=False),
    sql.Column("formula", sql.String, nullable=False, index=True),
    sql.Column("settings", _JSON, nullable=False),
    sql.Column("versions", _JSON, nullable=False),
    sql.Column("created", sql.DateTime(timezone=True), nullable=False),
    sql.Column("finished", sql.DateTime(timezone=True)),
)

SHARD = ("run_id", "stage", "generator", "shard")

shards = sql.Table(
    "shards",
    metadata,
    sql.Column("run_id", sql.ForeignKey(runs.c.id), primary_key=True),
    sql.Column("stage", sql.String, primary_key=True),
    sql.Column("generator", sql.String, primary_key=True),  # "" where crystals of all are together
    sql.Column("shard", sql.Integer, primary_key=True),
    sql.Column("requested", sql.Integer, nullable=False),
    sql.Column("failed", _JSON, nullable=False),  # reason → count
)


def _of_shard(*key: str) -> list[sql.schema.SchemaItem]:
    """The columns that name the shard that a row was made in; those named in `key` join its primary key."""
    kinds = (sql.String, sql.String, sql.String, sql.Integer)
    columns: list[sql.schema.SchemaItem] = [
        sql.Column(name, kind, primary_key=name in key, nullable=False)
        for name, kind in zip(SHARD, kinds, strict=True)
    ]
    return [*columns, sql.ForeignKeyConstraint(SHARD, [shards.c[name] for name in SHARD])]


def _geometry() -> list[sql.schema.SchemaItem]:
    """A crystal, exactly: little-endian float64 [3, 3] and [n, 3], uint8 [n]."""
    return [sql.Column(name, sql.LargeBinary, nullable=False) for name in ("cell", "frac", "numbers")]


def _label() -> list[sql.schema.SchemaItem]:
    return [sql.Column(name, sql.String, nullable=False) for name in Label.__slots__]


# The same crystal proposed twice is two rows with one id: the funnel counts both.
candidates = sql.Table(
    "candidates",
    metadata,
    *_of_shard("run_id", "generator"),
    sql.Column("index", sql.Integer, primary_key=True),
    sql.Column("id", sql.String(32), nullable=False, index=True),
    sql.Column("provenance", _JSON, nullable=False),
    *_geometry(),
)

energies = sql.Table(
    "energies",
    metadata,
    *_of_shard("run_id", "stage"),
    sql.Column("id", sql.String(32), primary_key=True),
    sql.Column("position", sql.Integer, nullable=False),  # in the shard
    *_label(),
    sql.Column("energy", sql.Double),  # eV per cell
    sql.Column("sigma", sql.Double),  # eV/atom
)

outcomes = sql.Table(
    "outcomes",
    metadata,
    *_of_shard("run_id", "stage"),
    sql.Column("id", sql.String(32), primary_key=True),  # of the start
    sql.Column("position", sql.Integer, nullable=False),
    *_label(),
    sql.Column("status", sql.String, nullable=False),
    sql.Column("steps", sql.Integer, nullable=False),
    sql.Column("energy", sql.Double),  # eV per cell
    sql.Column("max_force", sql.Double),  # eV/Å
    *_geometry(),  # as relaxed
)

forces = sql.Table(
    "forces",
    metadata,
    *_of_shard("run_id", "stage"),
    sql.Column("position", sql.Integer, primary_key=True),  # in the stage
    *_label(),
    sql.Column("forces", sql.LargeBinary, nullable=False),  # eV/Å, little-endian float64 [n, 3]
)


def create(connection: sql.Connection) -> None:
    """Make the tables that are not there yet; several workers may do so at once."""
    if connection.dialect.name == "postgresql":  # whose IF NOT EXISTS fails when two find it missing
        connection.execute(sql.select(sql.func.pg_advisory_xact_lock(CREATION)))
    for table in metadata.sorted_tables:
        connection.execute(sql.schema.CreateTable(table, if_not_exists=True))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(sql.schema.CreateIndex(index, if_not_exists=True))


def upgrade(connection: sql.Connection, run: str) -> None:
    """Give what a run of schema 1 has stored the names of this one; other runs stay as they are.

    In a transaction of its own: it waits for who writes to the run, who may wait for who makes tables.
    """
    mine = sql.select(runs).where(runs.c.id == run, runs.c.schema == 1)
    if connection.execute(mine).first() is None:  # without a lock: nearly always there is nothing to do
        return
    row = connection.execute(mine.with_for_update()).mappings().one_or_none()
    if row is None:
        return
    for old, new in RENAMED_STAGES.items():
        of_stage = (shards.c.run_id == run) & (shards.c.stage == old)
        columns = [c if c.name != "stage" else sql.literal(new).label("stage") for c in shards.c]
        connection.execute(
            sql.insert(shards).from_select(shards.c.keys(), sql.select(*columns).where(of_stage))
        )
        for table in (energies, outcomes):
            rows = (table.c.run_id == run) & (table.c.stage == old)
            connection.execute(sql.update(table).where(rows).values(stage=new))
        connection.execute(sql.delete(shards).where(of_stage))
    settings = {RENAMED_SETTINGS.get(name, name): value for name, value in row["settings"].items()}
    statement = sql.update(runs).where(runs.c.id == run)
    connection.execute(statement.values(schema=SCHEMA, settings=settings))


def place(location: Path | str) -> str:
    """The location for people to read: a URL without its password."""
    if isinstance(location, Path):
        return str(location)
    return sql.make_url(location).render_as_string(hide_password=True)


def connect(location: Path | str) -> sql.Engine:
    """No connection is kept: SQLite's file is whole between two transactions and can be copied or deleted.

    A server that went away is found again.
    """
    if isinstance(location, str):
        try:
            return sql.create_engine(location, poolclass=sql.NullPool)
        except ModuleNotFoundError as error:  # what speaks to PostgreSQL
            raise MissingError(
                f"This database needs {error.name}: pip install 'csp-engine[cluster]'."
            ) from error
    url = sql.URL.create("sqlite", database=str(location / FILE))
    engine = sql.create_engine(url, poolclass=sql.NullPool, connect_args={"timeout": BUSY_TIMEOUT})

    @sql.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        # Write-ahead log: readers and a writer don't block each other, and a killed writer leaves
        # the last whole transaction.
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
