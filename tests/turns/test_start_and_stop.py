"""A worker that stops leaves nothing behind: no task, and no connection whose closing never ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, nullcontext
from time import monotonic

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from service.config import Settings
from service.db.engine import Database
from service.domain.tasks import end
from service.errors import Unavailable
from service.main import run_worker
from tests.conftest import PEPPER, MakeDatabase
from tests.turns.house import ENDING, House, open_house

LONG = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(0.5)",
}


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as house:
        yield house


async def test_a_worker_that_stops_at_once_leaves_no_task(database_url: str) -> None:
    settings = Settings(database_url=database_url, pepper=SecretStr(PEPPER), local_model="off", drain_seconds=1)
    for number in range(5):
        async with run_worker(FastAPI(), settings):
            await asyncio.sleep(number * 0.002)
        await asyncio.sleep(0.05)
        assert others() == []


async def test_a_task_that_ends_inside_a_query_lets_the_database_close(database_url: str) -> None:
    database = Database(database_url)

    async def read() -> None:
        async with database.reading() as connection:
            started.set()
            await connection.execute(text(LONG[database.dialect]))

    started = asyncio.Event()
    task = asyncio.create_task(read())
    await started.wait()
    await asyncio.sleep(0.05)
    await asyncio.wait_for(end(task, None), 10)
    assert task.cancelled()
    await asyncio.wait_for(database.close(), 10)
    assert others() == []


def others() -> list[str]:
    """The names of the tasks beside the test's own."""
    return [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()} if not task.done()]


async def test_a_drain_ends_though_the_database_is_held_up(
    house: House, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that is begun meanwhile, and one that is to end, are left to others, and no task of theirs goes on."""
    monkeypatch.setattr("service.turns.engine.STOP_SECONDS", 0.5)
    gate = asyncio.Event()
    house.provider.script = ["so far ", gate, ENDING]
    live = await house.begin()
    async with aclosing(live.follow()) as batches:
        await anext(batches)
    async with held_up(database_url):
        beginning = asyncio.create_task(house.begin())
        await asyncio.sleep(0.05)
        gate.set()
        began = monotonic()
        await house.engine.drain(0.1)
        assert monotonic() - began < 10
        with pytest.raises(Unavailable):
            await beginning
        assert others() == []
        with pytest.raises(Unavailable):
            await house.begin()
    (row,) = await house.rows(f"SELECT status FROM completions WHERE id = {live.turn.completion_id}")
    assert row.status == "in_progress"


@asynccontextmanager
async def held_up(url: str) -> AsyncIterator[None]:
    """While somebody else holds what every turn writes to."""
    other = Database(url)
    try:
        async with other.transaction() as connection:
            if other.dialect == "postgresql":
                await connection.execute(text("LOCK TABLE completions IN ACCESS EXCLUSIVE MODE"))
            yield
    finally:
        await other.close()


async def test_a_statement_may_take_as_long_as_it_is_given(make_database: MakeDatabase) -> None:
    """Requests are given seconds; what proves a whole ledger is given as long as it needs."""
    with make_database("postgres") as url:
        for seconds, answers in ((0.3, False), (None, True)):
            database = Database(url, statement_seconds=seconds)
            with nullcontext() if answers else pytest.raises(Unavailable):
                async with database.reading() as connection:
                    await connection.execute(text("SELECT pg_sleep(0.8)"))
            await database.close()
