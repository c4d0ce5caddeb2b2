"""Errors keep what they say when they pass between processes, and guess what was meant."""

import pickle

import pytest

from csp.errors import InputError, did_you_mean


def test_an_error_keeps_its_setting() -> None:
    error = pickle.loads(pickle.dumps(InputError("there is none.", setting="cell")))
    assert (str(error), error.setting, error.message) == ("cell: there is none.", "cell", "there is none.")
    assert str(InputError("There is none.")) == "There is none."


@pytest.mark.parametrize(
    ("name", "otherwise", "ends"),
    [
        ("xss", "", "; did you mean xs?"),
        ("CHGNETT", "known are both", "; did you mean CHGNet? Known are both."),
        ("mace", "known are both", "; known are both."),
        ("mace", "", "."),
    ],
)
def test_what_was_probably_meant(name: str, otherwise: str, ends: str) -> None:
    assert did_you_mean(name, ["xs", "CHGNet"], otherwise) == ends
