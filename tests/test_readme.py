"""The README's commands are real: they parse, and the whole of them runs (slow)."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def commands() -> list[str]:
    """The indented lines of README.md that start with make or csp."""
    lines = (ROOT / "README.md").read_text().splitlines()
    return [line.strip() for line in lines if re.match(r"    (make|csp) ", line)]


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    words[0] = str(ROOT / ".venv" / "bin" / "csp") if words[0] == "csp" else words[0]
    return subprocess.run([*words, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_there_are_two_first_commands() -> None:
    assert commands()[:2] == ["make predict FORMULA=SrTiO3", "make test"]


def test_make_knows_its_targets() -> None:
    for command in commands():
        if command.startswith("make"):
            done = run(command, "--dry-run", "--old-file=.venv/installed")
            assert done.returncode == 0, done.stderr
    assert "csp predict 'SrTiO3'" in run(commands()[0], "--dry-run").stdout


def test_csp_knows_its_commands_and_options() -> None:
    for command in commands():
        if command.startswith("csp"):
            words = shlex.split(command)
            names = [w for w in words[1:3] if re.fullmatch(r"[a-z-]+", w) and w[0] != "-"]
            help_text = run(f"csp {' '.join(names)}", "--help").stdout
            for option in re.findall(r"--[a-z-]+", command):
                assert option in help_text, command


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_first_command_predicts(tmp_path: Path) -> None:
    done = run(commands()[0], f"ARGS=--out {tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "ranked.json").is_file()
