"""Pulling from servers on this machine: proper ones, and such as die, throttle, lie or never end."""

import inspect
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.library.server import Served, resource, serving
from csp.cli.library import read_elements, read_ratio
from csp.errors import InputError, ProviderError
from csp.library import optimade
from csp.library.filters import of_ratio, of_system, question
from csp.library.library import Library
from csp.library.materials_project import FIELDS, own_fields
from csp.library.optimade import Client, resolve
from csp.library.providers import PROVIDERS, Provider
from csp.library.pulling import PullReport, pull


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSP_OFFLINE")  # the loopback interface alone is asked


@pytest.fixture(scope="module")
def aflow() -> Library:
    return Library.open()


def quick(url: str, page: int = 100, **more: Any) -> Client:
    return Client(Provider("here", url, "This machine", "CC0"), page, pause=lambda seconds: None, **more)


def got(url: str, out: Path, query: str = "", page: int = 100, **more: Any) -> PullReport:
    with quick(url, page) as client:
        return pull(client, query, out, **more)


def same_crystals(library: Library, served: Library, rows: np.ndarray) -> bool:
    assert sorted(library.material_id) == sorted(f"here:{name}" for name in served.material_id[rows])
    place = {name: k for k, name in enumerate(library.material_id)}
    mine = library.crystals([place[f"here:{name}"] for name in served.material_id[rows]])
    theirs = served.crystals(rows)
    assert np.allclose(mine.volumes, theirs.volumes, rtol=1e-3)
    return bool((mine.numbers == theirs.numbers).all())


def test_all_pages_come(aflow: Library, tmp_path: Path) -> None:
    with serving(Served(aflow)) as url:
        report = got(url, tmp_path / "all.parquet", question(max_atoms=12))
    library = Library.open(tmp_path / "all.parquet")
    assert report.pulled == report.entries == len(library)
    assert same_crystals(library, aflow, np.flatnonzero(aflow.n_atoms <= 12))
    assert library.info().provenance == {("This machine", "CC0"): len(library)}
    assert set(library.about["modified"]) == {"2026-01-31"}
    assert len(set(library.about["retrieved"])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]


def test_questions(aflow: Library, tmp_path: Path) -> None:
    ratio, system = tuple(sorted(read_ratio("ABC3"))), read_elements("Ti,O")
    with serving(Served(aflow)) as url:
        got(url, tmp_path / "ratio.parquet", question(ratio=ratio))
        got(url, tmp_path / "system.parquet", question(elements=system))
        got(url, tmp_path / "both.parquet", question(elements=system, ratio=(2, 4), own="nsites<20"))
    assert same_crystals(Library.open(tmp_path / "ratio.parquet"), aflow, aflow.rows(ratio))
    of_system = Library.open(tmp_path / "system.parquet")
    assert set(of_system.info().elements) == {"Ti", "O"}
    assert len(of_system) == sum(
        set(numbers.tolist()) <= {8, 22} for _, _, numbers in aflow.crystals(aflow.all_rows()).arrays()
    )
    both = Library.open(tmp_path / "both.parquet")
    assert len(both.rows((1, 2))) == len(both) < len(of_system)


def test_filters_in_words() -> None:
    assert of_ratio((1, 3, 1)) == of_ratio((6, 2, 2)) == 'chemical_formula_anonymous="A3BC"'
    assert of_system(["S", "Mo"]) == (
        '(elements HAS ALL "Mo","S" AND nelements=2) OR (elements HAS ALL "Mo" AND nelements=1) '
        'OR (elements HAS ALL "S" AND nelements=1)'
    )
    assert question(max_atoms=5) == "(nsites<=5)"
    assert question() == ""
    with pytest.raises(InputError, match="no element 'Xx'"):
        read_elements("Mo,Xx")
    for text in ("", "abc", "AA2", "A0B", "AB-2"):
        with pytest.raises(InputError, match="no ratio"):
            read_ratio(text)


