"""The library of a search that names none: yours, asked for and kept, or the prototypes."""

import os
import time
from pathlib import Path

import pytest

from benchmarks.library.server import Served, serving
from csp.errors import InputError, MissingError
from csp.library import chosen, on_demand
from csp.library.library import Library
from csp.library.on_demand import EMBEDDED, library_for, reopened
from csp.library.providers import Provider
from csp.target import Target

TARGET = Target.parse("TiO2")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CSP_OFFLINE")  # the loopback interface alone is asked


@pytest.fixture(scope="module")
def aflow() -> Library:
    return Library.open()


def at(url: str) -> Provider:
    return Provider("here", url, "This machine", "CC0")


def test_ratio_and_system_are_asked_once(aflow: Library, tmp_path: Path) -> None:
    served = Served(aflow)
    with serving(served) as url:
        found = library_for(TARGET, provider=at(url), cache=tmp_path)
        asked = len(served.requests)
        again = library_for(TARGET, provider=at(url), cache=tmp_path)
        assert len(served.requests) == asked
    assert len(found.library.rows((1, 2))) == len(aflow.rows((1, 2)))
    assert len(found.library.rows((2, 3))) == sum(
        set(numbers.tolist()) == {8, 22} for _, _, numbers in aflow.crystals(aflow.rows((2, 3))).arrays()
    )
    assert found.library.extract_of == len(aflow)
    assert found.note.startswith(f"Library: {len(found.library)} entries of the This machine as of 20")
    assert again.library.fingerprint == found.library.fingerprint
    assert sorted(path.suffix for path in (tmp_path / "libraries").iterdir()) == [".lock", ".parquet"]


def test_nothing_may_be_asked(aflow: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(aflow)
    with serving(served) as url:
        without = library_for(TARGET, provider=at(url), cache=tmp_path, ask=False)
        monkeypatch.setenv("CSP_OFFLINE", "1")
        assert library_for(TARGET, provider=at(url), cache=tmp_path).note == without.note
        assert not served.requests
        assert not (tmp_path / "libraries").exists()
        monkeypatch.delenv("CSP_OFFLINE")
        asked = library_for(TARGET, provider=at(url), cache=tmp_path)
        count = len(served.requests)
        [file] = (tmp_path / "libraries").glob("*.parquet")
        os.utime(file, (0, 0))  # old, but better than nothing
        old = library_for(TARGET, provider=at(url), cache=tmp_path, ask=False)
        assert len(served.requests) == count
        assert old.library.fingerprint == asked.library.fingerprint
        library_for(TARGET, provider=at(url), cache=tmp_path)
        assert len(served.requests) > count
    assert without.library.name == "AFLOW prototypes"
    assert without.note == (
        "Library: the 1,948 embedded AFLOW prototypes alone (nothing may be asked); "
        "`csp library pull` gets a database, `csp library use` keeps one."
    )


@pytest.mark.parametrize("fault", ["html", 500, "stall", None])
def test_a_database_that_fails(aflow: Library, tmp_path: Path, fault: object) -> None:
    url = "http://127.0.0.1:9"
    started = time.monotonic()
    with serving(Served(aflow, fault={0: fault})) as working:
        found = library_for(TARGET, provider=at(working if fault else url), cache=tmp_path, budget=1.0)
    assert time.monotonic() - started < 5
    assert found.library.name == "AFLOW prototypes"
    assert "127.0.0.1:" in found.note
    assert "\n" not in found.note


def test_time_that_runs_out_is_gone_on_with(
    aflow: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_demand, "AT_ONCE", 50)
    served = Served(aflow, fault=dict.fromkeys(range(5, 99), 503))
    with serving(served) as url:
        part = library_for(TARGET, provider=at(url), cache=tmp_path, budget=1.0)
        served.fault = {}
        whole = library_for(TARGET, provider=at(url), cache=tmp_path)
    assert "not all that it has" in part.note
    assert 0 < len(part.library.rows((1, 2))) < len(whole.library.rows((1, 2))) == len(aflow.rows((1, 2)))
    assert part.place != whole.place


def test_a_library_is_found_again(tmp_path: Path) -> None:
    first = library_for(TARGET, ask=False, cache=tmp_path)
    assert first.place == EMBEDDED
    again = reopened(first.place, first.note)
    assert again is not None
    assert (again.note, again.library.fingerprint) == (first.note, first.library.fingerprint)
    mine = tmp_path / "mine.parquet"
    mine.write_bytes((Path(on_demand.__file__).parents[1] / "data" / "aflow_prototypes.parquet").read_bytes())
    chosen.choose(mine)
    own = library_for(TARGET, cache=tmp_path)
    chosen.forget()
    again = reopened(own.place, own.note)
    assert again is not None
    assert again.place == str(mine)
    mine.unlink()
    assert reopened(own.place, own.note) is None
    assert reopened("", "") is None


def test_a_library_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no library at"):
        chosen.choose(tmp_path / "missing.parquet")
    assert chosen.chosen() is None
    mine = tmp_path / "mine.parquet"
    mine.write_bytes((Path(on_demand.__file__).parents[1] / "data" / "aflow_prototypes.parquet").read_bytes())
    chosen.choose(mine)
    found = library_for(TARGET, cache=tmp_path)
    assert found.note == f"Library: your own, {mine}."
    mine.unlink()
    with pytest.raises(InputError, match=r"is gone; choose another"):
        library_for(TARGET, cache=tmp_path)
    chosen.forget()
    assert chosen.chosen() is None
