"""The errors a person can cause or meet, each with the exit code of the command line."""

__all__ = ["ContractError", "CspError", "InputError", "LabelError", "MissingError", "StoreError"]


class CspError(Exception):
    """Base of all errors of the engine. Its message is one sentence meant for people."""

    exit_code = 1


class InputError(CspError, ValueError):
    """What was asked for is wrong: a formula, a setting, a file's contents."""

    exit_code = 2


class MissingError(CspError):
    """Something the machine should have is not there: a model, a library, a package."""

    exit_code = 3


class LabelError(CspError):
    """Energies of different labels (functional, correction, model) met in one comparison."""


class ContractError(CspError):
    """A generator or an energy model broke the contract of its protocol."""


class StoreError(CspError):
    """The database of a run cannot be read or written just now."""
