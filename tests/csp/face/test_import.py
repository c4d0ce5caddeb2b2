"""`import csp`: quick, without PyTorch, and with the names that it promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import csp
from tests.places import ROOT

NAMES = [
    *("Crystals", "Library", "Prediction", "__version__"),
    *("errors", "explore", "load_model", "phonons", "predict", "predict_properties", "relax"),
]
TIMED = """
import sys, time
before = time.perf_counter()
import csp
print(time.perf_counter() - before, *{"torch", "numpy", "pymatgen", "ase", "pydantic"} & set(sys.modules))
"""


def test_the_names() -> None:
    assert csp.__all__ == NAMES == sorted(NAMES)
    assert dir(csp) == NAMES
    for name in NAMES:
        assert getattr(csp, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'predictions'"):
        csp.predictions  # noqa: B018


def test_editors_see_the_same_names() -> None:
    stub = ast.parse((ROOT / "csp" / "__init__.pyi").read_text())
    listed = [ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign)]
    imported = [name.asname for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names]
    assert listed == [NAMES]
    assert sorted([*imported, "__version__"]) == NAMES


def test_it_is_quick_and_imports_nothing_large() -> None:
    """The best of five: another process may have the core for a while."""
    runs = [
        subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True, cwd=ROOT)
        for _ in range(5)
    ]
    seconds = [run.stdout.split() for run in runs]
    assert all(len(words) == 1 for words in seconds)
    assert min(float(words[0]) for words in seconds) < 0.05


def test_all_packages_say_that_they_are_typed() -> None:
    for package in ("csp", "flows", "generators", "surrogates", "benchmarks"):
        assert (Path(ROOT) / package / "py.typed").is_file()
