"""Turns that end at once write one user's ledger while others fold it: nobody waits in a circle, nothing is missing."""

import asyncio

from sqlalchemy import text

from service.db.engine import Database
from service.db.ids import Ids
from service.turns.engine import Engine
from service.usecases.audit import Audit
from service.usecases.folding import Folding
from tests.turns.house import House, open_house

TURNS = 200
ENTRIES = "SELECT count(*), sum(output_tokens), sum(cost_nano) FROM ledger_entries"
ROLLED = """
    SELECT sum(requests), sum(output_tokens), sum(cost_nano) FROM usage_rollups
    WHERE user_id IN (0, 1) GROUP BY user_id, span"""


async def test_two_hundred_turns_that_end_at_once_are_all_in_the_rollups(database_url: str) -> None:
    before = await deadlocks(database_url)
    async with open_house(database_url) as house:
        gate = asyncio.Event()
        house.provider.script.insert(1, gate)
        other = Engine(house.database, Ids(house.database), house.registry, lease_seconds=30)
        there = House(house.database, house.ids, house.provider, house.registry, other)
        lives = await asyncio.gather(*((house, there)[n % 2].begin() for n in range(TURNS)))
        over = asyncio.Event()
        folding = [asyncio.create_task(fold_until(over, Folding(house.database))) for _ in range(2)]
        gate.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*(live.finished.wait() for live in lives))
        over.set()
        folds = sum(await asyncio.gather(*folding))
        await other.drain(5)
        assert folds > 2
        assert {row.status for row in await house.rows("SELECT status FROM completions")} == {"completed"}
        [entries] = [tuple(row) for row in await house.rows(ENTRIES)]
        assert entries[0] == TURNS
        # The user's by hour and day, and everybody's by quarter of an hour as well.
        assert [tuple(row) for row in await house.rows(ROLLED)] == [entries] * 5
        assert (await Audit(house.database, house.ids).verify()).holds
    assert await deadlocks(database_url) == before


async def deadlocks(url: str) -> int:
    """How many Postgres has ended in this database; a connection tells of them when it is closed."""
    database = Database(url, pool=1)
    try:
        if database.dialect == "sqlite":
            return 0
        async with database.reading() as connection:
            counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            return int((await connection.execute(text(counted))).scalar_one())
    finally:
        await database.close()


async def fold_until(over: asyncio.Event, folding: Folding) -> int:
    """How often something was folded, the last time after all was over."""
    times = 0
    while not over.is_set():
        await folding.fold()
        times += 1
        await asyncio.sleep(0)
    await folding.fold()
    return times
