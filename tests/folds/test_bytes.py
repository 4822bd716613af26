"""Folded journals over HTTP: the service tells the same bytes as before, from everywhere, at any moment."""

import asyncio
from functools import partial
from typing import Any

import pytest

from service.db.engine import Database
from service.domain.events import Event
from service.domain.folds import FOLDED_EVENTS
from service.turns import folds
from service.turns.folds import Folds
from service.turns.hub import Hub
from service.turns.live import BATCH, Lives
from tests.folds.desk import ANSWERS, WORDS, Desk, reached
from tests.patience import until
from tests.turns.house import ENDING


@pytest.mark.parametrize("script", ANSWERS.values(), ids=ANSWERS)
async def test_the_same_bytes_are_told_from_everywhere(desk: Desk, script: tuple[Any, ...]) -> None:
    number = await desk.answered(*script)
    before, rows = await desk.streams(number), await desk.rows(number)
    assert await desk.fold() == len(rows) - 1
    after = await desk.rows(number)
    assert await desk.streams(number) == before
    assert [(row.seq, row.last_seq) for row in after] == [(1, rows[-1].last_seq)]
    spoken = len(rows) > 1
    assert (after[0].spans is not None, after[0].said) == (spoken, None)
    assert not any(word in after[0].data for word in ("said", "漢字", "One", "what"))


async def test_a_cancelled_turn_is_folded(desk: Desk) -> None:
    gate = asyncio.Event()
    live = await desk.begin("One, ", gate)
    await until(lambda: reached(live, 1), "its first piece")
    await desk.house.engine.cancel(*live.turn.name)
    await live.finished.wait()
    number = live.turn.completion_id
    before = await desk.streams(number)
    assert b'"finish_reason":"cancelled"' in before[0]
    assert await desk.fold() == 1
    assert await desk.streams(number) == before


async def test_a_long_answer_is_folded_into_rows_of_bounded_size(desk: Desk) -> None:
    words = [f"w{number}é " for number in range(3 * FOLDED_EVENTS)]
    number = await desk.answered(*words, ENDING, a_row=100)
    before, rows = await desk.streams(number, step=211), await desk.rows(number)
    assert await desk.fold() >= len(rows) - 5
    after = await desk.rows(number)
    assert all(row.last_seq - row.seq < FOLDED_EVENTS for row in after)
    assert [row.seq for row in after][1:] == [row.last_seq + 1 for row in after][:-1]
    assert await desk.streams(number, step=211) == before


async def test_two_workers_fold_at_once(desk: Desk) -> None:
    numbers = [await desk.answered(*WORDS, ENDING, a_row=3) for _ in range(24)]
    before = [await desk.streams(number, step=6) for number in numbers]
    rows = sum([len(await desk.rows(number)) for number in numbers])
    others = [Database(desk.url, synchronous="normal") for _ in range(2)]
    try:
        gone = 0
        while some := sum(await asyncio.gather(*map(desk.fold, others))):
            gone += some
    finally:
        for one in others:
            await one.close()
    assert gone == rows - len(numbers)
    assert [await desk.streams(number, step=6) for number in numbers] == before


async def test_who_follows_gets_each_event_once_whatever_is_folded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are folded behind, under and before the follower, a few in each transaction."""
    monkeypatch.setattr(folds, "ROWS", 1)
    words = [f"{number} " for number in range(3 * FOLDED_EVENTS)]
    number = await desk.answered(*words, ENDING, a_row=BATCH // 4)
    hub, name = Hub(desk.house.database, Lives()), (desk.user_id, number)
    followers = [hub.follow(*name, after=after) for after in (0, BATCH - 7, len(words) // 2)]
    got: list[list[Event]] = [list(await anext(follower)) for follower in followers]
    batches = await Folds(desk.house.database, -1.0)._look()
    assert len(batches) > 2
    for batch in batches:
        assert await desk.house.database.atomically(partial(folds._write, batch=batch))
        # A worker that is killed here leaves this.
        for some, follower in zip(got, followers, strict=True):
            some += await anext(follower)
        assert [event.seq async for some in hub.follow(*name) for event in some] == list(range(1, len(words) + 3))
    for some, follower in zip(got, followers, strict=True):
        some += [event async for more in follower for event in more]
        assert [event.seq for event in some] == list(range(some[0].seq, len(words) + 3))
        assert "".join(event.data for event in some if event.kind == "text") == "".join(words[some[0].seq - 1 :])


async def test_what_was_folded_in_part_is_folded_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "ROWS", 1)
    words = [f"{number} " for number in range(2 * FOLDED_EVENTS)]
    number = await desk.answered(*words, ENDING, a_row=300)
    before = await desk.streams(number, step=301)
    batch, *rest = await Folds(desk.house.database, -1.0)._look()
    assert await desk.house.database.atomically(partial(folds._write, batch=batch))
    assert await desk.streams(number, step=301) == before
    assert await desk.fold() == sum(one.rows - 1 for left in rest for _, one in left.folds)
    assert all(row.spans is not None for row in await desk.rows(number))
    assert await desk.streams(number, step=301) == before
