"""Turns that wait for others, on both databases: each is asked when all before it are over."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.domain.tree import Position
from service.turns.live import Live
from service.turns.opening import Branch
from tests.turns.house import ENDING, House, open_house


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as house:
        yield house


async def begin_behind(house: House, before: Live, question: str) -> Live:
    (row,) = await house.rows(f"SELECT line_id, depth FROM messages WHERE id = {before.turn.message_id}")
    leaf = Position(before.turn.message_id or 0, row.line_id, row.depth, True)
    branch = Branch(before.turn.conversation_id or 0, leaf)
    return await house.begin(question, branch=branch, waits_for=before.turn.completion_id)


async def test_turn_behind_a_cancelled_one_waits_for_what_runs_before_that(house: House) -> None:
    house.provider.script = ["first ", gate := asyncio.Event(), "answer", ENDING]
    first = await house.begin("One?")
    second = await begin_behind(house, first, "Two?")
    third = await begin_behind(house, second, "Three?")
    await house.engine.cancel(*second.turn.name)
    await asyncio.wait_for(second.finished.wait(), 10)
    # What runs now was asked before the second question ended; the third one's turn has not come.
    house.provider.script = ["third answer", ENDING]
    gate.set()
    await asyncio.wait_for(third.finished.wait(), 10)
    asked = [[message.content for message in call.messages] for call in house.provider.calls]
    assert asked == [["One?"], ["One?", "first answer", "Two?", "Three?"]]
    rows = await house.rows("SELECT status FROM completions ORDER BY id")
    assert [row.status for row in rows] == ["completed", "cancelled", "completed"]


async def test_turn_behind_a_failed_one_is_asked_all_the_same(house: House) -> None:
    house.provider.script = [gate := asyncio.Event(), ZeroDivisionError()]
    first = await house.begin("One?")
    second = await begin_behind(house, first, "Two?")
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait_for(first.finished.wait(), 10)
    house.provider.script = ["fine", ENDING]
    await asyncio.wait_for(second.finished.wait(), 10)
    assert [message.content for message in house.provider.calls[-1].messages] == ["One?", "Two?"]