@pytest.mark.parametrize("fault", [500, 429, "html", "cut", "nonsense"])
def test_a_server_that_fails_in_the_middle_costs_a_page(aflow: Library, tmp_path: Path, fault: Any) -> None:
    served, out = Served(aflow), tmp_path / "some.parquet"
    query = question(max_atoms=8)
    with serving(served) as url:
        served.fault = dict.fromkeys(range(4, 60), fault)
        with pytest.raises(ProviderError, match="300 entries are kept: the same command goes on") as failed:
            got(url, out, query)
        assert "\n" not in str(failed.value)
        assert not out.exists()
        served.fault, before = {}, len(served.requests)
        report = got(url, out, query)
        pages = -(-report.pulled // 100)
        assert len(served.requests) - before == pages - 3
    assert same_crystals(Library.open(out), aflow, np.flatnonzero(aflow.n_atoms <= 8))
    assert report.notes == ("Went on after 300 entries that had come before.",)


def test_a_kill_costs_a_page(aflow: Library, tmp_path: Path) -> None:
    """Whatever was being written: the page itself, or what is said of it."""
    out, query = tmp_path / "some.parquet", question(max_atoms=8)
    with serving(Served(aflow)) as url:

        def killed(done: int, total: int) -> None:
            if done == 200:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            got(url, out, query, progress=killed)
        (folder,) = tmp_path.iterdir()
        (folder / "page-00003.parquet").write_bytes(b"half of a page")  # not said: not there
        got(url, out, query)
        assert same_crystals(Library.open(out), aflow, np.flatnonzero(aflow.n_atoms <= 8))
        with pytest.raises(InputError, match="is there already; --add"):
            got(url, out, query)
        (tmp_path / "others").mkdir()
        with pytest.raises(KeyboardInterrupt):
            got(url, tmp_path / "others" / "new.parquet", query, progress=killed)
        (folder,) = (tmp_path / "others").iterdir()
        (folder / "state.json").write_text("{")  # damaged: all anew
        assert got(url, tmp_path / "others" / "new.parquet", query).notes == ()


def test_a_server_that_is_overrun_is_waited_for(aflow: Library, tmp_path: Path) -> None:
    waits: list[float] = []
    served = Served(aflow, fault={2: 429, 3: 503, 4: 503})
    with (
        serving(served) as url,
        Client(Provider("here", url, "This machine"), 100, pause=waits.append) as client,
    ):
        report = pull(client, question(max_atoms=4), tmp_path / "some.parquet")
    assert waits == [1.0, 2.0, 4.0]
    assert report.licence == "CC0-1.0"  # as the server says


def test_a_server_that_takes_forever(aflow: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimade, "WHOLE", 0.3)
    with (
        serving(Served(aflow, fault={0: "stall"})) as url,
        pytest.raises(ProviderError, match="took too long"),
    ):
        got(url, tmp_path / "some.parquet")
    assert not list(tmp_path.iterdir())


def test_a_server_that_lies(aflow: Library, tmp_path: Path) -> None:
    query, out = question(max_atoms=3), tmp_path / "some.parquet"
    n = int((aflow.n_atoms <= 3).sum())
    with (
        serving(Served(aflow, claim=10 * n)) as url,
        pytest.raises(ProviderError, match=rf"counts {10 * n:,}"),
    ):
        got(url, out, query, page=1000)
    with serving(Served(aflow, claim=n - 3)) as url:
        assert f"It counts {n - 3} entries and sent {n}." in str(got(url, out, query, page=20))
    with (
        serving(Served(aflow, fault={0: "loop"})) as url,
        pytest.raises(ProviderError, match="again and again"),
    ):
        got(url, tmp_path / "loop.parquet", query, page=20)
    with (
        serving(Served(aflow, claim=10**6)) as url,
        pytest.raises(InputError, match=r"1,000,000 .* narrow it"),
    ):
        got(url, tmp_path / "huge.parquet", query)
    assert not [path for path in tmp_path.iterdir() if "huge" in path.name]


def test_a_server_of_small_pages(aflow: Library, tmp_path: Path) -> None:
    """It refuses larger ones, as the reference server does."""
    served = Served(aflow, largest=50, strict=True)
    with serving(served) as url:
        report = got(url, tmp_path / "some.parquet", question(max_atoms=3))
    assert report.pulled == (aflow.n_atoms <= 3).sum()


def test_no_server_and_no_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderError, match=r"^127.0.0.1:9 cannot be reached"):
        got("http://127.0.0.1:9", tmp_path / "some.parquet")
    with pytest.raises(InputError, match="no address"):
        resolve("ftp://somewhere")
    assert resolve("mp") is resolve("https://optimade.materialsproject.org/v1/") is PROVIDERS["mp"]
    monkeypatch.setenv("CSP_OFFLINE", "1")
    with pytest.raises(InputError, match=r"no provider 'nope' .* choose from mp, alexandria"):
        resolve("nope")
    with pytest.raises(ProviderError, match="CSP_OFFLINE is set"):
        got("http://127.0.0.1:9", tmp_path / "some.parquet")
    assert not list(tmp_path.iterdir())


