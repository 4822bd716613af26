"""Followers that are far behind: they get all of it in order, and never much at once."""

import asyncio
from collections.abc import AsyncIterator
from itertools import chain

import pytest

from service.domain.events import TERMINAL, Event
from service.turns.hub import MOST_EVENTS as WINDOW
from service.turns.hub import POLL_SECONDS, WINDOW_CHARS, Hub
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


async def test_followers_at_different_places_get_no_gap(house: House) -> None:
    """The journal is read for all of them at once, with what lies between them left out."""
    words = [f"w{number} " for number in range(4 * WINDOW)]
    gates = [asyncio.Event() for _ in range(0, len(words), BATCH)]
    # So that the journal has many rows of it.
    pieces = [words[at : at + BATCH] for at in range(0, len(words), BATCH)]
    house.provider.script = [
        *chain.from_iterable((*piece, gate) for piece, gate in zip(pieces, gates, strict=True)),
        ENDING,
    ]
    live = await house.begin()
    async for batch in house.engine.hub.follow(*live.turn.name, live=live):
        if batch and batch[-1].seq == len(words):
            break
        if batch and batch[-1].seq % BATCH == 0:
            gates.pop(0).set()
    hub = Hub(house.database, Lives())
    slow = {after: hub.follow(*live.turn.name, after=after) for after in (0, 2 * WINDOW, 3 * WINDOW + 7)}
    got = {after: [*await anext(follower)] for after, follower in slow.items()}
    waiting = asyncio.create_task(last_of(hub, live.turn.name, after=len(words)))
    await asyncio.sleep(4 * POLL_SECONDS)  # so that the journal is read for all who stopped
    gates[0].set()
    for after, follower in slow.items():
        got[after] += [event async for batch in follower for event in batch]
        assert [event.seq for event in got[after]] == list(range(after + 1, len(words) + 3))
    assert (await waiting).kind == "done"


async def test_long_events_are_read_few_at_once(house: House) -> None:
    words = [f"{number} ".rjust(2000, ".") for number in range(WINDOW)]
    house.provider.script = [*words, ENDING]
    live = await house.begin()
    await live.finished.wait()
    batches = [batch async for batch in Hub(house.database, Lives()).follow(*live.turn.name)]
    assert [event.seq for batch in batches for event in batch] == list(range(1, WINDOW + 3))
    # Until the first has come nobody knows how long they are.
    assert max(sum(len(str(event.data)) for event in batch) for batch in batches[1:]) < 2 * WINDOW_CHARS


async def last_of(hub: Hub, name: tuple[int, int], *, after: int) -> Event:
    return [event async for batch in hub.follow(*name, after=after) for event in batch][-1]
