"""The reference OPTIMADE server (package `optimade`, in mongomock) serving known crystals to a pull."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from benchmarks.library.server import resource
from csp.errors import ProviderError
from csp.library.filters import question
from csp.library.library import Library
from csp.library.on_demand import library_for
from csp.library.optimade import Client
from csp.library.providers import Provider
from csp.library.pulling import pull
from csp.target import Target
from tests.places import SHARED, needs

pytest.importorskip("optimade", reason="the package optimade[server] is not installed")
pytest.importorskip("mongomock", reason="the package optimade[server] is not installed")

STRUCTURES = SHARED / "data" / "mp_structures.parquet"
EVERY = 150  # so many entries are passed over for one that is served


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.open(STRUCTURES)


@pytest.fixture(scope="module")
def rows(library: Library) -> np.ndarray:
    some = set(range(0, len(library.material_id), EVERY)) | set(
        library.own_rows(Target.parse("MoS2")).tolist()
    )
    return np.array(sorted(row for row in some if library.n_atoms[row] <= 60))


@pytest.fixture(scope="module")
def reference(
    library: Library, rows: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Provider]:
    folder = tmp_path_factory.mktemp("optimade")
    lines = [{"x-optimade": {"meta": {"api_version": "1.1.0"}}}]
    for row, (cell, frac, numbers) in zip(rows.tolist(), library.crystals(rows).arrays(), strict=True):
        name = str(library.material_id[row])
        lines.append(resource(name, cell, frac, numbers, immutable_id=name, hull=0.125))
    for line in lines[1:]:  # dates as mongo exports them
        line["attributes"]["last_modified"] = {"$date": "2026-01-31T00:00:00Z"}
    (folder / "served.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (folder / "config.json").write_text(
        json.dumps(
            {
                "database_backend": "mongomock",
                "insert_test_data": False,
                "insert_from_jsonl": str(folder / "served.jsonl"),
                "page_limit_max": 200,
                "page_limit": 20,
                "provider_fields": {
                    "structures": [
                        {"name": "hull", "type": "float", "unit": "eV", "description": "above the hull"}
                    ]
                },
            }
        )
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "OPTIMADE_CONFIG_FILE": str(folder / "config.json")}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "optimade.server.main:app", "--port", str(port)],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(url, server, folder / "log")
        yield Provider("exmpl", url, "Reference server", "CC BY 4.0", e_above_hull=(("_exmpl_hull",),))
    finally:
        server.terminate()
        server.wait(20)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            with urlopen(f"{url}/v1/structures?page_limit=1", timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSP_OFFLINE")  # the loopback interface alone is asked


@needs(STRUCTURES)
def test_everything_comes_through_pages(
    reference: Provider, library: Library, rows: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "all.parquet"
    with Client(reference, 200) as client:
        report = pull(client, "", out)
    assert report.pulled == len(rows)
    assert not report.skipped
    pulled = Library.open(out)
    place = {name: k for k, name in enumerate(pulled.material_id)}
    mine = np.array([place[f"exmpl:{name}"] for name in library.material_id[rows]])
    assert np.allclose(pulled.crystals(mine).volumes, library.crystals(rows).volumes, rtol=1e-4)
    assert (pulled.space_group[mine] == library.space_group[rows]).mean() > 0.99
    assert set(pulled.about["e_above_hull"]) == {0.125}
    assert set(pulled.about["modified"]) == {"2026-01-31"}


@needs(STRUCTURES)
def test_filters_that_it_understands(
    reference: Provider, library: Library, rows: np.ndarray, tmp_path: Path
) -> None:
    with Client(reference) as client:  # larger pages than it gives
        pull(client, question(ratio=(1, 2), max_atoms=12), tmp_path / "ratio.parquet")
        pull(client, question(elements=["Mo", "S"]), tmp_path / "system.parquet")
        with pytest.raises(ProviderError, match="refuses the question with the error 400"):
            pull(client, question(own="elements HAS SOME"), tmp_path / "wrong.parquet")
    served = set(rows.tolist())
    wanted = [r for r in library.rows((1, 2)).tolist() if r in served and library.n_atoms[r] <= 12]
    assert len(Library.open(tmp_path / "ratio.parquet")) == len(wanted)
    system = Library.open(tmp_path / "system.parquet")
    assert set(system.info().elements) == {"Mo", "S"}
    assert len(system.own_rows(Target.parse("MoS2"))) == len(library.own_rows(Target.parse("MoS2")))
    assert not (tmp_path / "wrong.parquet").exists()


@needs(STRUCTURES)
def test_on_demand(reference: Provider, library: Library, rows: np.ndarray, tmp_path: Path) -> None:
    target = Target.parse("MoS2")
    found = library_for(target, provider=reference, cache=tmp_path)
    assert len(found.library.own_rows(target)) == len(library.own_rows(target)) > 10
    served = set(rows.tolist())
    assert len(found.library.rows((1, 2))) == sum(row in served for row in library.rows((1, 2)).tolist())
    assert found.library.extract_of == len(rows)
    started = time.perf_counter()
    again = library_for(
        target, provider=Provider("exmpl", reference.base_url, "Reference server"), cache=tmp_path
    )
    assert time.perf_counter() - started < 2
    assert again.library.fingerprint == found.library.fingerprint
