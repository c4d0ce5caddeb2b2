"""The READMEs' commands are real: they parse, and the first of them runs (slow)."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.program import commands as program_commands

READMES = [
    ROOT / "README.md",
    *(ROOT / room / "README.md" for room in ("csp", "surrogates", "generators", "flows", "benchmarks")),
]


def commands() -> list[str]:
    """The indented lines of the READMEs that start with make or csp; a backslash joins two."""
    texts = (re.sub(r"\\\n\s+", "", path.read_text()) for path in READMES)
    return [
        line.strip() for text in texts for line in text.splitlines() if re.match(r"    (make|csp) ", line)
    ]


def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [*shlex.split(command), *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_there_are_two_first_commands() -> None:
    assert commands()[:2] == ["make predict FORMULA=SrTiO3", "make test"]


def test_links_lead_somewhere() -> None:
    for path in READMES:
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path}: {link}"


def test_make_knows_its_targets() -> None:
    for command in commands():
        if command.startswith("make"):
            done = run(command, "--dry-run", "--old-file=.venv/installed")
            assert done.returncode == 0, done.stderr
    assert "csp predict 'SrTiO3'" in run(commands()[0], "--dry-run").stdout


def test_csp_knows_its_commands_and_options() -> None:
    known = {" ".join(names): command for names, _, command in program_commands()}
    for line in commands():
        if line.startswith("csp"):
            words = shlex.split(line)[1:]
            name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
            options = {o for p in known[name].params for o in (*p.opts, *p.secondary_opts)}
            assert set(re.findall(r" (--[a-z][a-z0-9-]*)", line)) <= {*options, "--help"}, line


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_first_command_predicts(tmp_path: Path) -> None:
    done = run(commands()[0], f"ARGS=--out {tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "ranked.json").is_file()
