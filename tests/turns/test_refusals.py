"""What a provider may say that a database cannot hold, on both databases: it spoils nothing but itself."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.domain.meters import Meters
from service.providers.base import Ending
from tests.turns.house import ENDING, METERS, House, open_house


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as house:
        yield house


@pytest.mark.parametrize("upstream_id", ["a\ud800b", "nul\x00nul", "x" * 5000])
async def test_senseless_upstream_id_harms_nobody(house: House, upstream_id: str) -> None:
    house.provider.script = ["Hello", Ending("stop", METERS, upstream_id=upstream_id)]
    odd = await house.begin("odd")
    house.provider.script = ["Hello", ENDING]
    others = await asyncio.gather(*(house.begin(f"q{n}") for n in range(10)))
    await asyncio.wait_for(asyncio.gather(*(live.finished.wait() for live in (odd, *others))), 10)
    rows = await house.rows("SELECT status, count(*) AS n FROM completions GROUP BY status")
    assert [tuple(row) for row in rows] == [("completed", 11)]
    assert (await house.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 11


@pytest.mark.parametrize("count", [2**40, 2**62, 2**70, -1])
async def test_senseless_usage_is_estimated_instead(house: House, count: int) -> None:
    house.provider.script = ["Hello", Ending("stop", Meters(output_tokens=count))]
    live = await house.begin()
    await live.finished.wait()
    (entry,) = await house.rows("SELECT provenance, output_tokens FROM ledger_entries")
    assert tuple(entry) == ("estimated", 2)
    assert (await house.rows("SELECT status FROM completions"))[0][0] == "completed"


async def test_end_that_the_database_refuses_is_a_failure_and_is_accounted(house: House) -> None:
    if house.database.dialect == "sqlite":
        pytest.skip("SQLite holds text of any length")
    reason: Any = "a reason longer than its column, which no adapter gives"
    house.provider.script = ["Hello", Ending(reason, METERS)]
    live = await house.begin()
    await live.finished.wait()
    assert live.error is not None
    assert live.error.code == "internal_error"
    assert live.events[-1].kind == "error"
    (row,) = await house.rows("SELECT status, error_code FROM completions")
    assert tuple(row) == ("incomplete", "internal_error")
    assert (await house.rows("SELECT content FROM messages WHERE role = 'assistant'"))[0][0] == "Hello"
    assert (await house.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 1


async def test_turn_that_was_erased_while_it_ran_does_not_end_as_a_success(house: House) -> None:
    house.provider.script = ["gone ", gate := asyncio.Event(), ENDING]
    live = await house.begin()
    await house.write("DELETE FROM conversations")
    gate.set()
    await live.finished.wait()
    assert live.lost
    assert live.outcome is None
    assert (await house.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 1
