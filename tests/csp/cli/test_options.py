"""The settings of a search are options of the commands that search, all of them, as the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from csp.cli.options import takes_settings
from csp.settings import SearchSettings
from tests.program import commands, csp

FIELDS = SearchSettings.model_fields
COMMANDS = {" ".join(names): command for names, _, command in commands()}


@pytest.mark.parametrize("name", ["predict", "submit"])
def test_each_field_is_an_option_with_its_help_and_its_default(name: str) -> None:
    parameters = {parameter.name: parameter for parameter in COMMANDS[name].params}
    assert FIELDS.keys() <= parameters.keys()
    for field, about in FIELDS.items():
        assert parameters[field].help == about.description
        if field != "formula":
            assert parameters[field].opts == [f"--{field.replace('_', '-')}"]
            # what is on without being asked for can be switched off
            off = [f"--no-{field.replace('_', '-')}"] if about.default is True else []
            assert parameters[field].secondary_opts == off
            default = parameters[field].default
            assert SearchSettings.read(formula="Si", **{field: default}) == SearchSettings(formula="Si")


def read(*words: str) -> tuple[SearchSettings, dict[str, Any]]:
    seen: list[Any] = []

    @takes_settings
    def command(settings: SearchSettings, out: Path | None = None) -> None:
        seen.append((settings, {"out": out}))

    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return seen[0]


def test_what_is_written_is_what_is_read() -> None:
    assert read("Si") == (SearchSettings(formula="Si"), {"out": None})
    words = "Si --no-hull --space-groups 216,186 --generators random --cell a.cif --pressure -1.5 --z 2"
    words += " --out b"
    settings, own = read(*words.split())
    assert settings == SearchSettings(
        formula="Si",
        hull=False,
        space_groups=(216, 186),
        generators=("random",),
        cell=Path("a.cif"),
        pressure=-1.5,
        z=2,
    )
    assert own == {"out": Path("b")}


def test_the_former_name_of_a_setting_still_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("predict", "Xx", "--finished", "3") == 2
    assert capsys.readouterr().err.splitlines()[0] == "note: --finished is called --refined now."
    assert read("Si", "--finished", "3")[0].refined == 3
    assert "finished" not in COMMANDS["predict"].get_help(COMMANDS["predict"].make_context("", ["Si"]))


def test_a_wrong_value_is_said_with_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("predict", "Si", "--candidates", "0") == 2
    expected = "csp: --candidates: must be at least 1 (got 0).\n"
    assert capsys.readouterr().err == expected
