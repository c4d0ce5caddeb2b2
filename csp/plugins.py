"""What other installed packages offer to the engine by name: their entry points.

A package offers a generator or an energy model with lines such as these in its `pyproject.toml`:

    [project.entry-points."csp.generators"]
    swarm = "their_package:Swarm"         # called as Swarm(library, volume_prior) → a Generator

    [project.entry-points."csp.models"]
    mace = "their_package:load_mace"      # called as load_mace(device) → an EnergyModel

(`csp.protocols` has the protocols, `csp.contracts` the checks of what they promise.) Reading the names
imports none of these packages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from importlib import metadata
from typing import Any

from csp.errors import InputError, MissingError

__all__ = ["GENERATORS", "MODELS", "about", "find", "load", "names", "origin"]

GENERATORS = "csp.generators"
MODELS = "csp.models"
WHAT = {GENERATORS: "generator", MODELS: "model"}


@cache
def _offered(group: str) -> dict[str, list[metadata.EntryPoint]]:
    """By name, in the order of names. A package that is there twice (an editable one, say) counts once."""
    found: dict[str, dict[tuple[str, str], metadata.EntryPoint]] = {}
    for entry in sorted(metadata.entry_points(group=group)):
        found.setdefault(entry.name, {})[origin(entry), entry.value] = entry
    return {name: list(entries.values()) for name, entries in found.items()}


def names(group: str) -> tuple[str, ...]:
    """The names that installed packages offer in a group, in alphabetical order."""
    return tuple(_offered(group))


def origin(entry: metadata.EntryPoint) -> str:
    """The package that an entry point is of, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package without a name"


def find(group: str, name: str, ours: Collection[str] = ()) -> metadata.EntryPoint | None:
    """What is offered under a name, None if nothing is.

    Args:
        ours: Names of the engine itself, which always mean what is the engine's.

    Raises:
        InputError: The name is one of ours, or several packages offer it.
    """
    entries = _offered(group).get(name, [])
    if not entries:
        return None
    what, packages = WHAT[group], " and ".join(map(origin, entries))
    if name in ours:
        raise InputError(
            f"{packages} offers a {what} {name!r}, which is the name of one of the engine's own; it must be "
            "uninstalled or offer it under another name."
        )
    if len(entries) > 1:
        raise InputError(f"The {what} {name!r} is offered by {packages}; uninstall all of them but one.")
    return entries[0]


def about(group: str, ours: Collection[str] = ()) -> dict[str, tuple[str, bool]]:
    """By name what people are told of it, and whether it can be used: of whom it is, or why it is refused."""
    told: dict[str, tuple[str, bool]] = {}
    for name in names(group):
        try:
            entry = find(group, name, ours)
        except InputError as error:
            told[name] = str(error), False
        else:
            told[name] = f"from {origin(entry)}" if entry else "", True
    return told


def load(entry: metadata.EntryPoint) -> Callable[..., Any]:
    """The function that an entry point names.

    Raises:
        MissingError: It cannot be imported.
        InputError: It is not a function.
    """
    try:
        made = entry.load()
    except (ImportError, AttributeError) as error:
        raise MissingError(f"{entry.name} of {origin(entry)} cannot be imported: {error}.") from error
    if not callable(made):
        raise InputError(f"{entry.name} of {origin(entry)} is no function.")
    return made
