"""What folding journals saves, how long it takes, and what turns notice of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from statistics import median
from time import perf_counter

from bench.databases import Databases, Kind, execute, is_postgres, number
from bench.report import Part
from bench.report import number as shown
from service.db.migrate import upgrade
from service.providers.base import Call, Piece
from service.turns.folds import REST, Folds
from service.turns.hub import Hub
from service.turns.live import Lives
from tests.turns.house import ENDING, House, open_house

EVENTS, REPLAYS = 200, 300
BESIDE_SECONDS = 5.0
DAY = 86_400
WORD = "'w' || ((i * 7919 + k * 104729) % 5000) || ' '"


def run(kind: Kind, databases: Databases, *, answers: int) -> Part:
    """An engine in this process, on a new database of answers that are two days old, an event a row."""
    url = databases.new(kind, "folding")
    upgrade(url)
    execute(url, seed(answers, postgres=is_postgres(url)))
    return asyncio.run(_measure(kind, url, answers))


async def _measure(kind: Kind, url: str, answers: int) -> Part:
    async with open_house(url, people=False) as house:
        house.provider.run = _answer  # type: ignore[assignment,method-assign]  # faster than its script
        before = (*await asyncio.to_thread(_size, url), await _replay(house, answers))
        alone = await _turns(house, 1.0)
        folds = Folds(house.database, 24.0)
        began = perf_counter()
        task = asyncio.create_task(folds.fold())
        beside = await _turns(house, BESIDE_SECONDS)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        slowly, rested = await _folded(house), perf_counter() - began
        began = perf_counter()
        await folds.fold(rest=0.0)
        quickly, worked = await _folded(house) - slowly, perf_counter() - began
        after = (*await asyncio.to_thread(_size, url), await _replay(house, answers))
    rows = tuple(
        (name, f"{count:,}", shown(size / 1e6), shown(replayed))
        for name, (count, size, replayed) in (("as journalled", before), ("folded", after))
    )
    note = (
        f"{answers:,} answers of {EVENTS} pieces, {EVENTS + 1} rows each; sizes after VACUUM (FULL on Postgres)."
        f" {quickly / worked:,.0f} answers/s are folded without rests, {slowly / rested:,.0f} as the service does it"
        f" beside turns, {REST:g} times as long at rest as at work. One turn after the other is accepted in"
        f" {_percentiles(alone)} ms (p50, p95) without folding, in {_percentiles(beside)} ms meanwhile."
    )
    return Part(f"Folded journals, {kind}", ("", "rows", "MB in all", "replayed p50 ms"), rows, note=note)


def seed(answers: int, *, postgres: bool) -> list[str]:
    """Conversations of one question and one answer, of the user 1."""
    second = "to_timestamp({})" if postgres else "({}) * 1000000"
    now = "extract(epoch FROM now())" if postgres else "strftime('%s', 'now')"
    at = second.format(f"{now} - {2 * DAY} + i * {DAY}.0 / {answers}" if postgres else f"{now} - {2 * DAY}") + (
        "" if postgres else " + i"
    )
    numbers = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {answers})"
    pieces = f"{numbers}, k (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM k WHERE k < {EVENTS})"
    joined = f"string_agg({WORD}, '' ORDER BY k)" if postgres else f"group_concat({WORD}, '')"
    end = '[["usage",{"input_tokens":24,"cache_read_tokens":0,"cache_write_tokens":0,"output_tokens":200,'
    end += '"reasoning_tokens":0,"cost_usd":"0.000424","finish_reason":"stop"}],["done",{"status":"completed",'
    end += '"finish_reason":"stop"}]]'
    talk = "1, {}, 1000000000 + i, {}, 1000000000 + i, {}, '{}', {}"
    into = (
        "INSERT INTO messages (user_id, id, conversation_id, parent_id, line_id, depth, role, content, completion_id)"
    )
    asked = talk.format("1000000000 + 2 * i", "NULL", 0, "user", "'What is it?', NULL")
    said = f"(SELECT {joined} FROM k), 1000000000 + i"
    answered = talk.format("1000000001 + 2 * i", "1000000000 + 2 * i", 1, "assistant", said)
    return [
        "BEGIN",
        "INSERT INTO users (id, username, username_key) VALUES (1, 'ada', 'ada')",
        f"{numbers} INSERT INTO conversations (user_id, id, message_count) SELECT 1, 1000000000 + i, 2 FROM n",
        f"{numbers} {into} SELECT {asked} FROM n",
        f"{pieces} {into} SELECT {answered} FROM n",
        f"{numbers} INSERT INTO completions (user_id, id, conversation_id, message_id, model, provider, status,"
        " created_at, finished_at) SELECT 1, 1000000000 + i, 1000000000 + i, 1000000001 + 2 * i, 'm', 'p', 'completed',"
        f" {at}, {at} FROM n",
        f"{pieces} INSERT INTO events (user_id, completion_id, seq, last_seq, data)"
        f""" SELECT 1, 1000000000 + i, k, k, '[["text","' || {WORD} || '"]]' FROM n CROSS JOIN k""",
        f"{numbers} INSERT INTO events (user_id, completion_id, seq, last_seq, data)"
        f" SELECT 1, 1000000000 + i, {EVENTS + 1}, {EVENTS + 2}, '{end}' FROM n",
        "COMMIT",
        "VACUUM ANALYZE" if postgres else "ANALYZE",
    ]


def _size(url: str) -> tuple[int, int]:
    """Rows of the journal, and bytes of the database without what is free in it and what turns left beside."""
    others = [f"DELETE FROM {table} WHERE id < 1000000000" for table in ("conversations", "ledger_entries")]
    execute(url, others if is_postgres(url) else ["PRAGMA foreign_keys = ON", *others])
    rows = number(url, "SELECT count(*) FROM events")
    execute(url, ["VACUUM FULL" if is_postgres(url) else "VACUUM"])
    size = "SELECT pg_database_size(current_database())" if is_postgres(url) else "PRAGMA page_count"
    return rows, number(url, size) * (1 if is_postgres(url) else number(url, "PRAGMA page_size"))


async def _folded(house: House) -> int:
    (row,) = await house.rows("SELECT count(DISTINCT completion_id) FROM events WHERE spans IS NOT NULL")
    return int(row[0])


async def _replay(house: House, answers: int) -> float:
    """Milliseconds to read a whole stream."""
    hub, times = Hub(house.database, Lives()), []
    for one in range(REPLAYS):
        began = perf_counter()
        name = (1, 1_000_000_000 + 1 + one * 31 % answers)
        count = sum([len(batch) async for batch in hub.follow(*name)])
        times.append(perf_counter() - began)
        assert count == EVENTS + 2, "the stream is whole"
    return median(times) * 1000


async def _turns(house: House, seconds: float) -> list[float]:
    """How long each of the turns of one client takes to be accepted, one after the other."""
    times, end = [], perf_counter() + seconds
    while perf_counter() < end:
        began = perf_counter()
        live = await house.begin()
        times.append(perf_counter() - began)
        await live.finished.wait()
    return times


async def _answer(_call: Call) -> AsyncGenerator[list[Piece]]:
    yield [ENDING]


def _percentiles(times: list[float]) -> str:
    ordered = sorted(times)
    return ", ".join(shown(ordered[int(len(ordered) * part)] * 1000) for part in (0.5, 0.95))
