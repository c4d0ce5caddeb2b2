"""What pyproject.toml declares against what is imported, and what is said where an extra is missing."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from csp.errors import MissingError
from csp.protocols import Label
from tests.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("csp", "flows", "generators", "surrogates", "benchmarks")
NOT_IMPORTED = {"fastapi"}  # of Prefect; a version of it that Prefect works with
OF_EXTRAS = ("flows", "mp", "cluster", "matgl", "torch-sim", "notebook", "benchmarks")
ONLY_NAMED = {"psycopg"}  # in the URL of a database


def distribution(requirement: str) -> str:
    return re.split(r"[\[<>=; ]", requirement)[0].lower().replace("_", "-")


def imported() -> dict[str, set[str]]:
    """Top-level name → our packages that import it."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.setdefault(node.module.split(".")[0], set()).add(package)
                elif isinstance(node, ast.Import):
                    for name in node.names:
                        found.setdefault(name.name.split(".")[0], set()).add(package)
    return found


@pytest.fixture(scope="module")
def used() -> set[str]:
    """Distributions that are imported, in lower case."""
    homes = packages_distributions()
    return {home.lower().replace("_", "-") for name in imported() for home in homes.get(name, [name])}


def test_every_dependency_is_used(used: set[str]) -> None:
    assert {distribution(one) for one in PROJECT["dependencies"]} - used == set()


def test_every_dependency_of_an_extra_is_used(used: set[str]) -> None:
    for extra in OF_EXTRAS:
        named = {distribution(one) for one in PROJECT["optional-dependencies"][extra]}
        unused = named - used - NOT_IMPORTED - ONLY_NAMED - {"csp-engine", "torch-sim-atomistic"}
        assert unused == set(), extra


def test_what_is_imported_is_declared() -> None:
    homes = packages_distributions()
    extras = [one for extra in OF_EXTRAS for one in PROJECT["optional-dependencies"][extra]]
    declared = {distribution(one) for one in [*PROJECT["dependencies"], *extras]} | {"torch-sim"}
    for name, by in imported().items():
        if name in sys.stdlib_module_names or name in (*PACKAGES, "gpaw"):  # GPAW's Python runs that file
            continue
        of = {home.lower().replace("_", "-") for home in homes.get(name, [name.replace("_", "-")])}
        if of & {"dask", "distributed", "typing-extensions", "pydantic-core"}:  # come with those
            assert by <= {"flows"}
            continue
        assert of & declared, f"{name} is imported by {', '.join(sorted(by))}"


def test_dev_has_all_extras() -> None:
    dev = next(one for one in PROJECT["optional-dependencies"]["dev"] if one.startswith("csp-engine"))
    wanted = set(PROJECT["optional-dependencies"]) - {"dev"}
    reached = set(re.findall(r"[\w-]+", dev.partition("[")[2]))
    for _ in wanted:  # extras that bring others
        for extra in list(reached):
            for one in PROJECT["optional-dependencies"][extra]:
                if one.startswith("csp-engine["):
                    reached |= set(re.findall(r"[\w-]+", one.partition("[")[2]))
    assert reached == wanted


def test_the_extras_that_are_named_exist() -> None:
    named = {
        extra
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for extra in re.findall(r"csp-engine\[([\w-]+)\]", path.read_text(encoding="utf-8"))
    }
    assert named == {"flows", "mp", "cluster", "matgl", "notebook", "benchmarks"}
    assert named <= set(PROJECT["optional-dependencies"])


def test_without_prefect_the_commands_of_flows_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from csp.__main__ import main

    for name in [one for one in sys.modules if one.split(".")[0] == "flows"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prefect", None)
    monkeypatch.setattr(sys, "argv", ["csp", "status"])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 3
    assert "This needs Prefect: pip install 'csp-engine[flows]'." in capsys.readouterr().err


def test_without_matgl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from surrogates.potentials.by_matgl import load_by_matgl

    monkeypatch.setitem(sys.modules, "matgl", None)
    with pytest.raises(MissingError, match=r"mine needs matgl: pip install 'csp-engine\[matgl\]'"):
        load_by_matgl(tmp_path, Label("PBE", "none", "1"), name="mine")


def test_without_the_client_of_the_materials_project(monkeypatch: pytest.MonkeyPatch) -> None:
    from csp.library.materials_project import own_fields

    monkeypatch.setitem(sys.modules, "mp_api", None)
    with pytest.raises(MissingError, match=r"needs mp-api: pip install 'csp-engine\[mp\]'"):
        own_fields("key")


def test_without_a_driver_for_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    from csp.store.tables import connect

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        MissingError, match=r"This database needs psycopg: pip install 'csp-engine\[cluster\]'"
    ):
        connect("postgresql+psycopg://nowhere/runs")
