"""Shards over two real Dask workers: the ranking is that of one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.flows.process import Csp

pytestmark = [pytest.mark.service, pytest.mark.timeout(3600)]

SEARCH = ("--candidates", "300", "--screened", "60", "--relaxed", "40", "--rattled", "1", "--max-steps", "8")


DEEP = ("--effort", "deep", "--max-rounds", "2", "--until", "1")


@pytest.mark.parametrize("deep", [(), DEEP], ids=["standard", "deep"])
def test_two_workers_rank_as_one(
    csp: Csp, tmp_path: Path, capsys: pytest.CaptureFixture[str], deep: tuple[str, ...]
) -> None:
    seconds = {}
    for runner in ("here", "dask"):
        since = time.monotonic()
        folder = ("--folder", str(tmp_path / runner))
        csp.run("submit", "ZnS", *SEARCH, *deep, "--max-atoms", "8", "--runner", runner, *folder, "--wait")
        seconds[runner] = round(time.monotonic() - since)
    with capsys.disabled():
        print(f" {seconds} s ", end="")
    one, two = ((tmp_path / name / "ranked.json").read_bytes() for name in ("here", "dask"))
    assert one == two
    told = json.loads(one)
    assert told["results"]
    assert not deep or len(told["search"]["rounds"]) == 3  # the search before them and two
