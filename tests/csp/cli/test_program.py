"""The program as a whole: every command says what it is, and nothing slow is imported to say so."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT
from tests.program import commands, csp

SLOW = ("torch", "prefect", "pymatgen", "pandas", "matplotlib", "ase", "scipy")
ALL = list(commands())
MAIN = "import sys\nfrom csp.__main__ import main"
TELL = f"print(*(name for name in {SLOW} if name in sys.modules), file=sys.stderr)"
# What Ctrl-C does; a timer's thread may take longer to start than it is to wait. Some libraries swallow it
# while they are imported: people press again.
STOP_AFTER = (
    "import signal\nsignal.signal(signal.SIGALRM, signal.default_int_handler)\n"
    "signal.setitimer(signal.ITIMER_REAL, {}, 6.0)"
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["predict", "--help"]], ids=" ".join)
def test_nothing_slow_is_imported_to_say_what_there_is(words: list[str]) -> None:
    done = run("-c", f"{MAIN}\ntry: main()\nfinally: {TELL}", *words)
    assert done.returncode == (0 if words else 2)
    assert done.stderr.splitlines()[-1] == ""


def test_nothing_slow_is_imported_for_the_help_of_any_command() -> None:
    done = run("-c", f"import sys\nfrom tests.program import commands\nprint(len(list(commands())))\n{TELL}")
    assert int(done.stdout) > 30
    assert done.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize(("names", "known", "command"), ALL, ids=[" ".join(names) for names, _, _ in ALL])
def test_each_command_and_option_says_what_it_is(names: tuple[str, ...], known: Any, command: Any) -> None:
    assert command.help
    assert known.help.split("\n")[0] == command.help.split("\n")[0]
    for parameter in command.params:
        assert parameter.help, f"{' '.join(names)}: {parameter.name}"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("--version") == 0
    assert capsys.readouterr().out == f"csp {metadata.version('csp-engine')}\n"


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("predit", "NaCl") == 2
    assert "Did you mean 'predict'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("library import", "library import needs SOURCE, OUT, --source and --licence; "
         "`csp library import --help` explains."),
        ("library import a b --licence x", "library import needs --source; "
         "`csp library import --help` explains."),
        ("predict", "predict needs FORMULA; `csp predict --help` explains."),
        ("predict Si --pressur 3", "predict has no option --pressur; did you mean --pressure? "
         "`csp predict --help` lists them."),
        ("predict Si --qq", "predict has no option --qq; `csp predict --help` lists them."),
        ("--qq", "the program has no option --qq; `csp --help` lists them."),
        ("predict Si --candidates x", "--candidates: must be a whole number (got x)."),
        ("up --port 0", "--port: must be at least 1 (got 0)."),
        ("train surrogate --seed", "Option '--seed' requires an argument."),
        ("models lst", "No such command 'lst'. Did you mean 'list'? `csp models --help` explains."),
        ("models verify a b", "Got unexpected extra argument(s) (b); `csp models verify --help` explains."),
    ],
)  # fmt: skip
def test_wrong_words_get_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert csp(*words.split()) == 2
    assert capsys.readouterr().err == f"csp: {said}\n"


def test_nothing_is_taken_for_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "[bold]a[/] [red]:smile:.parquet")
    assert csp("predict", "Si", "--library", path, "--out", str(tmp_path / "out")) == 3
    assert path in capsys.readouterr().err
    assert csp("predict", "[Ba(FeAs)2") == 2
    assert "'[Ba(FeAs)2'" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_may_lack_characters(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for words, code in ((["predict", "--help"], 0), (["match", "σ.cif", "∞"], 2)):
        command = [sys.executable, "-m", "csp", *words]
        done = subprocess.run(command, capture_output=True, env=environment, cwd=ROOT, check=False)
        assert done.returncode == code, done.stderr
    assert b"sigma.cif" in done.stderr


@pytest.mark.parametrize("after", [0.02, 0.1, 0.5, 1.0, 2.0])
def test_ctrl_c_while_things_are_imported(after: float, tmp_path: Path) -> None:
    """However early or late it comes: one line, no traceback."""
    done = run(
        "-c", f"{MAIN}\n{STOP_AFTER.format(after)}\nmain()", "predict", "NaCl", "--out", str(tmp_path / "run")
    )
    assert done.returncode == 130, done.stderr
    assert [line[:16] for line in done.stderr.splitlines() if " after " not in line] == ["csp: Interrupted"]
