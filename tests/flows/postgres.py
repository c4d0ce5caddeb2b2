"""A real PostgreSQL for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from csp.errors import MissingError
from flows.soak.postgres import Postgres, postgres

__all__ = ["Postgres", "running"]


@contextmanager
def running() -> Iterator[Postgres]:
    """A server that is running; skips where PostgreSQL is not installed."""
    try:
        with postgres() as server:
            yield server
    except MissingError as error:
        pytest.skip(str(error))
