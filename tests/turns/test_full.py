"""A database that has no room any more: the turn that runs waits, a new one is refused and leaves no row."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from sqlalchemy import Connection, event

from service.errors import DatabaseFull
from tests.patience import until
from tests.turns.house import ENDING, House, open_house

LARGE = "large " * 50_000
MOST_PAGES = 2**32 - 2
FULL = """
    CREATE FUNCTION be_full() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$
"""
TABLES = ("events", "messages")


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as house:
        yield house


async def fill(house: House) -> Callable[[], Awaitable[None]]:
    """Leave the database no room, until what is returned is awaited."""
    if house.database.dialect == "postgresql":
        await house.write(FULL)
        for table in TABLES:
            await house.write(f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} EXECUTE FUNCTION be_full()")
        return lambda: house.write("DROP FUNCTION be_full CASCADE")
    pages = [1]

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")

    assert house.database._thread
    for engine in (house.database.engine.sync_engine, house.database._thread._engine):
        event.listen(engine, "begin", begin)

    async def free() -> None:
        pages[0] = MOST_PAGES

    return free


async def test_full_database_is_an_outage_for_who_runs_and_a_refusal_for_who_comes(house: House) -> None:
    house.provider.script = ["Hel", gate := asyncio.Event(), LARGE, ENDING]
    live = await house.begin()
    await until(lambda: _seen(live.events), "the first event")
    free = await fill(house)
    gate.set()
    for _ in range(3):
        with pytest.raises(DatabaseFull):
            await house.begin(LARGE)
    counts = (
        "SELECT (SELECT count(*) FROM completions), (SELECT count(*) FROM messages), (SELECT count(*) FROM attempts)"
    )
    assert tuple((await house.rows(counts))[0]) == (1, 2, 1)
    assert not live.finished.is_set()
    assert len(live.events) == 1, "nothing is shown that is not stored"
    await free()
    await asyncio.wait_for(live.finished.wait(), 20)
    (answer,) = await house.rows("SELECT content, status FROM messages WHERE role = 'assistant'")
    assert tuple(answer) == ("Hel" + LARGE, "completed")
    assert len(await house.rows("SELECT id FROM ledger_entries")) == 1
    house.provider.script = ["Hello", ENDING]
    await asyncio.wait_for((await house.begin(LARGE)).finished.wait(), 20)


async def _seen(events: Sequence[object]) -> bool:
    return bool(events)
