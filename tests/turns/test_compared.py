"""Turns of a comparison that end at once, or in a transaction that fails: which of their branches is active then."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.history import Line
from service.errors import DatabaseUnavailable
from service.repositories import turns
from service.repositories.comparisons import pass_over
from service.repositories.messages import find_position
from service.turns.live import Live
from service.turns.opening import Branch, Opening, Sampling
from tests.conftest import MakeDatabase
from tests.turns.house import FAILURE, MODEL, House, open_house

LINES = (Line("user", "Hello?"),)


async def begin(house: House, place: int, beside: Live | None = None) -> Live:
    """One turn of a comparison: the first, which brings the question along, or one beside it."""
    branch = None
    if beside:
        [answer] = await house.rows(f"SELECT * FROM messages WHERE id = {beside.turn.message_id}")
        async with house.database.reading() as connection:
            question = await find_position(connection, 1, answer.conversation_id, answer.parent_id)
        branch = Branch(answer.conversation_id, question)
    opening = Opening(
        user_id=1,
        key_id=None,
        model=MODEL,
        lines=() if beside else LINES,
        prompt=LINES,
        sampling=Sampling(),
        streamed=True,
        branch=branch,
        compared=place,
    )
    return await house.engine.begin(opening)


async def leaf(house: House) -> int:
    [talk] = await house.rows("SELECT active_leaf_id FROM conversations")
    found: int = talk.active_leaf_id
    return found


async def three(house: House, *, last: list[Any]) -> list[Live]:
    """Three of a comparison: two fail at once, the last says what it is told. The first is the active one."""
    gate = asyncio.Event()
    house.provider.script, house.provider.failing = [gate], FAILURE
    first = await begin(house, 0)
    second = await begin(house, 1, first)
    house.provider.script = last
    third = await begin(house, 2, first)
    if gate not in last:
        await asyncio.wait_for(third.finished.wait(), 10)
    await house.write(f"UPDATE conversations SET active_leaf_id = {first.turn.message_id}")
    gate.set()
    for live in (first, second, third):
        await asyncio.wait_for(live.finished.wait(), 10)
    return [first, second, third]


async def test_two_that_fail_at_once_are_both_passed_over(database_url: str) -> None:
    async with open_house(database_url) as house:
        *_, third = await three(house, last=["Hello.", *house.provider.script[-1:]])
        assert await leaf(house) == third.turn.message_id


async def test_where_none_answers_the_first_is_active(database_url: str) -> None:
    async with open_house(database_url) as house:
        first, *_ = await three(house, last=[FAILURE])
        assert await leaf(house) == first.turn.message_id


async def test_an_end_and_what_it_passes_over_are_one_transaction(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Postgres they are several statements: where one of them fails nothing of it stays, and it is done again."""
    tried: list[list[str]] = []

    async def pass_over_at_last(connection: AsyncConnection, passed: Any) -> None:
        rows = await house.rows("SELECT status FROM completions ORDER BY id")
        tried.append([row.status for row in rows])
        if len(tried) < 3:
            raise DatabaseUnavailable
        await pass_over(connection, passed)

    with make_database("postgres") as url:
        async with open_house(url) as house:
            monkeypatch.setattr(turns, "pass_over", pass_over_at_last)
            lives = await three(house, last=["Hello.", *house.provider.script[-1:]])
            assert tried[:3] == [["in_progress", "in_progress", "completed"]] * 3
            assert [live.outcome and live.outcome["status"] for live in lives] == ["failed", "failed", "completed"]
            assert await leaf(house) == lives[2].turn.message_id
            assert len(await house.rows("SELECT 1 FROM ledger_entries")) == 3
