"""What submitted runs may read and write."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.context import FlowRunContext

from csp.errors import InputError
from csp.settings import SearchSettings
from flows.files import RunFiles
from flows.home import findable, runs
from flows.roots import for_results, roots, settings_within, usual_roots, within


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two roots, `home` and `libraries`, and what is outside."""
    for name in ("home", "libraries", "libraries-of-others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.parquet").touch()
    (tmp_path / "home" / "out").symlink_to(tmp_path / "libraries-of-others")
    monkeypatch.setenv("CSP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CSP_ROOTS", f"{tmp_path / 'home'}:{tmp_path / 'libraries'}:")
    return tmp_path


def test_what_is_inside_is_found(places: Path) -> None:
    inside = places / "libraries" / "libraries.parquet"
    assert within(inside) == inside
    assert within(Path("libraries.parquet")) == inside  # a relative path, in whichever root has it
    assert (
        within(places / "home" / ".." / "libraries" / "new") == places / "home" / ".." / "libraries" / "new"
    )


@pytest.mark.parametrize(
    "outside",
    [
        "/etc/passwd",
        "../libraries-of-others/libraries-of-others.parquet",
        "out/libraries-of-others.parquet",  # over a link
        "~root/x",
        "/",
        "..",
        "a" * 5000,
        "a\0b",
    ],
)
def test_what_is_outside_is_refused_in_one_sentence(outside: str, places: Path) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*\.$"):
        within(Path(outside))
    with pytest.raises(InputError):
        within(places / "libraries-of-others")  # begins as a root does


def test_results_are_written_over_nothing_else(places: Path) -> None:
    mine = places / "home" / "mine"
    (mine / "structures").mkdir(parents=True)
    with pytest.raises(InputError, match="holds other files"):
        for_results(mine)
    with pytest.raises(InputError, match="cannot be a folder"):
        for_results(places / "home" / "home.parquet")
    with pytest.raises(InputError, match="outside"):
        for_results(places / "libraries-of-others")
    new = for_results(places / "home" / "a" / "b")
    (new / "structures").mkdir()
    assert for_results(new) == new  # gone on with


def test_settings_of_a_submitted_run(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(**values: object) -> SearchSettings:
        return SearchSettings.read(formula="NaCl", generators=("random",), **values)

    usual = asked()
    assert settings_within(asked(library="/etc/passwd")).library == Path(
        "/etc/passwd"
    )  # nobody's but one's own
    monkeypatch.setattr(FlowRunContext, "get", lambda: object())
    assert settings_within(usual) == usual
    kept = settings_within(asked(library="libraries.parquet", relaxer="chgnet"))
    assert kept.library == places / "libraries" / "libraries.parquet"
    phases = ("NaCl", "CaSO4.2H2O", "libraries.parquet")
    kept = settings_within(asked(xrd="libraries.parquet", impurities=phases, properties="bulk_modulus"))
    assert kept.impurities == (*phases[:2], str(places / "libraries" / "libraries.parquet"))
    assert kept.properties == ("bulk_modulus",)
    for wrong in (
        {"library": "/etc/passwd"},
        {"cell": "../x.cif"},
        {"surrogate": "/tmp/x.safetensors"},
        {"surrogate": "../x.safetensors"},
        {"relaxer": "/tmp/model"},
        {"labeller": "~/model"},
        {"second_opinion": "/tmp/model"},
        {"properties": ("bulk_modulus", "/tmp/x.safetensors")},
        {"xrd": "libraries.parquet", "impurities": ("NaCl", "../x.cif")},
    ):
        with pytest.raises(InputError, match="outside"):
            settings_within(asked(**wrong))


def test_files_are_served_from_the_roots_only(places: Path) -> None:
    (runs() / "NaCl-1").mkdir(parents=True)
    (runs() / "NaCl-1" / "report.html").write_text("<script>")
    elsewhere = for_results(places / "libraries" / "run")
    (elsewhere / "ranked.csv").write_text("rank\n")
    findable(elsewhere, "NaCl-2")
    findable(elsewhere, "NaCl-2")
    (runs() / "NaCl-3").symlink_to(places / "libraries-of-others")
    files = RunFiles()
    for path, there in {
        "NaCl-1/report.html": True,
        "NaCl-2/ranked.csv": True,
        "NaCl-3/libraries-of-others.parquet": False,
        "../home.parquet": False,
        "NaCl-1/../../home.parquet": False,
        "NaCl-1/none": False,
    }.items():
        assert (files.lookup_path(path)[1] is not None) is there, path


def test_one_person_works_where_they_are(monkeypatch: pytest.MonkeyPatch, places: Path) -> None:
    monkeypatch.chdir(places / "libraries-of-others")
    monkeypatch.setenv("CSP_ROOTS", usual_roots())
    assert within(Path("libraries-of-others.parquet").absolute())
    monkeypatch.delenv("CSP_ROOTS")
    assert roots() == [places / "home"]
