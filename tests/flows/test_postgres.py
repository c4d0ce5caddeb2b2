"""The store in a real PostgreSQL: the same rows, the same ranking, and a database that goes away."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sql
import torch

from csp.crystals import Crystals
from csp.errors import StoreError
from csp.protocols import Evaluation, Label, Proposals, Provenance
from csp.relaxation.relax import RelaxationResult, Status
from csp.store import tables
from csp.store.store import PROPOSALS, Store
from tests.flows.postgres import Postgres

pytestmark = [pytest.mark.service, pytest.mark.timeout(1200)]

LABEL = Label("PBE", "none", "model")


def begin(location: Path | str, run: str = "run") -> Store:
    return Store.begin(location, {"seed": 0}, formula="NaCl", versions={}, resume=True, run=run)


def crystals(n: int, seed: int) -> Crystals:
    random = torch.Generator().manual_seed(seed)
    cells = torch.randn(n, 3, 3, generator=random, dtype=torch.float64).numpy()
    sites = [torch.rand(k % 5 + 1, 3, generator=random, dtype=torch.float64).numpy() for k in range(n)]
    return Crystals.from_arrays(cells, sites, [[11] * len(s) for s in sites])


def fill(store: Store) -> None:
    for shard in (1, 0):
        some = crystals(5, shard)
        rows = [Provenance("template", 5 * shard + k, 0, 225, why="é") for k in range(5)]
        store.write_proposals("template", shard, Proposals(some, rows, 7, Counter(crowded=2)))
        energy = torch.tensor([float("nan"), -1 / 3, float("inf"), 0.0, 2e-300], dtype=torch.float64)
        store.write_energies("screen", shard, some.ids(), Evaluation(LABEL, energy))
        ends = RelaxationResult(
            crystals(5, 10 + shard), LABEL, energy, energy.abs(), torch.arange(5), [Status.CONVERGED] * 5
        )
        store.write_relaxed("relax", shard, some.ids(), ends)
    store.finish()


def everything(store: Store) -> list[str]:
    candidates, (ids, evaluation) = store.candidates(), store.energies("screen", LABEL)
    starts, ends = store.relaxed("relax", LABEL)
    numbers = [candidates.crystals.cell, candidates.crystals.frac, evaluation.energy, ends.energy]
    return [
        *map(str, (candidates.ids, candidates.provenance, ids, starts, ends.status, store.tally())),
        *(str(part.tolist()) for part in [*numbers, ends.crystals.cell, ends.max_force, ends.steps]),
        str([store.done(stage) for stage in ("screen", "relax", "rattle")]),
        str((store.formula, store.settings, store.finished)),
    ]


def test_what_is_read_is_what_sqlite_reads(postgres: Postgres, tmp_path: Path) -> None:
    stores = [begin(tmp_path), begin(postgres.url(), "same")]
    for store in stores:
        fill(store)
    assert everything(stores[0]) == everything(stores[1])
    fill(stores[1])  # a second time, nothing changes
    assert everything(stores[0]) == everything(stores[1])


def test_many_workers_begin_and_write_the_same_run_at_once(postgres: Postgres, tmp_path: Path) -> None:
    with tables.connect(postgres.url()).begin() as connection:
        tables.metadata.drop_all(connection)

    def work(_: int) -> None:
        fill(begin(postgres.url(), "crowd"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    alone = begin(tmp_path)
    fill(alone)
    assert everything(begin(postgres.url(), "crowd")) == everything(alone)


def test_a_database_that_goes_away_is_said_without_the_password_and_comes_back(postgres: Postgres) -> None:
    store = begin(postgres.url(), "away")
    postgres.stop()
    with pytest.raises(StoreError) as error:
        store.done(PROPOSALS)
    assert postgres.password not in str(error.value)
    assert "127.0.0.1" in str(error.value)
    postgres.start()
    fill(store)
    assert store.finished
    with pytest.raises(StoreError) as refused:
        begin(postgres.url().replace(postgres.password, "wr0ng"))
    assert "wr0ng" not in str(refused.value)


def test_the_flow_ranks_the_same_with_it(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.form import Advanced
    from flows.predict import predict

    cheap = Advanced(screened=4, relaxed=2, rattled=0, max_steps=2, max_atoms=4)
    for name in ("sqlite", "postgres"):
        if name == "postgres":
            monkeypatch.setenv("CSP_STORE_URL", postgres.url())
        predict.fn("NaCl", candidates=12, advanced=cheap, folder=tmp_path / name)
    files = [(tmp_path / name / "ranked.json").read_bytes() for name in ("sqlite", "postgres")]
    assert files[0] == files[1]
    assert not (tmp_path / "postgres" / tables.FILE).exists()
    engine = tables.connect(postgres.url())
    with engine.connect() as connection:
        assert str(tmp_path / "postgres") in connection.execute(sql.select(tables.runs.c.id)).scalars().all()
    engine.dispose()
    assert postgres.password not in "".join(p.read_text() for p in (tmp_path / "postgres").glob("*.json"))
