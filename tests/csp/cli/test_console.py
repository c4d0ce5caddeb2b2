"""What is said, and what of it is on which stream."""

from __future__ import annotations

import pytest

from csp.cli.console import fail, in_options, note
from csp.errors import InputError


def test_settings_are_named_as_options() -> None:
    assert in_options("raise `max_atoms` or lower `z`") == "raise --max-atoms or lower --z"
    assert in_options("start one with `csp up`") == "start one with `csp up`"


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    fail(InputError(f"[b]no[/b] {'long ' * 60}`resume`.", setting="max_atoms"))
    told = capsys.readouterr()
    assert told.err == f"csp: --max-atoms: [b]no[/b] {'long ' * 60}--resume.\n"
    assert told.out == ""


def test_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    note("see [out] :warning:")
    assert capsys.readouterr().err == "note: see [out] :warning:\n"
