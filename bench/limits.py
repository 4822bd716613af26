"""What limits cost a turn: statements and milliseconds until it is accepted, without any and under three times five."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any

from sqlalchemy import Engine, event

from bench.databases import Databases, Kind, execute
from bench.report import Part, number
from service.db.migrate import upgrade
from service.domain.history import Line
from service.providers.base import Call, Piece
from service.turns.live import Live
from service.turns.opening import Opening, Sampling
from tests.turns.house import ENDING, MODEL, House, open_house

ONE_BY_ONE = 200
AT_ONCE = 200
KEY = 7
LIMITS = "day_nano = 9e17, month_nano = 9e17, requests_minute = 2e9, tokens_minute = 2e9, streams = 2e9"


class Counter:
    """Statements that were sent, and transactions that were begun."""

    statements = 0
    commits = 0


def run(kind: Kind, databases: Databases) -> Part:
    """An engine in this process on a new database; the provider answers at once."""
    url = databases.new(kind, "limits")
    upgrade(url)
    rows = asyncio.run(_measure(url))
    return Part(
        f"Turns under limits, {kind}",
        ("", "statements/turn", "commits/turn", "accepted p50 ms", "p95 ms", f"{AT_ONCE} at once: all accepted ms"),
        tuple(rows),
    )


async def _measure(url: str) -> list[tuple[str, ...]]:
    rows = []
    async with open_house(url) as house:
        house.provider.run = _answer  # type: ignore[assignment,method-assign]  # faster than its script
        for name, statements in (("no limits", ()), ("all, key and user limited", _limiting())):
            await asyncio.to_thread(execute, url, statements)
            # What a worker remembers of limits is older than this by then.
            await asyncio.sleep(3.2)
            rows.append((name, *await _row(house)))
    return rows


async def _row(house: House) -> list[str]:
    for _ in range(20):
        await _turn(house)
    with _counted() as counter:
        times = [1000 * await _turn(house) for _ in range(ONE_BY_ONE)]
    began = perf_counter()
    lives = await asyncio.gather(*(house.engine.begin(_opening()) for _ in range(AT_ONCE)))
    together = (perf_counter() - began) * 1000
    await asyncio.gather(*(live.finished.wait() for live in lives))
    figures = (counter.statements / ONE_BY_ONE, counter.commits / ONE_BY_ONE, median(times))
    return [number(one) for one in (*figures, sorted(times)[int(ONE_BY_ONE * 0.95)], together)]


async def _turn(house: House) -> float:
    began = perf_counter()
    live: Live = await house.engine.begin(_opening())
    took = perf_counter() - began
    await live.finished.wait()
    return took


def _opening() -> Opening:
    line = (Line("user", "Hello?"),)
    return Opening(1, KEY, MODEL, lines=line, prompt=line, sampling=Sampling(max_tokens=100), streamed=False)


async def _answer(_call: Call) -> AsyncGenerator[list[Piece]]:
    yield [ENDING]


def _limiting() -> tuple[str, ...]:
    added = (f"INSERT INTO limits (scope, subject_id) VALUES ('all', 0), ('key', {KEY}), ('user', 1)",)
    return (*added, f"UPDATE limits SET {LIMITS}")


@contextmanager
def _counted() -> Iterator[Counter]:
    counter = Counter()

    def execute(*_: Any) -> None:
        counter.statements += 1

    def commit(*_: Any) -> None:
        counter.commits += 1

    event.listen(Engine, "before_cursor_execute", execute)
    event.listen(Engine, "commit", commit)
    try:
        yield counter
    finally:
        event.remove(Engine, "before_cursor_execute", execute)
        event.remove(Engine, "commit", commit)