def test_entries_that_are_no_crystals(aflow: Library, tmp_path: Path) -> None:
    cell, frac, numbers = aflow.crystals([0]).arrays()[0]

    def entry(name: str, **changes: Any) -> dict[str, Any]:
        found = resource(name, cell, frac, numbers)
        found["attributes"] |= changes
        return found

    first, *rest = resource("x", cell, frac, numbers)["attributes"]["species"]
    mixed = {**first, "chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}
    holes = {**first, "concentration": [0.5]}
    served = Served(
        extra=[
            entry("good"),
            entry("mixed", species=[mixed, *rest]),
            entry("holes", species=[holes, *rest]),
            entry("said", structure_features=["disorder"]),
            entry("hydrogens", structure_features=["implicit_atoms"]),
            entry("vacancy", species=[{**first, "chemical_symbols": ["vacancy"]}, *rest]),
            entry("layer", dimension_types=[1, 1, 0]),
            entry("molecule", lattice_vectors=None),
            entry("half", lattice_vectors=[[None] * 3, [0, 5, 0], [0, 0, 5]]),
            entry("flat", lattice_vectors=[[5, 0, 0], [0, 5, 0], [5, 5, 0]]),
            entry("none", cartesian_site_positions=None),
            entry("short", species_at_sites=["Na"]),
            entry("odd", lattice_vectors=[["a", 0, 0], [0, 5, 0], [0, 0, 5]]),
            {"id": "empty", "type": "structures"},
            {"type": "structures", "attributes": {}},
        ]
    )
    with serving(served) as url:
        report = got(url, tmp_path / "one.parquet")
    assert Library.open(tmp_path / "one.parquet").material_id.tolist() == ["here:good"]
    assert report.skipped["it has partial occupancies."] == 3
    assert sum(report.skipped.values()) == len(served.extra) - 1
    assert "2 left out: it is no structure." in str(report)
    served.extra = served.extra[1:4]
    served.__dict__.pop("index")
    with serving(served) as url, pytest.raises(InputError, match=r"No crystal came .* partial occupancies"):
        got(url, tmp_path / "none.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["one.parquet"]


def test_energies_of_providers() -> None:
    mp = PROVIDERS["mp"].energies(
        {
            "_mp_stability": {
                "gga_gga+u": {"energy_above_hull": 0.5, "formation_energy_per_atom": -1.0},
                "r2scan": {"energy_above_hull": 0.1, "formation_energy_per_atom": None},
            }
        }
    )
    assert mp == (0.1, -1.0)
    assert PROVIDERS["alexandria"].energies({"_alexandria_hull_distance": 0.02}) == (0.02, None)
    assert PROVIDERS["oqmd"].energies({"_oqmd_stability": -0.01, "_oqmd_delta_e": -2.0}) == (-0.01, -2.0)
    assert PROVIDERS["oqmd"].energies({"_oqmd_stability": "low"}) == (None, None)
    assert PROVIDERS["mp"].entry_id("mp-149") == "mp-149"
    assert PROVIDERS["oqmd"].entry_id("4061139") == "oqmd:4061139"


def test_several_sources_in_one_file(aflow: Library, tmp_path: Path) -> None:
    """What another source has too is marked; what one source sends again is replaced."""
    out, query = tmp_path / "some.parquet", question(ratio=(1, 1))
    own = aflow.rows((1, 1))
    one = Provider("one", "", "One", "CC0")
    with serving(Served(aflow)) as url:
        for name in ("One", "Two"):
            with Client(Provider(name.lower(), url, name, "CC0"), pause=lambda seconds: None) as client:
                report = pull(client, query, out, add=True)
        with Client(Provider("one", url, "One", "CC BY"), pause=lambda seconds: None) as client:
            again = pull(client, query, out, add=True)
    assert report.entries == again.entries == 2 * len(own)
    assert report.duplicates >= len(own) > 40
    library = Library.open(out)
    assert library.info().provenance == {("One", "CC BY"): len(own), ("Two", "CC0"): len(own)}
    place = {name: k for k, name in enumerate(library.material_id)}
    for name, first in zip(library.material_id, library.about["duplicate_of"], strict=True):
        if first is not None:
            assert library.origin[0][place[first]] != library.origin[0][place[name]]
            assert place[first] < place[name]
    assert "are crystals that another source has too" in str(library.info())
    assert one.entry_id("x") == "one:x"


def test_the_materials_projects_own_fields(aflow: Library, tmp_path: Path) -> None:
    def summaries(names: list[str]) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                material_id=name,
                energy_above_hull=0.25,
                formation_energy_per_atom=None,
                theoretical=k % 2 == 0,
            )
            for k, name in enumerate(names)
            if k < 4
        ]

    with serving(Served(aflow)) as url:
        got(url, tmp_path / "a.parquet", question(ratio=(1, 1)), enrich=own_fields("key", summaries))
    about = Library.open(tmp_path / "a.parquet").about
    assert about["e_above_hull"][:5].tolist() == [0.25] * 4 + [None]
    assert about["experimental"][:5].tolist() == [False, True, False, True, None]

    def refused(names: list[str]) -> list[Any]:
        raise ValueError("Invalid API key")

    with serving(Served(aflow)) as url, pytest.raises(ProviderError, match="with this key: Invalid API key"):
        got(url, tmp_path / "b.parquet", question(ratio=(1, 1)), enrich=own_fields("key", refused))
    assert not (tmp_path / "b.parquet").exists()


@pytest.mark.slow  # its import takes seconds
def test_the_client_of_the_materials_project_takes_what_it_is_asked() -> None:
    from emmet.core.summary import SummaryDoc
    from mp_api.client import MPRester
    from mp_api.client.routes.materials.summary import SummaryRester

    assert {"material_ids", "fields"} <= inspect.signature(SummaryRester.search).parameters.keys()
    assert {"api_key", "mute_progress_bars"} <= inspect.signature(MPRester).parameters.keys()
    assert set(FIELDS) <= SummaryDoc.model_fields.keys()


def test_memory_does_not_grow_with_the_pages(aflow: Library, tmp_path: Path) -> None:
    """What has come is on disk: every page is a file, and the state is small."""
    seen: list[int] = []
    with serving(Served(aflow)) as url:
        got(
            url,
            tmp_path / "all.parquet",
            question(max_atoms=10),
            page=50,
            progress=lambda done, total: seen.append(
                sum(pq.read_metadata(path).num_rows for path in tmp_path.rglob("page-*.parquet"))
            ),
        )
        states = list(itertools.pairwise(seen))
    assert states
    assert all(b > a for a, b in states)
    assert json.dumps(seen)
