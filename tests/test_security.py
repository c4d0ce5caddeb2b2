"""What holds in all of the source, and that each line of the threat model has its test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import ROOT

PACKAGES = ("benchmarks", "csp", "flows", "generators", "surrogates")
LOADS = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
RUNS_WHAT_IT_READS = re.compile(
    r"(c?[pP]ickle|dill|cloudpickle|joblib|marshal|shelve)\.(load|loads|open|Unpickler)"
    r"|(yaml|toml)\.(unsafe_load|load|full_load)|eval|exec|os\.(system|popen)"
    r"|(tarfile|zipfile|shutil)\.\w*(open|ZipFile|unpack_archive)|pd\.read_pickle|numpy\.load"
)


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """All calls in the source: the file, the call, and the name that is called."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield path, node, ast.unparse(node.func)


def test_nothing_is_unpickled() -> None:
    """Arrays and weights are read as such; nothing that runs what it reads is called at all."""
    seen = set()
    for path, call, name in calls():
        assert not RUNS_WHAT_IT_READS.fullmatch(name), f"{path}:{call.lineno} {name}"
        if name in LOADS:
            seen.add(name)
            option, wanted = LOADS[name]
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
            assert given.get(option) is wanted, f"{path}:{call.lineno}"
    assert seen == LOADS.keys()


def test_no_shell_sees_what_others_wrote() -> None:
    for path, call, name in calls():
        shell = [keyword for keyword in call.keywords if keyword.arg == "shell"]
        assert not (name.startswith("subprocess.") and shell), f"{path}:{call.lineno}"


def lines() -> list[tuple[str, list[str]]]:
    """Of the threat model: the threat, and the names of its tests."""
    text = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
    rows = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("| ")][1:]
    return [(row[0].strip(), re.findall(r"`(test_\w+)`", row[-1])) for row in rows]


@pytest.mark.parametrize(("threat", "tests"), lines())
def test_each_line_of_the_threat_model_has_its_test(threat: str, tests: list[str]) -> None:
    assert tests
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in tests if f"def {name}(" not in source] == []
