"""Keywords of the functions of `import csp`: an unknown one is told with those that are known."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from csp.errors import InputError, did_you_mean

__all__ = ["check_keyword", "says_what_it_knows"]

F = TypeVar("F", bound=Callable[..., Any])
MANY = 12  # keywords, more of which nobody reads in a sentence


def says_what_it_knows(function: F) -> F:
    """The same function, which refuses a keyword that it does not know (InputError) before all else."""
    known = list(inspect.signature(function).parameters)

    @wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        for name in keywords:
            check_keyword(f"csp.{function.__name__}", name, known)
        return function(*arguments, **keywords)

    return checked  # type: ignore[return-value]


def check_keyword(function: str, name: str, known: Iterable[str]) -> None:
    """Is a keyword known?

    Args:
        function: What is called, as it is called.

    Raises:
        InputError: It is not; with what was probably meant, and what there is.
    """
    names = list(known)
    if name in names:
        return
    there = f"see help({function})" if len(names) > MANY else f"it knows {', '.join(names)}"
    raise InputError(f"{function} knows no {name!r}{did_you_mean(name, names, there)}")
