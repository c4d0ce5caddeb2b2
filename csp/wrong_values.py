"""What pydantic finds wrong with a value, in the words of this program."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from csp.errors import InputError

__all__ = ["first_wrong"]

WHOLE, NUMBER, YES_OR_NO, A_LIST = "a whole number", "a number", "true or false", "a list"
LONGEST = 80  # letters of a value that is told
MUST_BE = {
    "bool_parsing": YES_OR_NO,
    "bool_type": YES_OR_NO,
    "finite_number": "a finite number",
    "float_parsing": NUMBER,
    "float_type": NUMBER,
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": WHOLE,
    "int_type": WHOLE,
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": A_LIST,
    "literal_error": "{expected}",
    "path_type": "a path",
    "string_too_long": "at most {max_length} letters long",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "too_short": "a list of at least {min_length}",
    "tuple_type": A_LIST,
}
"""By pydantic's name for what is wrong; in braces what it knows of it."""


def first_wrong(error: ValidationError) -> InputError:
    """The first thing that pydantic found wrong, in one sentence."""
    first = error.errors()[0]
    kind, value = first["type"], first["input"]
    context = {name: _number(limit) for name, limit in first.get("ctx", {}).items()}
    if kind in MUST_BE:
        message = f"must be {MUST_BE[kind].format(**context)}"
    elif kind == "extra_forbidden":
        message = "there is no such setting"
    else:
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        message = message[:1].lower() + message[1:]
    if kind != "value_error":  # validators name the value themselves
        message = f"{message} (got {_plain(value)})"
    return InputError(f"{message}.", setting=str(first["loc"][0]) if first["loc"] else None)


def _number(limit: Any) -> Any:
    """A limit as a person would write it: 1000, not 1000.0."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _plain(value: Any) -> str:
    """A value as a person would write it."""
    text = ",".join(map(_plain, value)) if isinstance(value, (list, tuple)) else str(value)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}…"
    return (text if text.isprintable() else repr(text)) or "nothing"
