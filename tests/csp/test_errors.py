"""Errors keep what they say when they pass between processes."""

import pickle

from csp.errors import InputError


def test_an_error_keeps_its_setting() -> None:
    error = pickle.loads(pickle.dumps(InputError("there is none.", setting="cell")))
    assert (str(error), error.setting, error.message) == ("cell: there is none.", "cell", "there is none.")
    assert str(InputError("There is none.")) == "There is none."
