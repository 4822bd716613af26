"""Followers that are far behind: they get all of it in order, and never much at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.domain.events import TERMINAL
from service.repositories.events import WINDOW
from service.turns.hub import Hub
from service.turns.live import BATCH, Lives
from tests.turns.house import ENDING, House, open_house

WORDS = 3 * WINDOW


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as house:
        yield house


async def test_a_long_answer_is_replayed_piece_by_piece(house: House) -> None:
    words = [f"w{number} " for number in range(WORDS)]
    # Two gates, so that the journal has several rows of it.
    gates = [asyncio.Event(), asyncio.Event()]
    house.provider.script = [
        *words[:WINDOW],
        gates[0],
        *words[WINDOW : 2 * WINDOW],
        gates[1],
        *words[2 * WINDOW :],
        ENDING,
    ]
    live = await house.begin()
    ours = []
    async for batch in house.engine.hub.follow(*live.turn.name, live=live):
        ours.append(batch)
        if gates and batch and batch[-1].seq % WINDOW == 0:
            gates.pop(0).set()
    # Another worker has to read it from the journal.
    theirs = [batch async for batch in Hub(house.database, Lives()).follow(*live.turn.name)]
    for batches in (ours, theirs):
        events = [event for batch in batches for event in batch]
        assert [event.seq for event in events] == list(range(1, WORDS + 3))
        assert events[-1].kind in TERMINAL
        assert max(map(len, batches)) <= BATCH
