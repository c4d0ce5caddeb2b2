"""The documentation has what it should have. `make docs` builds it, where any warning is an error."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import itertools
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import csp
import csp.settings
from csp.relaxation.relax import Status
from csp.report import files
from csp.search.stages import STAGES
from csp.settings import SearchSettings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READMES = [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/README.md")]
TINY = {
    "candidates": 20,
    "screened": 40,
    "relaxed": 6,
    "refined": 2,
    "rattled": 0,
    "max_steps": 5,
    "progress": False,
}


FEW = {"candidates": 8, "screened": 8, "relaxed": 2, "refined": 1, "rattled": 0}
NARROW = {
    "generators": "random",
    "library": "none",
    "relaxer": "none",
    "searches": 3,
    "max_atoms": 2,
    "largest_cell": 4,
    "depth": "quick",
    "progress": False,
}


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """docs/generated.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def commands(generated: ModuleType) -> dict[str, Any]:
    return generated.commands()


class _Loader(yaml.SafeLoader):
    """mkdocs.yml without what is only for mkdocs."""


def nav(entries: list[Any]) -> list[str]:
    """The pages of a part of the navigation."""
    pages = []
    for entry in entries:
        inside = next(iter(entry.values())) if isinstance(entry, dict) else entry
        pages += nav(inside) if isinstance(inside, list) else [inside]
    return pages


def test_every_page_is_in_the_navigation_and_there(generated: ModuleType) -> None:
    listed = nav(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)["nav"])
    written = [page.relative_to(DOCS).as_posix() for page in PAGES]
    assert sorted(listed) == sorted([*written, *generated.PAGES])


def test_every_command_and_every_option_is_in_the_reference(
    generated: ModuleType, commands: dict[str, Any]
) -> None:
    page = generated.command_line()
    assert {"csp predict", "csp match", "csp up", "csp benchmark recovery"} <= set(commands)
    for name, command in commands.items():
        if name == "csp" or command.hidden:
            continue
        assert f"# {name}\n" in page
        section = page.split(f"# {name}\n")[1].split("\n#")[0]
        for param in () if hasattr(command, "commands") else command.params:
            if param.param_type_name == "option" and not param.hidden and param.name != "help":
                assert f"`{param.opts[0]}`" in section, name
    assert "<class" not in page


def test_every_setting_is_in_the_reference(generated: ModuleType) -> None:
    page = generated.settings()
    for name, field in SearchSettings.model_fields.items():
        assert f"| `{name}` |" in page
        assert field.description
        assert field.description in page


def test_ranges_and_defaults_of_the_settings(generated: ModuleType) -> None:
    page = generated.settings()
    assert "| `candidates` | integer, 1 to 1,000,000 | `500` |" in page
    assert "| `pressure` | number, −50 to 1,000 | `0` |" in page
    assert "| `order` | `probability` or `energy` | `probability` |" in page
    assert "| `formula` | text | needed |" in page


def test_every_extra_has_a_line(generated: ModuleType) -> None:
    page = generated.extras()
    for name, words in generated.EXTRAS.items():
        assert f"| `{name}` | {words} |" in page


def test_every_environment_variable_is_listed() -> None:
    page = (DOCS / "reference" / "environment.md").read_text(encoding="utf-8")
    for room in ("csp", "flows", "generators", "surrogates", "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            for name in re.findall(r"\"(CSP_[A-Z_]+)\"", path.read_text(encoding="utf-8")):
                assert f"| `{name}` |" in page, path


def test_every_key_and_status_of_the_files_is_listed() -> None:
    page = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    for made in (files._ranked, files._run):
        for key in re.findall(r"^        \"(\w+)\":", inspect.getsource(made), flags=re.M):
            assert re.search(rf"^\| [^|]*`{key}`", page, flags=re.M), key
    for status in Status:
        assert f"`{status}`" in page


def test_every_stage_is_explained() -> None:
    table = (DOCS / "explanation" / "algorithm.md").read_text(encoding="utf-8")
    for stage in STAGES:
        assert f"| {stage.name} |" in table
    assert [s.name for s in STAGES] == re.findall(r"^\| ([a-z_]+) \|", table.replace("| stage |", ""), re.M)


def test_the_glossary_is_in_order_and_each_word_has_one_meaning() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^(\S.*)\n:   ", text, flags=re.M)
    greek = {"δ": "delta", "σ": "sigma"}
    keys = ["".join(greek.get(c, c) for c in word.lower()) for word in words]
    assert keys == sorted(keys)
    assert len(set(words)) == len(words)


def bash(path: Path) -> list[str]:
    """The commands of a page: the lines of its bash blocks and its indented ones; a backslash joins two."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.S))
    lines = [*blocks.splitlines(), *re.findall(r"^    ((?:csp|make) .*)$", text, flags=re.M)]
    return [line.strip() for line in lines if line.strip()]


@pytest.mark.parametrize("page", [*READMES, *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_their_options_are_the_programs(
    page: Path, generated: ModuleType, commands: dict[str, Any]
) -> None:
    for line in bash(page):
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.M), line
            continue
        words = shlex.split(line.replace("…", ""))
        words = list(itertools.dropwhile(lambda word: re.match(r"[A-Z_]+=|export$", word), words))
        if not words:  # variables for the lines below
            continue
        assert words[0] == "csp", line
        name = max(
            (" ".join(words[:n]) for n in (2, 3) if " ".join(words[:n]) in commands), key=len, default=""
        )
        assert name, line
        known = generated.options(commands[name])
        for option in (word for word in words if word.startswith("--")):
            assert option in known, line


def own_code() -> list[str]:
    """Python of the pages that is of no example; `test_examples` runs the others."""
    texts = [path.read_text(encoding="utf-8") for path in [*READMES, *PAGES]]
    blocks = [block for text in texts for block in re.findall(r"```python\n(.*?)```", text, flags=re.S)]
    return list(dict.fromkeys(block for block in blocks if "--8<--" not in block))


@pytest.mark.parametrize("code", own_code())
def test_python_lines_run(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small numbers."""
    monkeypatch.setattr(csp, "predict", functools.partial(csp.predict, **TINY), raising=False)
    if "csp.explore" in code:
        explore = csp.explore
        monkeypatch.setattr("csp.settings.QUICK", {**csp.settings.QUICK, **FEW})
        monkeypatch.setattr(csp, "explore", lambda system, **more: explore(system, **{**more, **NARROW}))
    exec(compile(code, "a page", "exec"), {})


def test_snippets_are_there() -> None:
    for page in PAGES:
        for place in re.findall(r'--8<-- "([^"]+)"', page.read_text(encoding="utf-8")):
            file, _, section = place.partition(":")
            text = (ROOT / file).read_text(encoding="utf-8")
            assert not section or f"--8<-- [start:{section}]" in text, f"{page}: {place}"


def test_nothing_is_loaded_from_elsewhere() -> None:
    theme = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    assert theme["theme"]["font"] is False
    for page in PAGES:
        assert not re.search(r"!\[[^\]]*\]\(https?:|<script|<img", page.read_text(encoding="utf-8")), page
