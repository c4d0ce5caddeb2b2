"""The soak benchmark finds what is lost, twice or different, and disturbs as its seed says."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from csp.errors import InputError
from csp.store import tables
from csp.store.store import Store
from csp.target import Target
from flows.soak.benchmark import measure
from flows.soak.faults import LONG, planned
from flows.soak.findings import findings, stored
from flows.soak.formulas import MOST, mixed, wrong
from flows.soak.processes import Kept, descendants, resident
from flows.soak.small_disk import small_disk
from flows.soak.undisturbed import main as undisturbed

RIGHT, WRONG = ["NaCl", "MgO"], ["NaQq2"]


def test_formulas_are_distinct_of_mixed_size_and_the_wrong_ones_wrong() -> None:
    targets = [Target.parse(formula) for formula in mixed(MOST, 1)]
    assert MOST >= 1000
    assert len({target.formula for target in targets}) == MOST
    assert {sum(target.counts) for target in targets[:60]} >= {2, 3, 5, 7}
    assert mixed(50, 1) == mixed(MOST, 1)[:50] != mixed(50, 2)
    assert len(set(wrong(50))) == 50
    for formula in wrong(4):
        with pytest.raises(InputError):
            Target.parse(formula, max_atoms=24)


def test_faults_are_those_of_the_seed_and_within_the_time() -> None:
    plan = planned(7200, 3, disk=True)
    assert plan == sorted(planned(7200, 3, disk=True)) != planned(7200, 4, disk=True)
    counts = Counter(fault.what for fault in plan)
    assert counts["database"] == counts["disk"] == 1
    assert len(plan) == pytest.approx(7200 / 45, rel=0.3)
    assert min(counts[what] for what in ("run", "worker", "worker_stopped", "server")) > 10
    assert all(0 <= fault.at < 7200 for fault in plan)
    kills = [fault.what for fault in plan if fault.what not in ("database", "disk")]
    assert sorted(kills[:5]) == sorted(kills[5:10]) == ["run", "run", "server", "worker", "worker_stopped"]
    at = {fault.what: fault.at for fault in plan}
    assert at["database"] + LONG < at["disk"]
    assert not any(fault.what == "disk" for fault in planned(7200, 3, disk=False))


def run(
    formula: str, id_: str, state: str = "COMPLETED", message: str = "", count: int = 1
) -> dict[str, Any]:
    return {
        "id": id_,
        "parameters": {"formula": formula},
        "run_count": count,
        "state": {"type": state, "name": state.title(), "message": message},
    }


@pytest.fixture
def done(tmp_path: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """Undisturbed searches, folders of runs that are as these, and the runs."""
    for formula, id_ in zip(RIGHT, ("aaaaaaaa-1", "bbbbbbbb-1"), strict=True):
        right = tmp_path / "undisturbed" / formula
        Store.begin(right, {"seed": 0}, formula=formula, versions={})
        (right / "structures").mkdir()
        (right / "structures" / "001.cif").write_text("data_\n")
        for name in ("ranked.json", "ranked.csv"):
            (right / name).write_text(formula)
        shutil.copytree(right, tmp_path / "runs" / f"{formula}-{id_[:8]}")
    runs = [run("NaCl", "aaaaaaaa-1", count=2), run("MgO", "bbbbbbbb-1")]
    runs += [run("NaQq2", "cccccccc-1", "FAILED", "There is no element Qq.")]
    return tmp_path / "undisturbed", tmp_path / "runs", runs


def found(done: tuple[Path, Path, list[dict[str, Any]]]) -> dict[str, int]:
    right, folders, runs = done
    rows = {
        folder.name: stored(folder)["run"] for folder in folders.iterdir() if (folder / tables.FILE).is_file()
    }
    counts, lines = findings(RIGHT, WRONG, runs, folders, right, rows)
    assert len(lines) == sum(n for name, n in counts.items() if name not in ("n", "n.wrong", "crashed"))
    return {name: n for name, n in counts.items() if n and name not in ("n", "n.wrong")}


def test_what_is_as_it_should_be(done: Any) -> None:
    assert found(done) == {"crashed": 1}


def test_each_fault_is_found(done: Any) -> None:
    _, folders, runs = done
    runs[2]["state"]["message"] = "Traceback (most recent call last): …"
    assert found(done) == {"crashed": 1, "wrong_lost": 1}
    runs.pop(2)
    assert found(done) == {"crashed": 1, "wrong_lost": 1}
    runs[0]["state"]["type"] = "CRASHED"
    assert found(done) == {"crashed": 1, "lost": 1, "wrong_lost": 1}
    runs.append(run("NaCl", "dddddddd-1"))
    assert found(done) == {"crashed": 1, "twice": 1, "wrong_lost": 1, "other_ranking": 1, "other_store": 1}
    shutil.copytree(folders / "NaCl-aaaaaaaa", folders / "NaCl-dddddddd")
    assert found(done) == {"crashed": 1, "twice": 1, "wrong_lost": 1}
    (folders / "NaCl-dddddddd" / "structures" / "002.cif").write_text("data_\n")
    (folders / "MgO-bbbbbbbb" / ".new-12.ranked.csv").touch()
    (folders / "MgO-eeeeeeee").mkdir()
    expected = {"crashed": 1, "twice": 2, "wrong_lost": 1, "other_ranking": 1, "left_over": 1}
    assert found(done) == expected


def test_a_program_is_started_again_and_killed_with_what_it_started(tmp_path: Path) -> None:
    words = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    program = Kept([sys.executable, "-c", words], {"PATH": "/bin:/usr/bin"}, tmp_path / "log", again=0.1)
    program.tend()
    first, deadline = program.pid, time.monotonic() + 30
    assert first is not None
    while not descendants(first):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (child,) = descendants(first)
    assert resident(first) > 1
    assert program.end(signal.SIGKILL)
    assert program.pid is None
    assert not program.end(signal.SIGKILL)
    while Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    program.tend()  # notices its end
    time.sleep(0.2)
    program.tend()
    assert program.pid not in (None, first)
    assert program.starts == 2
    program.end(signal.SIGKILL)


def test_a_disk_that_is_full_and_has_room_again(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with small_disk(folder) as disk:
        if disk is None:
            pytest.skip("mounting is not allowed here")
        (folder / "before").write_bytes(b"x" * 100_000)
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (folder / "more").write_bytes(b"x" * 100_000)
        disk.free()
        (folder / "after").write_bytes(b"x" * 100_000)
    assert (folder / "before").stat().st_size == (folder / "after").stat().st_size == 100_000
    assert subprocess.run(["mountpoint", "-q", str(folder)]).returncode != 0


def test_undisturbed_searches_tell_their_memory(tmp_path: Path) -> None:
    advanced = {"screened": 2, "relaxed": 1, "rattled": 0, "max_steps": 1, "max_atoms": 4, "relaxer": "none"}
    common = {"candidates": 4, "generators": ["template"], "device": "cpu", "advanced": advanced}
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"formulas": ["NaCl"], "searches": 2, "parameters": common}))
    undisturbed(plan, tmp_path / "out")
    assert len(json.loads((tmp_path / "out" / "memory.json").read_text())["mb"]) == 2
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["NaCl", "memory.json"]
    assert stored(tmp_path / "out" / "NaCl")["run"]["shards"] > 0


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_small_queue_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"minutes": 0.5, "workers": 1, "wrong_share": 0.3, "searches": 1, "candidates": 2000, "seed": 1}
    found_ = measure(out, formulas=3, say=print, **options)
    names = ("lost", "wrong_lost", "twice", "other_ranking", "other_store", "left_over")
    assert {name: found_[name] for name in names} == dict.fromkeys(names, 0)
    assert (out / "cases.txt").read_text() == ""
    assert (found_["n"], found_["n.wrong"], found_["faults.database"]) == (2, 1, 1)
    assert found_["store.candidates"] == 2000
    with pytest.raises(InputError, match="choose another folder"):
        measure(out, formulas=3, say=print, **options)
