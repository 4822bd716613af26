"""Statements that are ended before their end: by the time that they may take, or because nobody waits any more."""

import asyncio
import threading
import time

import pytest
from sqlalchemy import text

from service.db.bounds import TooSlow, bounded
from service.db.engine import Database
from tests.patience import until

# Each takes minutes.
SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000000) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(300)",
}


async def run(database: Database, seconds: float, begun: asyncio.Event) -> None:
    async with database.reading() as connection, bounded(connection, seconds):
        begun.set()
        await connection.execute(text(SLOW[database.dialect]))


@pytest.mark.parametrize("how", ["its time is over", "it is cancelled"])
async def test_a_slow_statement_is_ended(database_url: str, how: str) -> None:
    database, begun = Database(database_url, pool=2), asyncio.Event()
    began = time.monotonic()
    if how == "it is cancelled":
        running = [asyncio.create_task(run(database, 60, begun)) for _ in range(2)]
        await begun.wait()
        await asyncio.sleep(0.2)
        for one in running:
            one.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        assert [type(one) for one in ended] == [asyncio.CancelledError] * 2
    else:
        with pytest.raises(TooSlow):
            await run(database, 0.2, begun)
    if database.dialect == "postgresql":
        await until(lambda: _is_idle(database), "Postgres to end it")
    await database.close()
    await until(_no_thread, "SQLite's threads to end")
    assert time.monotonic() - began < 20


async def _is_idle(database: Database) -> bool:
    here = "datname = current_database() AND state = 'active'"
    running = f"SELECT 1 FROM pg_stat_activity WHERE {here} AND query LIKE 'SELECT pg_sleep%'"
    async with database.reading() as connection:
        return (await connection.execute(text(running))).first() is None


async def _no_thread() -> bool:
    return not any("connection_worker" in one.name for one in threading.enumerate())
