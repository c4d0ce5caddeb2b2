"""SQLite as the server's database: writers wait for each other instead of being refused.

Prefect begins a transaction as a reader (BEGIN DEFERRED). When it then wants to write and another has written
since, SQLite refuses at once (SQLITE_BUSY_SNAPSHOT, https://www.sqlite.org/rescode.html), however long the
time-out. The browser does not ask again, and what was submitted is lost. A transaction that begins as a
writer (BEGIN IMMEDIATE) waits for its turn. What only reads begins none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database import dependencies
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

__all__ = ["writers_wait"]


class _WritersWait(AioSqliteConfiguration):
    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def writers_wait() -> None:
    """Have the server that this process starts next begin its transactions as writers, if on SQLite."""
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url.startswith("sqlite"):
        dependencies.set_database_config(_WritersWait(connection_url=url))
