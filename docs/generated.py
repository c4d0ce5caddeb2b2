"""Pages of the documentation that are made from the code: the command line, the settings, the extras, and
what stands in the root of the repository. A hook of mkdocs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from csp.__main__ import COMMANDS
from csp.cli.program import program
from csp.settings import SearchSettings

__all__ = ["EXTRAS", "command_line", "commands", "extras", "on_files", "options", "settings"]

ROOT = Path(__file__).parents[1]

EXTRAS = {
    "flows": "Work in the browser and as a group: `csp up`, `submit`, `status`, `results`.",
    "cluster": "Work on many machines: Dask, and PostgreSQL as the database of the runs.",
    "mp": "The Materials Project's own fields, with a key: `csp library pull --api-key`.",
    "matgl": "Potentials of matgl with other architectures than TensorNet, as matgl computes them.",
    "torch-sim": "Models of torch-sim for `csp.load_model`.",
    "notebook": "`Prediction.to_frame`.",
    "benchmarks": "The packages that the benchmarks compare with.",
    "docs": "Build this documentation (`make docs`).",
    "dev": "Change the engine: tests, style, types, import contracts.",
}
"""What each extra of pyproject.toml is for."""

KINDS = {
    "int": "integer",
    "integer range": "integer",
    "float": "number",
    "float range": "number",
    "str": "text",
}
KINDS |= {"Path": "path", "list": "text"}
"""How types are called."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made here."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


# -- the command line ---------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Every command and group of the program by its full name, "csp" first; hidden ones too."""
    return dict(_below("csp", program(COMMANDS)))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    command = command.load() if hasattr(command, "load") else command
    yield name, command
    for own, inside in getattr(command, "commands", {}).items():
        yield from _below(f"{name} {own}", inside)


def options(command: Any) -> list[str]:
    """All that a command takes on the command line, such as "--seed"."""
    return [name for param in command.params for name in (*param.opts, *param.secondary_opts)]


def command_line() -> str:
    """The page of the command line."""
    lines = [
        "# Command line",
        "",
        "This page is made from the program itself. `csp NAME --help` prints the same, and `python -m csp`",
        "is another way to call it.",
        "",
        "Exit codes: 0 all is well, 1 something failed, 2 the input is wrong, 3 something is missing on the",
        "machine, 4 little or nothing could be ranked, 130 interrupted (Ctrl-C), 143 ended (SIGTERM).",
        "",
    ]
    for name, command in commands().items():
        if name == "csp" or command.hidden:
            continue
        lines += [f"{'#' * (1 + name.count(' '))} {name}", "", _sentence(command.help or ""), ""]
        if not hasattr(command, "commands"):
            lines += [*_usage(name, command), *_parameters(command)]
    return "\n".join(lines) + "\n"


def _usage(name: str, command: Any) -> list[str]:
    arguments = [_written(param) for param in command.params if param.param_type_name == "argument"]
    return ["```text", " ".join([name, *arguments, "[OPTIONS]"]), "```", ""]


def _written(param: Any) -> str:
    name = str(param.name).upper()
    return name if param.required else f"[{name}]"


def _parameters(command: Any) -> list[str]:
    rows = [
        (_names(param), _kind(param), _default(param), _cell(getattr(param, "help", None) or ""))
        for param in command.params
        if not getattr(param, "hidden", False) and param.name != "help"
    ]
    if not rows:
        return []
    return [
        "| | value | default | meaning |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{_written(param)}`"
    return ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))


def _kind(param: Any) -> str:
    """What is written for a parameter. Older versions of typer have click's types, newer ones annotations."""
    if getattr(param, "is_flag", False):
        return "yes or no"
    if described := getattr(param, "type_descriptor", None):
        kind, low, high = getattr(described.annotation, "__name__", "text"), param.min, param.max
        if get_origin(described.annotation) is Literal:
            return " or ".join(f"`{choice}`" for choice in get_args(described.annotation))
    else:
        kind = param.type.name
        low, high = getattr(param.type, "min", None), getattr(param.type, "max", None)
    text = KINDS.get(kind, kind)
    if low is not None or high is not None:
        text += f", {_range(low, high)}"
    return text + (", repeatable" if param.multiple or param.nargs == -1 else "")


