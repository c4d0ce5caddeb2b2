"""The errors a person can cause or meet, each with the exit code of the command line."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ContractError",
    "CrystalError",
    "CspError",
    "InputError",
    "LabelError",
    "MissingError",
    "ProviderError",
    "StoreError",
    "did_you_mean",
    "of_system",
]


class CspError(Exception):
    """Base of all errors of the engine. Its message is one sentence meant for people.

    Settings that would mend it are named in backticks, as in "raise `max_atoms`": the command line writes
    them as its options.

    Attributes:
        message: The sentence.
        setting: Name of the setting that is wrong, where it is one; `str` puts it before the sentence.
    """

    exit_code = 1

    def __init__(self, message: str = "", *, setting: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.setting = setting

    def __str__(self) -> str:
        return f"{self.setting}: {self.message}" if self.setting else self.message


class InputError(CspError, ValueError):
    """What was asked for is wrong: a formula, a setting, a file's contents."""

    exit_code = 2


class CrystalError(InputError):
    """A crystal of a file or a database that cannot be used.

    Attributes:
        kind: What is wrong in a few words, to count by.
        clause: The same of this crystal, "it has partial occupancies".
    """

    def __init__(self, kind: str, clause: str, *, of: str = "") -> None:
        super().__init__(f"{of} cannot be used: {clause}." if of else f"{clause}.")
        self.kind, self.clause = kind, clause

    def named(self, name: object) -> CrystalError:
        """The same with the name of the crystal in its sentence."""
        return CrystalError(self.kind, self.clause, of=str(name))


class MissingError(CspError):
    """Something the machine should have is not there: a model, a library, a package."""

    exit_code = 3


class LabelError(CspError):
    """Energies of different labels (functional, correction, model) met in one comparison."""


class ContractError(CspError):
    """A generator or an energy model broke the contract of its protocol."""


class StoreError(CspError):
    """The database of a run cannot be read or written just now."""


def of_system(error: OSError) -> CspError:
    """What the system refuses, in one sentence: a disk that is full, a folder that may not be written."""
    if error.errno == errno.ENOSPC:
        return CspError("The disk is full.")
    reason = (error.strerror or str(error)).splitlines()[0].rstrip(".")
    name = error.filename2 or error.filename  # of two, the one that was to be
    return CspError(f"{name}: {reason}." if name else f"{reason}.")


class ProviderError(CspError):
    """A database elsewhere cannot be reached, refuses, or answers what cannot be understood.

    Attributes:
        transient: May it help to ask again?
        refused: Did the server understand the question and refuse it?
        retry_after: Seconds after which the server wants to be asked again; 0: it does not say.
    """

    exit_code = 3

    def __init__(
        self, message: str, *, transient: bool = False, refused: bool = False, retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.refused = refused
        self.retry_after = retry_after


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence on an unknown name: "; did you mean xs?" for the nearest that is known.

    Args:
        name: That is not known.
        known: Those that are.
        otherwise: The end of the sentence where none is near, or after the question.
    """
    by_letters = {_letters(one): one for one in known}
    near = get_close_matches(_letters(name), by_letters, n=1)
    if not near:
        return f"; {otherwise}." if otherwise else "."
    question = f"; did you mean {by_letters[near[0]]}?"
    return f"{question} {otherwise[:1].upper()}{otherwise[1:]}." if otherwise else question


def _letters(name: str) -> str:
    """What counts when names are compared: neither capitals nor the dashes of options."""
    return name.lower().lstrip("-")
