"""How long a store of a million candidates takes to answer what a search asks of it."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import sqlalchemy as sql
import torch

from csp.crystals import Crystals
from csp.protocols import Evaluation, Label, Proposals, Provenance
from csp.relaxation.relax import RelaxationResult, Status
from csp.store import tables
from csp.store.store import Store

__all__ = ["measure_store"]

LABEL = Label("PBE", "none", "model")
A_RUN, A_SHARD, RELAXED = 1000, 100, 100  # candidates of a run and of a shard; how many were relaxed
ATOMS = 10
ASKED = 20  # runs


def measure_store(url: str, candidates: int, seed: int) -> dict[str, float]:
    """Fill a new PostgreSQL with runs of `A_RUN` candidates and ask some of them.

    Returns:
        `store.candidates`, and for each question the median and the longest of `ASKED` answers in ms.
    """
    first = Store.begin(url, {"seed": seed}, formula="NaCl", versions={}, run="run-0")
    _fill(first, seed)
    n = max(1, candidates // A_RUN)
    with tables.connect(url).begin() as connection:
        _copy(connection, n)
    with tables.connect(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sql.text("ANALYZE"))
        counted = sql.select(sql.func.count()).select_from(tables.candidates)
        found: dict[str, float] = {"store.candidates": int(connection.execute(counted).scalar_one())}
    draw = random.Random(seed)
    stores = [Store.open(url, f"run-{draw.randrange(n)}") for _ in range(ASKED)]
    questions: dict[str, Callable[[Store], Any]] = {
        "open": lambda store: Store.open(url, store.run),
        "done": lambda store: store.done("proposals", "template"),
        "tally": lambda store: store.tally(),
        "candidates": lambda store: store.candidates(),
        "energies": lambda store: store.energies("screen", LABEL),
        "relaxed": lambda store: store.relaxed("relax", LABEL),
        "failures": lambda store: store.failures("relax"),
    }
    for name, question in questions.items():
        seconds = [_seconds(question, store) for store in stores]
        found[f"store.{name}_ms"] = round(1000 * statistics.median(seconds), 1)
        found[f"store.{name}_longest_ms"] = round(1000 * max(seconds), 1)
    return found


def _seconds(question: Callable[[Store], Any], store: Store) -> float:
    since = time.perf_counter()
    question(store)
    return time.perf_counter() - since


def _fill(store: Store, seed: int) -> None:
    """A run as a search writes it."""
    for shard in range(A_RUN // A_SHARD):
        some = _crystals(A_SHARD, seed * A_RUN + shard)
        rows = [Provenance("template", A_SHARD * shard + k, seed, 225) for k in range(A_SHARD)]
        store.write_proposals("template", shard, Proposals(some, rows, A_SHARD + 3, Counter(crowded=3)))
        energy = torch.linspace(-1, 0, A_SHARD, dtype=torch.float64)
        store.write_energies("screen", shard, some.ids(), Evaluation(LABEL, energy))
        if shard < RELAXED // A_SHARD:
            steps = torch.full((A_SHARD,), 30)
            ends = RelaxationResult(some, LABEL, energy, energy.abs(), steps, [Status.CONVERGED] * A_SHARD)
            store.write_relaxed("relax", shard, some.ids(), ends)


def _crystals(n: int, seed: int) -> Crystals:
    random_ = torch.Generator().manual_seed(seed)
    cells = 5 + torch.randn(n, 3, 3, generator=random_, dtype=torch.float64)
    sites = torch.rand(n, ATOMS, 3, generator=random_, dtype=torch.float64)
    return Crystals.from_arrays(cells.numpy(), list(sites.numpy()), [[11, 17] * (ATOMS // 2)] * n)


def _copy(connection: sql.Connection, n: int) -> None:
    """The rows of run-0 for run-1 to run-n-1, in the database itself."""
    number = sql.func.generate_series(1, n - 1).table_valued("k").render_derived()
    name = sql.func.concat("run-", number.c.k)
    for table in tables.metadata.sorted_tables:
        key = "id" if table is tables.runs else "run_id"
        columns = [name if column.name == key else column for column in table.c]
        every = table.join(number, sql.true())
        rows = sql.select(*columns).select_from(every).where(table.c[key] == "run-0")
        connection.execute(sql.insert(table).from_select(table.c.keys(), rows))
