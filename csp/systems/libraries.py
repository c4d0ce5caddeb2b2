"""The library of an exploration: one for all searches where people have one, else what is asked for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from csp.errors import InputError
from csp.library.chosen import chosen
from csp.library.library import Library
from csp.library.on_demand import library_for
from csp.search.funnel import Progress
from csp.settings import AUTO_LIBRARY
from csp.systems.settings import ExploreSettings
from csp.systems.system import ChemicalSystem
from csp.target import Target

__all__ = ["SystemLibrary"]


@dataclass(frozen=True)
class SystemLibrary:
    """Known crystals for the references and the searches of a system, without what is left out.

    Attributes:
        settings: Name the library and what is left out of it.
        system: What is explored.
        progress: Called while a database is asked.
    """

    settings: ExploreSettings
    system: ChemicalSystem
    progress: Progress = lambda stage, done, total: None

    @cached_property
    def _opened(self) -> tuple[Library, str]:
        if self.settings.library != AUTO_LIBRARY:
            return Library.open(self.settings.library), ""
        found = library_for(self.system.target, ask=not self.settings.offline, progress=self.progress)
        return found.library, found.note

    @property
    def note(self) -> str:
        """Which library it is, a sentence; "" where people named it."""
        return self._opened[1]

    @cached_property
    def known(self) -> Library:
        """What the references are taken from, and what tells which ratios are known."""
        return _without(self._opened[0], self.settings.exclude)

    def of(self, target: Target) -> Library:
        """What a search for a composition has. Where its own crystals are left out, they are in it, for
        the search to leave them out and yet know them (`is_left_out`)."""
        whole = self._opened[0]
        if self.settings.library == AUTO_LIBRARY and chosen() is None:
            whole = library_for(target, ask=not self.settings.offline, progress=self.progress).library
        view = _without(whole, self.settings.exclude)
        if not self.is_left_out(target):
            return view
        return view.hiding(np.setdiff1d(view.hidden, whole.own_rows(target)))

    def is_left_out(self, target: Target) -> bool:
        """Is this composition among those left out?"""
        own = set(target.numbers)
        for text in self.settings.exclude:
            left_out = _left_out(text)
            if isinstance(left_out, Target):
                if left_out.formula == target.formula:
                    return True
            elif left_out <= own:
                return True
        return False


def _without(library: Library, exclude: Sequence[str]) -> Library:
    """A view without these formulas and without all that holds all elements of these systems."""
    hidden: list[NDArray[np.int64]] = [library.hidden]
    rows = library.all_rows()
    numbers, _ = library.compositions(rows) if exclude else (np.zeros((0, 0), np.int64), None)
    for text in exclude:
        left_out = _left_out(text)
        if isinstance(left_out, Target):
            hidden.append(np.setdiff1d(library.excluding(left_out).hidden, library.hidden))
        else:
            held = np.logical_and.reduce([(numbers == z).any(axis=1) for z in sorted(left_out)])
            hidden.append(rows[held])
    return library.hiding(np.unique(np.concatenate(hidden))) if exclude else library


@lru_cache(maxsize=64)
def _left_out(text: str) -> Target | frozenset[int]:
    """A composition, or the elements of a system.

    Raises:
        InputError: It is neither.
    """
    if "-" not in text:
        return Target.parse(text, max_atoms=10**6)
    system = ChemicalSystem.parse(text)
    if system.ends or system.host:
        raise InputError(
            f"{text!r} cannot be left out; name formulas, or systems of elements such as Li-P-S."
        )
    return frozenset(system.target.numbers)
