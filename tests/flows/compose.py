"""compose.yaml without Docker: its services' commands and environments, for processes of this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.places import ROOT

__all__ = ["Service", "service", "variables"]

VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


@dataclass(frozen=True)
class Service:
    """What a container of it would run, and with which variables."""

    command: list[str]
    environment: dict[str, str]
    health: list[str]


def service(name: str, given: Mapping[str, str], instead: Mapping[str, str]) -> Service:
    """A service as Compose reads it.

    Args:
        given: The variables that whoever calls `docker compose` sets.
        instead: Places in containers → those that take their part here.
    """
    found = read("compose.yaml")["services"][name]

    def here(text: Any) -> str:
        text = _interpolated(str(text), given)
        for place, other in instead.items():
            text = text.replace(place, other)
        return text

    command = shlex.split(found.get("command", ""))
    health = found.get("healthcheck", {}).get("test", ["CMD"])
    return Service(
        [here(word) for word in command],
        {key: here(value) for key, value in found["environment"].items()},
        [here(word) for word in health[1:]],
    )


def read(file: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))


def variables(file: str) -> set[str]:
    """The names that a file asks its surroundings for."""
    text = "\n".join(line.split(" #")[0] for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    return {found[2] for found in VARIABLE.finditer(text) if found[2]}


def _interpolated(text: str, given: Mapping[str, str]) -> str:
    """${NAME}, ${NAME:-default} and ${NAME:?error} (compose-spec, 12-interpolation.md)."""

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return "$"
        known = given.get(found[2], "")
        assert known or found[3] != "?", f"{found[2]}: {found[4]}"
        return known or (found[4] or "" if found[3] == "-" else "")

    return VARIABLE.sub(value, text)
