"""What a search cost is what its process used; the least that it could is what its relaxations asked for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from benchmarks.cost.benchmark import CASES, CostBenchmark, table
from benchmarks.cost.search import evaluations, run
from csp.errors import CspError, InputError
from csp.store.tables import FILE
from csp.target import Target
from surrogates.zoo import load_model

SMALL = [
    "--candidates",
    "8",
    "--relaxed",
    "4",
    "--refined",
    "2",
    "--rattled",
    "0",
    "--max-steps",
    "5",
    "--no-hull",
]


def test_sizes_go_from_2_to_120_atoms() -> None:
    sizes = [z * Target.parse(formula).n_atoms for formula, z in CASES]
    assert sizes == [2, 5, 10, 20, 28, 40, 56, 80, 120]


def test_a_small_search(tmp_path: Path) -> None:
    out = tmp_path / "GaAs"
    cost = run(["GaAs", *SMALL, "--library", "none", "--relaxer", "none"], out, threads=1)
    assert 0.5 < cost.cpu_seconds < 2 * cost.seconds + 1
    assert 0.1 < cost.gib < 8
    assert sum(cost.stages.values()) < cost.seconds
    found = evaluations(out, {"relax": load_model("xs")})
    with sqlite3.connect(out / FILE) as store:
        (steps,) = store.execute("SELECT SUM(steps + 1) FROM outcomes WHERE stage = 'relax'").fetchone()
    assert found["relax"].number == steps
    assert 0 < found["relax"].least < 10


def test_why_a_search_failed(tmp_path: Path) -> None:
    with pytest.raises(CspError, match=r"ended with 2: .*Xx"):
        run(["Xx2O3"], tmp_path / "Xx2O3", threads=1)


def test_no_such_effort(tmp_path: Path) -> None:
    benchmark = CostBenchmark.begin(tmp_path, relaxer="none")
    with pytest.raises(InputError, match="No effort is called slow; there are quick, standard, deep"):
        benchmark.run(print, efforts=["slow"])
    with pytest.raises(InputError, match="another seed"):
        CostBenchmark.begin(tmp_path, relaxer="none", seed=1)


@pytest.mark.slow
def test_our_own_model_alone(tmp_path: Path) -> None:
    summary = CostBenchmark.begin(tmp_path, relaxer="none").run(print, efforts=["quick"], limit=1)
    assert summary["quick.2_atoms.1_threads.limit.relax"] > 0
    assert "quick.2_atoms.1_threads.limit.refine" not in summary


def test_the_table_says_where_the_time_went() -> None:
    row = {
        "formula": "GaAs",
        "atoms": 2,
        "effort": "deep",
        "threads": 1,
        "seconds": 20.0,
        "cpu_seconds": 19.0,
        "gib": 0.5,
        "stages": {"relax": 10.0, "propose": 4.0, "round 1": 19.0},
        "limit": {"relax": 0.5},
    }
    (line,) = [line for line in table([row]).splitlines() if line.startswith("| GaAs")]
    assert "relax 50 %, start and page 30 %, propose 20 %" in line
    assert line.endswith("| relax 50 % |")
