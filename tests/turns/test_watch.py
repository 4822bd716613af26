"""A worker's pulse on both databases: it keeps what is its own, and goes on whatever happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from sqlalchemy import text

from service.domain.history import Line
from service.turns.live import Live
from service.turns.opening import Opening, Sampling
from service.turns.recovery import Recovery
from service.turns.watch import Watch
from tests.patience import PATIENCE, until
from tests.turns.house import ENDING, MODEL, House, open_house

PAST = {"sqlite": "1", "postgresql": "now() - interval '1 second'"}
LEASES = "SELECT count(*) FROM completions WHERE lease_expires_at > {}"
NOW = {"sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", "postgresql": "now()"}


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as house:
        yield house


def watch_of(house: House, lease: float = 30) -> Watch:
    recovery = Recovery(house.database, house.ids, house.registry, house.engine, lease_seconds=lease)
    return Watch(house.database, house.engine.lives, recovery, lease_seconds=lease)


async def lapse(house: House) -> None:
    await house.write(f"UPDATE completions SET lease_expires_at = {PAST[house.database.dialect]}")


async def held(house: House) -> int:
    """How many turns have a lease that runs."""
    return int((await house.rows(LEASES.format(NOW[house.database.dialect])))[0][0])


async def begin_held(house: House, spoken: str = "so ") -> tuple[Live, asyncio.Event]:
    house.provider.script = [spoken, gate := asyncio.Event(), "far", ENDING]
    live = await house.begin()

    async def spoke() -> bool:
        return bool(live.events)

    await until(spoke, "its first word")
    return live, gate


async def test_worker_that_slept_past_its_lease_goes_on_with_what_nobody_took(house: House) -> None:
    """One worker on a laptop that was closed: there is nobody else, and the answer still comes."""
    live, gate = await begin_held(house)
    await lapse(house)
    assert await watch_of(house).sweep() == 0
    assert await held(house) == 1
    gate.set()
    await asyncio.wait_for(live.finished.wait(), PATIENCE)
    (row,) = await house.rows("SELECT status, epoch FROM completions")
    assert tuple(row) == ("completed", 1)


async def test_renewal_lets_go_of_what_another_worker_took(house: House) -> None:
    live, _ = await begin_held(house)
    await house.write("UPDATE completions SET epoch = 2, worker = 'another'")
    await watch_of(house).renew()
    await asyncio.wait_for(live.finished.wait(), PATIENCE)
    assert live.lost
    (row,) = await house.rows("SELECT status, epoch FROM completions")
    assert tuple(row) == ("in_progress", 2)


async def test_renewal_that_ends_in_a_deadlock_is_done_again(house: House) -> None:
    if house.database.dialect == "sqlite":
        pytest.skip("SQLite has one writer")
    (one, first), (other, second) = await begin_held(house), await begin_held(house)
    await lapse(house)
    lock = "SELECT id FROM completions WHERE id = {} FOR UPDATE"
    async with house.database.engine.connect() as connection:
        # The renewal notices the deadlock first, and is its victim.
        await connection.execute(text("SET LOCAL deadlock_timeout = '30s'"))
        await connection.execute(text(lock.format(other.turn.completion_id)))
        renewal = asyncio.create_task(watch_of(house).renew())
        await until(lambda: house.rows("SELECT 1 FROM pg_locks WHERE NOT granted"), "the renewal waits for a lock")
        await connection.execute(text(lock.format(one.turn.completion_id)))
        await connection.rollback()
    await renewal
    assert await held(house) == 2
    first.set()
    second.set()


async def test_one_broken_turn_keeps_no_other_from_being_taken_over(house: House, database_url: str) -> None:
    broken, gate = await begin_held(house)
    others = [await begin_held(house) for _ in range(3)]
    await house.write(f"UPDATE events SET data = '[' WHERE completion_id = {broken.turn.completion_id}")
    async with open_house(database_url, people=False) as heir:
        await lapse(heir)
        assert await watch_of(heir).sweep() == 4
        await asyncio.gather(*(live.finished.wait() for live in heir.engine.lives))
        rows = await heir.rows("SELECT status, count(*) FROM completions GROUP BY status ORDER BY status")
        assert [tuple(row) for row in rows] == [("in_progress", 1), ("incomplete", 3)]
    for one in (gate, *(one for _, one in others)):
        one.set()


async def test_what_was_not_to_be_stored_is_forgotten_a_little_after_its_end(house: House) -> None:
    line = (Line("user", "off the record"),)
    opening = Opening(1, None, MODEL, line, line, Sampling(), streamed=True, stored=False)
    ended, kept = await house.engine.begin(opening), await house.begin()
    for live in (ended, kept):
        await asyncio.wait_for(live.finished.wait(), PATIENCE)
    house.provider.script = ["so far", asyncio.Event()]
    running = await house.engine.begin(opening)
    async with aclosing(running.follow()) as batches:
        await anext(batches)
    watch = watch_of(house)
    texts = "SELECT completion_id FROM events GROUP BY completion_id ORDER BY completion_id"
    await watch.forget()
    lives = sorted(live.turn.completion_id for live in (ended, kept, running))
    assert [row[0] for row in await house.rows(texts)] == lives
    await lapse(house)
    await watch.forget()
    lives.remove(ended.turn.completion_id)
    assert [row[0] for row in await house.rows(texts)] == lives
    async with aclosing(house.engine.hub.follow(*ended.turn.name)) as batches:
        assert [[event.kind for event in batch] async for batch in batches] == [["done"]]


async def test_the_pulse_outlives_what_it_meets(house: House) -> None:
    """A table that is away for a moment, as in a migration that went wrong: an error that says nothing of an outage."""
    live, gate = await begin_held(house)
    watch = watch_of(house, lease=0.3)
    await house.write("ALTER TABLE completions RENAME TO elsewhere")
    watch.start()
    try:
        await asyncio.sleep(0.5)  # a few beats that fail
        await house.write("ALTER TABLE elsewhere RENAME TO completions")
        await lapse(house)
        await until(lambda: held(house), "a renewed lease")
    finally:
        await watch.stop()
    gate.set()
    await asyncio.wait_for(live.finished.wait(), PATIENCE)
    (row,) = await house.rows("SELECT status, epoch FROM completions")
    assert tuple(row) == ("completed", 1)
