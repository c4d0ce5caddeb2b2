"""The store: exact round trips, whole shards or none, and the same run after any kill."""

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sql
import torch
from sqlalchemy.dialects import postgresql

from csp.crystals import Crystals
from csp.errors import ContractError, CspError, InputError, LabelError
from csp.protocols import Evaluation, Label, Proposals, Provenance
from csp.relaxation.relax import RelaxationResult, Status
from csp.store import tables
from csp.store.store import PROPOSALS, Store

LABEL = Label("PBE", "MP2020/Δ", "model:1/2")
SETTINGS = {"seed": 0, "candidates": 12, "search": {"relaxed": 5, "groups": [62, 225]}}


def begin(folder: Path, settings: dict = SETTINGS, *, resume: bool = False) -> Store:
    return Store.begin(folder, settings, formula="SrTiO3", versions={"torch": "2"}, resume=resume)


def crystals(n: int, seed: int = 0) -> Crystals:
    """Odd cells of 1-7 atoms with numbers that no short decimal writes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, n)
    return Crystals.from_arrays(
        rng.normal(size=(n, 3, 3)) * 10.0 ** rng.integers(-9, 9, (n, 1, 1)),
        [rng.normal(size=(k, 3)) / 3 for k in sizes],
        [rng.integers(1, 119, k) for k in sizes],
    )


def proposals(generator: str, start: int, n: int, failed: int = 0) -> Proposals:
    rows = [
        Provenance(generator, start + k, 7, 221, "mp-1", "Sr:a Ti:b O:c", 0.1 * k, "near é") for k in range(n)
    ]
    return Proposals(
        crystals(n, seed=start), rows, n + failed, Counter({"crowded": failed} if failed else {})
    )


def relaxed(n: int) -> RelaxationResult:
    return RelaxationResult(
        crystals(n, seed=99),
        LABEL,
        torch.tensor([float("nan"), *(-1 / (k + 3) for k in range(n - 1))], dtype=torch.float64),
        torch.linspace(0.01, 0.3, n, dtype=torch.float64),
        torch.arange(n),
        [list(Status)[k % len(Status)] for k in range(n)],
    )


def assert_same_crystals(a: Crystals, b: Crystals) -> None:
    for name in ("cell", "frac", "numbers", "offsets"):
        ours, theirs = getattr(a, name), getattr(b, name)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs), name


def dump(folder: Path) -> list[tuple]:
    """Every row but that of the run with its times, sorted: what was done, in whatever order."""
    with sqlite3.connect(folder / tables.FILE) as connection:
        rows = []
        for name in ("shards", "candidates", "energies", "outcomes"):
            rows += [(name, *row) for row in connection.execute(f"SELECT * FROM {name}")]
    connection.close()
    return sorted(rows, key=repr)


# -- round trips ----------------------------------------------------------------------------------


def test_candidates_come_back_exactly_and_in_order_of_generator_and_index(tmp_path: Path) -> None:
    store = begin(tmp_path)
    parts = {(g, k): proposals(g, 6 * k, 5, failed=1) for g in ("template", "random") for k in (0, 1)}
    for g, k in reversed(parts):
        store.write_proposals(g, k, parts[g, k])
    found = Store.open(tmp_path).candidates()
    expected = [parts[key] for key in sorted(parts)]
    together = Crystals.cat([p.crystals for p in expected])
    assert_same_crystals(found.crystals, together)
    assert found.ids == together.ids()
    assert found.provenance == [row for p in expected for row in p.provenance]
    tally = store.tally()
    assert {g: (t.requested, t.failed) for g, t in tally.items()} == {
        g: (12, Counter(crowded=2)) for g in ("random", "template")
    }


def test_the_same_crystal_proposed_twice_is_kept_twice(tmp_path: Path) -> None:
    store = begin(tmp_path)
    one = crystals(1)
    for g in ("a", "b"):
        store.write_proposals(g, 0, Proposals(one, [Provenance(g, 0, 0, 1)], 1))
    assert store.candidates().ids == one.ids() * 2


def test_energies_come_back_in_the_order_of_shards(tmp_path: Path) -> None:
    store = begin(tmp_path)
    energy = torch.tensor([-1 / 3, float("nan"), float("-inf"), 2e-300], dtype=torch.float64)
    store.write_energies("screen", 1, ["d", "a"], Evaluation(LABEL, energy[2:]))
    store.write_energies("screen", 0, ["c", "b"], Evaluation(LABEL, energy[:2]))
    ids, evaluation = store.energies("screen", LABEL)
    assert ids == ["c", "b", "d", "a"]
    assert torch.equal(evaluation.energy.nan_to_num(7.0), energy.nan_to_num(7.0))
    assert evaluation.sigma is None
    sigma = torch.tensor([0.1, 1 / 7], dtype=torch.float64)
    store.write_energies("again", 0, ["a", "b"], Evaluation(LABEL, energy[:2], sigma=sigma))
    found = store.energies("again", LABEL)[1].sigma
    assert found is not None
    assert torch.equal(found, sigma)


def test_relaxations_come_back(tmp_path: Path) -> None:
    store, ends = begin(tmp_path), relaxed(6)
    store.write_relaxed("relax", 0, list("fedcba"), ends)
    ids, found = store.relaxed("relax", LABEL)
    assert ids == list("fedcba")
    assert_same_crystals(found.crystals, ends.crystals)
    for name in ("energy", "max_force", "steps"):
        assert torch.equal(getattr(found, name).nan_to_num(7), getattr(ends, name).nan_to_num(7)), name
    assert found.status == ends.status
    assert found.label == LABEL


def test_an_empty_stage_and_an_empty_shard(tmp_path: Path) -> None:
    store = begin(tmp_path)
    assert store.candidates().ids == []
    assert len(store.candidates().crystals) == 0
    assert store.energies("screen", LABEL)[0] == []
    assert len(store.relaxed("relax", LABEL)[1].crystals) == 0
    store.write_proposals("a", 3, Proposals(Crystals.empty(), [], 256, Counter(exhausted=256)))
    assert store.done(PROPOSALS, "a") == {3}
    assert store.tally()["a"].failed == Counter(exhausted=256)


# -- shards ---------------------------------------------------------------------------------------


def test_a_shard_written_twice_changes_nothing(tmp_path: Path) -> None:
    store = begin(tmp_path)
    store.write_proposals("a", 0, proposals("a", 0, 4))
    store.write_energies("screen", 0, ["x", "y"], Evaluation(LABEL, torch.tensor([1.0, 2.0])))
    store.write_relaxed("relax", 0, list("abc"), relaxed(3))
    before = dump(tmp_path)
    store.write_proposals("a", 0, proposals("a", 50, 3))
    store.write_energies("screen", 0, ["x", "z"], Evaluation(LABEL, torch.tensor([5.0, 6.0])))
    store.write_relaxed("relax", 0, list("de"), relaxed(2))
    assert dump(tmp_path) == before
    assert store.done(PROPOSALS, "a") == store.done("screen") == store.done("relax") == {0}
    assert store.done(PROPOSALS, "b") == store.done("rattle") == set()


def test_a_crystal_twice_in_a_stage_is_refused_and_its_shard_not_done(tmp_path: Path) -> None:
    store = begin(tmp_path)
    store.write_energies("screen", 0, ["x", "y"], Evaluation(LABEL, torch.tensor([1.0, 2.0])))
    for ids in (["z", "y"], ["z", "z"]):
        with pytest.raises(ContractError, match="twice"):
            store.write_energies("screen", 1, ids, Evaluation(LABEL, torch.tensor([3.0, 4.0])))
    assert store.done("screen") == {0}
    assert store.energies("screen", LABEL)[0] == ["x", "y"]


def test_lengths_and_names_are_checked(tmp_path: Path) -> None:
    store = begin(tmp_path)
    with pytest.raises(ContractError):
        store.write_energies("screen", 0, ["x"], Evaluation(LABEL, torch.zeros(2)))
    with pytest.raises(ContractError):
        store.write_relaxed("relax", 0, ["x"], relaxed(2))
    with pytest.raises(ContractError, match="another generator"):
        store.write_proposals("b", 0, proposals("a", 0, 2))
    assert dump(tmp_path) == []


def test_energies_of_another_label_are_an_error(tmp_path: Path) -> None:
    store = begin(tmp_path)
    store.write_energies("screen", 0, ["x"], Evaluation(LABEL, torch.zeros(1)))
    with pytest.raises(LabelError, match="model:1/2"):
        store.energies("screen", Label("PBE", "none", "model:1/2"))


def test_rows_of_no_shard_are_refused_by_the_database(tmp_path: Path) -> None:
    begin(tmp_path)
    engine = tables.connect(tmp_path)
    orphan = {"run_id": "run", "stage": "s", "generator": "", "shard": 0, "id": "x", "position": 0}
    label = dict.fromkeys(Label.__slots__, "")
    with pytest.raises(sql.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sql.insert(tables.energies), orphan | label)


# -- runs -------------------------------------------------------------------------------------------


def test_a_run_remembers_what_it_is(tmp_path: Path) -> None:
    store = begin(tmp_path)
    assert not store.finished
    store.finish()
    again = Store.open(tmp_path)
    assert (again.formula, again.settings, again.versions) == ("SrTiO3", SETTINGS, {"torch": "2"})
    assert again.finished


def test_a_folder_with_a_run_needs_resume(tmp_path: Path) -> None:
    begin(tmp_path).write_proposals("a", 0, proposals("a", 0, 2))
    with pytest.raises(InputError, match=r"already holds a run of SrTiO3.*`resume`"):
        begin(tmp_path)
    assert begin(tmp_path, resume=True).done(PROPOSALS, "a") == {0}


def test_resuming_what_was_never_started_starts_it(tmp_path: Path) -> None:
    assert begin(tmp_path / "new" / "folder", resume=True).done(PROPOSALS, "a") == set()


def test_resume_names_the_settings_that_differ(tmp_path: Path) -> None:
    begin(tmp_path)
    other = {"seed": 0, "candidates": 13, "search": {"relaxed": 6, "groups": (62, 225)}, "z": 2}
    with pytest.raises(InputError) as error:
        begin(tmp_path, other, resume=True)
    for part in ("candidates (now 13, was 12)", "search.relaxed (now 6, was 5)", "z (now 2, was None)"):
        assert part in str(error.value)
    assert "seed" not in str(error.value)
    assert "groups" not in str(error.value)
    with pytest.raises(InputError, match=r"formula \(now Si, was SrTiO3\)"):
        Store.begin(tmp_path, SETTINGS, formula="Si", versions={}, resume=True)


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not hold a run"):
        Store.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        begin(tmp_path / "file")
    (tmp_path / tables.FILE).write_bytes(b"no database, but some bytes " * 100)
    with pytest.raises(CspError, match="cannot be used"):
        begin(tmp_path, resume=True)


def test_a_run_of_another_schema_is_refused(tmp_path: Path) -> None:
    begin(tmp_path)
    with tables.connect(tmp_path).begin() as connection:
        connection.execute(sql.update(tables.runs).values(schema=tables.SCHEMA + 1))
    with pytest.raises(InputError, match="another version"):
        Store.open(tmp_path)


def test_several_runs_share_a_database_without_meeting(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/all.sqlite"
    runs = [Store.begin(url, SETTINGS, formula="SrTiO3", versions={}, run=name) for name in "ab"]
    runs[0].write_energies("screen", 0, ["x"], Evaluation(LABEL, torch.tensor([1.0])))
    assert runs[1].done("screen") == set()
    runs[1].write_energies("screen", 0, ["x"], Evaluation(LABEL, torch.tensor([2.0])))
    assert [float(run.energies("screen", LABEL)[1].energy) for run in runs] == [1.0, 2.0]
    with pytest.raises(InputError, match="does not hold the run 'c'"):
        Store.open(url, run="c")


def test_between_transactions_the_file_is_alone_and_whole(tmp_path: Path) -> None:
    store = begin(tmp_path)
    store.write_proposals("a", 0, proposals("a", 0, 2))
    assert [p.name for p in tmp_path.iterdir()] == [tables.FILE]
    with tables.connect(tmp_path).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_the_tables_can_be_made_in_postgresql() -> None:
    text = "".join(
        str(sql.schema.CreateTable(t).compile(dialect=postgresql.dialect()))
        for t in tables.metadata.sorted_tables
    )
    assert text.count("BYTEA") == 7
    assert text.count("CREATE TABLE") == 6


# -- killed runs --------------------------------------------------------------------------------------

SHARDS = 3


def work(store: Store) -> None:
    """All shards of a small search, those that are not done."""
    for shard in sorted(set(range(SHARDS)) - store.done(PROPOSALS, "a")):
        store.write_proposals("a", shard, proposals("a", 40 * shard, 40))
    ids = store.candidates().ids
    for shard in sorted(set(range(SHARDS)) - store.done("screen")):
        energy = torch.arange(40, dtype=torch.float64) + shard
        store.write_energies("screen", shard, ids[40 * shard : 40 * shard + 40], Evaluation(LABEL, energy))
    store.finish()


# Forks workers, some of which kill themselves in the middle of a transaction, and prints how they ended.
WORKERS = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sql
sys.path.insert(0, sys.argv[1])
from test_store import begin, work

def worker(folder, fatal_insert):
    inserts = 0

    def count(connection, cursor, statement, *rest):
        nonlocal inserts
        inserts += statement.startswith("INSERT INTO") and not statement.startswith("INSERT INTO runs")
        if inserts == fatal_insert:
            os.kill(os.getpid(), signal.SIGKILL)

    sql.event.listen(sql.Engine, "after_cursor_execute", count)
    work(begin(Path(folder), resume=True))

workers = []
for argument in sys.argv[2:]:
    pid = os.fork()
    if pid == 0:
        try:
            worker(*[int(part) if part.isdigit() else part for part in argument.split("=")])
            os._exit(0)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
    workers.append(pid)
print(*[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers])
"""


