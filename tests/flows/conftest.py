"""A real `csp up` for the tests that need one, started once."""

from collections.abc import Iterator

import pytest

from tests.flows.process import Csp, new_csp, stop


@pytest.fixture(scope="session")
def csp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Csp]:
    """A `csp up` that all tests of the session may submit to."""
    started = new_csp(tmp_path_factory.mktemp("home"))
    process = started.up("--at-once", "2")
    yield started
    stop(process)
