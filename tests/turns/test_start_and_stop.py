"""A worker that stops leaves nothing behind: no task, and no connection whose closing never ends."""

import asyncio

from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from service.config import Settings
from service.db.engine import Database
from service.domain.tasks import end
from service.main import run_worker
from tests.conftest import PEPPER

LONG = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(0.5)",
}


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
