"""The READMEs' commands are real: they parse, and the first of them runs (slow)."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

READMES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / room / "README.md" for room in ("csp", "surrogates", "generators", "flows", "benchmarks")),
]


def commands() -> list[str]:
    """The indented lines of the READMEs that start with make or csp; a backslash joins two."""
    texts = (re.sub(r"\\\n\s+", "", path.read_text()) for path in READMES)
    return [
        line.strip() for text in texts for line in text.splitlines() if re.match(r"    (make|csp) ", line)
    ]


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    program = [sys.executable, "-m", "csp"] if words[0] == "csp" else words[:1]
    return subprocess.run(
        [*program, *words[1:], *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_there_are_two_first_commands() -> None:
    assert commands()[:2] == ["make predict FORMULA=SrTiO3", "make test"]


def test_links_lead_somewhere() -> None:
    for path in READMES:
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
            if not link.startswith("https://"):
                assert (path.parent / link).exists(), f"{path}: {link}"


def test_make_knows_its_targets() -> None:
    for command in commands():
        if command.startswith("make"):
            done = run(command, "--dry-run", "--old-file=.venv/installed")
            assert done.returncode == 0, done.stderr
    assert "csp predict 'SrTiO3'" in run(commands()[0], "--dry-run").stdout


def test_the_program_starts() -> None:
    """What it knows of the commands and options in the documentation, `test_docs` asks."""
    assert "predict" in run("csp --help").stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_first_command_predicts(tmp_path: Path) -> None:
    done = run(commands()[0], f"ARGS=--out {tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "ranked.json").is_file()
