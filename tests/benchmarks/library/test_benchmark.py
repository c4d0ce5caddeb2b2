"""A pull that is killed on the way and a search's question, from a small library on this machine."""

import json
from pathlib import Path

import pytest

from benchmarks.library.benchmark import measure
from csp.errors import InputError
from csp.library import library as room
from csp.library.library import Library
from csp.target import Target


@pytest.mark.slow  # starts Python four times
def test_a_small_library(tmp_path: Path) -> None:
    aflow, of = Library.open(), Target.parse("TiO2")
    file = Path(room.__file__).parents[1] / "data" / "aflow_prototypes.parquet"
    found = measure(file, "TiO2", tmp_path / "out", page=100, kill_at=0.4, say=lambda text: None)
    assert found["pull.entries"] == found["served"] == len(aflow)
    assert 0.4 * len(aflow) <= found["pull.killed_after_entries"] < len(aflow)
    assert found["pull.pages"] == -(-len(aflow) // 100)
    assert found["pull.pages_asked_twice"] <= 1
    assert found["on_demand.first.of_ratio"] == len(aflow.rows(of.anonymous))
    assert (found["on_demand.first.requests"], found["on_demand.again.requests"]) == (2, 0)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == found
    with pytest.raises(InputError, match="there already"):
        measure(file, "TiO2", tmp_path / "out")