def test_killed_runs_and_simultaneous_workers_end_as_the_undisturbed_one(tmp_path: Path) -> None:
    # Inserts alternate between a shard's own row and its candidates or energies, so these die after
    # the claim of a shard or after its rows, always before the commit, in both stages. The last two make
    # fewer than 1000 inserts and race for the same shards.
    whole_shards = {1: (0, 0), 4: (1, 0), 7: (3, 0), 12: (3, 2)}
    killed = [f"{tmp_path}/killed{at}={at}" for at in whole_shards]
    together = [f"{tmp_path}/together=1000"] * 2
    command = [sys.executable, "-c", WORKERS, str(Path(__file__).parent), *killed, *together]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(-signal.SIGKILL)] * len(killed) + ["0"] * len(together), ended.stderr

    work(begin(tmp_path / "whole"))
    expected = dump(tmp_path / "whole")
    assert len(expected) == SHARDS * (2 + 40 + 40)
    assert dump(tmp_path / "together") == expected
    for at, (proposed, screened) in whole_shards.items():
        folder = tmp_path / f"killed{at}"
        store = Store.open(folder)
        assert (len(store.done(PROPOSALS, "a")), len(store.done("screen"))) == (proposed, screened)
        assert len(store.candidates().ids) == 40 * proposed
        assert len(store.energies("screen", LABEL)[0]) == 40 * screened
        work(begin(folder, resume=True))
        assert dump(folder) == expected
        with tables.connect(folder).connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_an_interrupted_write_leaves_nothing_of_its_shard(tmp_path: Path) -> None:
    store = begin(tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    sql.event.listen(store._engine, "commit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write_proposals("a", 0, proposals("a", 0, 5))
    assert dump(tmp_path) == []
    assert begin(tmp_path, resume=True).done(PROPOSALS, "a") == set()


def test_a_run_of_schema_1_goes_on_under_the_names_of_this_one(tmp_path: Path) -> None:
    """What version 0.1 stored, by the names it used: the same rows are found, other runs are left alone."""
    settings = {"seed": 0, "refined": 4}
    for run in ("old", "other"):
        store = Store.begin(tmp_path, settings, formula="NaCl", versions={}, run=run)
        store.write_relaxed("pre_relax", 0, [f"p{k}" for k in range(6)], relaxed(6))
        store.write_energies("rescore", 0, ["a"], Evaluation(LABEL, torch.tensor([-1.0]).double()))
        store.write_relaxed("refine", 1, [f"r{k}" for k in range(6)], relaxed(6))
    with sqlite3.connect(tmp_path / tables.FILE) as connection:
        for new, old in (("pre_relax", "improve"), ("rescore", "judge"), ("refine", "finish")):
            for table in ("energies", "outcomes", "shards"):
                connection.execute(f"UPDATE {table} SET stage = '{old}' WHERE stage = '{new}'")
        connection.execute("""UPDATE runs SET schema = 1, settings = '{"seed": 0, "finished": 4}'""")
    connection.close()
    store = Store.begin(tmp_path, settings, formula="NaCl", versions={}, resume=True, run="old")
    assert store.settings == settings
    ids, found = store.relaxed("pre_relax", LABEL)
    assert ids == [f"p{k}" for k in range(6)]
    assert_same_crystals(found.crystals, relaxed(6).crystals)
    assert store.energies("rescore", LABEL)[0] == ["a"]
    assert [store.done(stage) for stage in ("pre_relax", "rescore", "refine")] == [{0}, {0}, {1}]
    assert not any(store.done(stage) for stage in ("improve", "judge", "finish"))
    with sqlite3.connect(tmp_path / tables.FILE) as connection:
        left = connection.execute("SELECT DISTINCT stage FROM shards WHERE run_id = 'other'").fetchall()
    connection.close()
    assert sorted(left) == [("finish",), ("improve",), ("judge",)]
    assert Store.open(tmp_path, "other").done("refine") == {1}


def test_forces_come_back_exactly_by_their_places(tmp_path: Path) -> None:
    store, some = begin(tmp_path), crystals(5)
    rng = np.random.default_rng(1)
    forces = torch.from_numpy(rng.normal(size=some.frac.shape) * 10.0 ** rng.integers(-9, 9, some.frac.shape))
    parts = forces.split(some.n_atoms.tolist())
    for shard, (first, last) in enumerate([(3, 5), (0, 3)]):
        part = some[first:last]
        energy = torch.zeros(len(part), dtype=torch.float64)
        found = Evaluation(LABEL, energy, forces=torch.cat(parts[first:last]))
        store.write_forces("displace", 1 - shard, part, found, first)
        store.write_forces("displace", 1 - shard, part, found, first)  # a second time changes nothing
    again = store.forces("displace", LABEL)
    assert [torch.equal(one, other) for one, other in zip(again, parts, strict=True)] == [True] * 5
    assert store.forces("other", LABEL) == []
    with pytest.raises(LabelError):
        store.forces("displace", Label("PBE", "none", "model"))
