"""A real `csp up` and a real PostgreSQL for the tests that need them, started once."""

from collections.abc import Iterator

import pytest

from tests.flows import postgres as postgres_server
from tests.flows.postgres import Postgres
from tests.flows.process import Csp, new_csp, stop


@pytest.fixture(scope="session")
def csp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Csp]:
    """A `csp up` that all tests of the session may submit to."""
    started = new_csp(tmp_path_factory.mktemp("home"))
    process = started.up("--at-once", "2")
    yield started
    stop(process)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that is running; a test that stops it starts it again."""
    with postgres_server.running() as server:
        yield server
