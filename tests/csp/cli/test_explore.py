"""`csp explore` as a person meets it."""

from __future__ import annotations

import pytest

from tests.program import csp


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("Li",), "one element"),
        (("Li-Xx",), "no element Xx"),
        (("Li-P-S-O-N-F-Cl",), "at most 6"),
        (("Li-P-S", "--searches", "0"), "--searches"),
        (
            ("Li-P-S", "--for", "hardness max"),
            "--for: no model gives the property 'hardness'; there are models of ",
        ),
        (("Li-P-S", "--depth", "bottomless"), "--depth"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert csp("explore", *arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