def _range(low: float | None, high: float | None) -> str:
    """ "1 to 5", "at least 1", "at most 5"."""
    if low is None:
        return f"at most {_number(high)}"
    return f"at least {_number(low)}" if high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return (f"{value:,}" if isinstance(value, int) else f"{value:,g}").replace("-", "−")


def _default(param: Any) -> str:
    if param.required:
        return "needed"
    value = param.default
    nothing = value is None or value is False or callable(value) or "unset" in str(value).lower()
    return "" if nothing or value in ((), [], "") else f"`{value}`"


# -- the settings -------------------------------------------------------------------------------------------


def settings() -> str:
    """The page of the settings of a search."""
    lines = [
        "# Settings of a search",
        "",
        "This page is made from `csp.settings.SearchSettings`, the one source for the command line,",
        "the forms in the browser, `csp.predict` and the record of a run. The setting `max_atoms` is",
        "`--max-atoms` on the command line and `max_atoms=` in Python. Lists may be written `a,b`.",
        "",
        "| setting | value | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in SearchSettings.model_fields.items():
        default = "needed" if field.is_required() else _plain(field.default)
        lines.append(f"| `{name}` | {_allowed(field)} | {default} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def _allowed(field: Any) -> str:
    """The kind of a setting, and its range."""
    kind = str(field.annotation)
    words = (
        (r"Literal\[(.*)\]", lambda found: found.group(1).replace("'", "`").replace(", ", " or ")),
        (r"bool", lambda _: "yes or no"),
        (r"tuple.*int", lambda _: "integers"),
        (r"tuple", lambda _: "names"),
        (r"\bint\b", lambda _: "integer"),
        (r"float", lambda _: "number"),
        (r"Path", lambda _: "file"),
    )
    text = next((make(found) for pattern, make in words if (found := re.search(pattern, kind))), "text")
    limits = {name: value for one in field.metadata for name, value in _limits(one)}
    low, high = limits.get("ge", limits.get("gt")), limits.get("le")
    if text in ("integer", "number") and high is not None:
        text += f", {'above ' if 'gt' in limits else ''}{_range(low, high)}"
    return text


def _limits(one: Any) -> Iterator[tuple[str, float]]:
    for name in ("ge", "gt", "le"):
        if (value := getattr(one, name, None)) is not None:
            yield name, value


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`" if value else ""
    return (
        ""
        if value is None or value is False
        else f"`{value:g}`"
        if isinstance(value, float)
        else f"`{value}`"
    )


# -- the extras, and pages of the root ----------------------------------------------------------------------


def extras() -> str:
    """The page of the optional parts of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        "# Extras",
        "",
        "`pip install 'csp-engine[NAME]'` (from a checkout: `pip install -e '.[NAME]'`) installs what an",
        "optional part needs. This table is made from `pyproject.toml`.",
        "",
        "| extra | for | packages |",
        "|---|---|---|",
    ]
    for name, packages in project["optional-dependencies"].items():
        lines.append(f"| `{name}` | {EXTRAS[name]} | {', '.join(f'`{package}`' for package in packages)} |")
    return "\n".join(
        [*lines, "", f"Python {project['requires-python'].replace('>=', '')} or newer is needed.", ""]
    )


def _root_page(name: str) -> Callable[[], str]:
    """A page of the repository's root; its links lead to files that are not part of the site."""

    def page() -> str:
        text = (ROOT / name).read_text(encoding="utf-8")
        return re.sub(r"\[([^\]]+)\]\((?!https?://|#)[^)]+\)", r"\1", text)

    return page


def _results() -> str:
    return _root_page("benchmarks/results/README.md")()


PAGES: dict[str, Callable[[], str]] = {
    "reference/command_line.md": command_line,
    "reference/settings.md": settings,
    "reference/extras.md": extras,
    "benchmarks/results.md": _results,
    "contributing.md": _root_page("CONTRIBUTING.md"),
    "changelog.md": _root_page("CHANGELOG.md"),
}


def _cell(text: str) -> str:
    """Text for a table: one line, no bars."""
    return " ".join(text.split()).replace("|", "\\|")


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text[-1] in ".?!" else f"{text}."
