"""Turns that lose their worker, on both databases: two workers, of which one stops renewing its leases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from service.turns.live import Live
from service.turns.recovery import Recovery
from tests.turns.house import ENDING, House, open_house

LAPSE = "UPDATE completions SET lease_expires_at = {} WHERE finished_at IS NULL"
PAST = {"sqlite": "1", "postgresql": "now() - interval '1 second'"}


@dataclass
class Pair:
    """Two workers on one database: `gone` began the turn, `heir` may take it over."""

    gone: House
    heir: House
    recovery: Recovery

    async def lapse(self) -> None:
        await self.heir.write(LAPSE.format(PAST[self.heir.database.dialect]))

    async def settle(self) -> None:
        """Return when nothing runs in the heir."""
        await asyncio.gather(*(live.finished.wait() for live in list(self.heir.engine._running.values())))


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[Pair]:
    async with open_house(database_url) as gone, open_house(database_url, people=False) as heir:
        recovery = Recovery(heir.database, heir.ids, heir.registry, heir.engine, lease_seconds=30)
        yield Pair(gone, heir, recovery)


async def begin_and_say(house: House, *spoken: str) -> tuple[Live, asyncio.Event]:
    gate = asyncio.Event()
    house.provider.script = [*spoken, gate, "too late", ENDING]
    live = await house.begin("Are you still there?")
    if spoken:
        async with aclosing(live.follow()) as batches:
            async for batch in batches:
                if batch and batch[-1].seq == len(spoken):
                    break
    return live, gate


async def test_turn_with_a_fresh_lease_is_left_alone(pair: Pair) -> None:
    _, gate = await begin_and_say(pair.gone, "I ")
    assert await pair.recovery.sweep() == 0
    gate.set()


async def test_turn_that_had_said_something_is_finished_with_it(pair: Pair) -> None:
    live, gate = await begin_and_say(pair.gone, "I ", "am ")
    await pair.lapse()
    assert await pair.recovery.sweep() == 1
    await pair.settle()
    (row,) = await pair.heir.rows("SELECT status, error_code, epoch, attempt_count FROM completions")
    assert tuple(row) == ("incomplete", "worker_lost", 2, 1)
    (message,) = await pair.heir.rows("SELECT content, status FROM messages WHERE role = 'assistant'")
    assert tuple(message) == ("I am ", "incomplete")
    (entry,) = await pair.heir.rows("SELECT provenance, output_tokens, input_tokens FROM ledger_entries")
    assert entry.provenance == "estimated"
    assert entry.output_tokens == 2
    assert entry.input_tokens > 0
    gate.set()  # the lost worker wakes up late
    await live.finished.wait()
    assert live.lost
    (message,) = await pair.heir.rows("SELECT content, status FROM messages WHERE role = 'assistant'")
    assert tuple(message) == ("I am ", "incomplete")
    assert (await pair.heir.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 1
    last = (await pair.heir.rows("SELECT max(last_seq) FROM events"))[0][0]
    assert last == 3  # two words and the error that ends the stream
    assert [event.data for event in live.events] == ["I ", "am "]  # nothing was shown that the database had not


async def test_turn_that_had_said_nothing_is_run_again(pair: Pair) -> None:
    _, gate = await begin_and_say(pair.gone)
    await pair.lapse()
    pair.heir.provider.script = ["Here ", "I am", ENDING]
    assert await pair.recovery.sweep() == 1
    await pair.settle()
    (row,) = await pair.heir.rows("SELECT status, epoch, attempt_count FROM completions")
    assert tuple(row) == ("completed", 2, 2)
    (message,) = await pair.heir.rows("SELECT content FROM messages WHERE role = 'assistant'")
    assert message.content == "Here I am"
    assert [one.content for one in pair.heir.provider.calls[0].messages] == ["Are you still there?"]
    assert pair.heir.provider.calls[0].temperature == 0.5
    attempts = await pair.heir.rows("SELECT number, status, error_kind FROM attempts ORDER BY number")
    assert [tuple(one) for one in attempts] == [(1, "failed", "worker_lost"), (2, "completed", None)]
    entries = await pair.heir.rows("SELECT attempt, cost_nano FROM ledger_entries ORDER BY attempt")
    assert [tuple(one) for one in entries] == [(1, 0), (2, 23_000)]
    gate.set()


async def test_turn_is_run_three_times_at_the_most(pair: Pair) -> None:
    _, gate = await begin_and_say(pair.gone)
    never = asyncio.Event()
    pair.heir.provider.script = [never, ENDING]
    for epoch in (2, 3, 4):
        await pair.lapse()
        assert await pair.recovery.sweep() == 1
        (row,) = await pair.heir.rows("SELECT epoch FROM completions")
        assert row.epoch == epoch
    await asyncio.gather(*(live.finished.wait() for live in pair.heir.engine._running.values() if live.turn.epoch == 4))
    (row,) = await pair.heir.rows("SELECT status, error_code, attempt_count FROM completions")
    assert tuple(row) == ("failed", "worker_lost", 3)
    assert (await pair.heir.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 3
    never.set()
    gate.set()


async def test_lease_that_was_never_given_is_reaped_too(pair: Pair) -> None:
    _, gate = await begin_and_say(pair.gone, "x")
    await pair.heir.write("UPDATE completions SET lease_expires_at = NULL")
    assert await pair.recovery.sweep() == 1
    await pair.settle()
    assert (await pair.heir.rows("SELECT status FROM completions"))[0][0] == "incomplete"
    gate.set()


async def test_two_heirs_take_a_turn_once(pair: Pair) -> None:
    _, gate = await begin_and_say(pair.gone, "one")
    await pair.lapse()
    other = Recovery(pair.gone.database, pair.gone.ids, pair.gone.registry, pair.gone.engine, lease_seconds=30)
    taken = await asyncio.gather(pair.recovery.sweep(), other.sweep())
    assert sorted(taken) == [0, 1]
    gate.set()
