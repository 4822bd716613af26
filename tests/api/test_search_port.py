"""The search port on both databases: what it finds is what reading every message would find, in bounded steps."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from service.db.engine import Database
from service.domain.cursors import Cursors
from service.domain.filters import SearchFilter
from service.domain.paging import Ask
from service.domain.search import Query, parse
from service.domain.words import fold
from service.repositories import search, search_postgres
from service.repositories.paging import Pager
from service.repositories.search import find_matches
from service.usecases.search import Search
from tests.api.documents import Rows, message, two_users


@pytest.fixture
async def rows(database_url: str) -> AsyncIterator[Rows]:
    async with two_users(database_url) as made:
        yield made


async def find(database: Database, chosen: SearchFilter, limit: int = 1000) -> list[int]:
    async with database.reading() as connection:
        matches = await find_matches(connection, chosen, before=None, limit=limit)
    assert matches.rest is None
    return [one.message_id for one in matches.items]


def expected(texts: Sequence[str], query: Query) -> list[int]:
    """What reading every message finds, the newest first: the definition of a match."""
    found = []
    for number, words in enumerate(f" {fold(one)} " for one in texts):
        has = [f" {one} " in words for one in query.wanted]
        bars = [f" {one} " in words for one in query.unwanted]
        if has and all(has) and not any(bars):
            found.append(number + 1)
    return found[::-1]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "é", "今", "今日", "a-b", "A", "!", "-"]), max_size=6).map(" ".join)
QUERIES = st.lists(st.sampled_from(["a", "b", "-c", '"a b"', "e", "今日", '-"b a"', "a-b", "-a", '"']), max_size=4)


async def test_both_databases_find_what_reading_every_message_finds(rows: Rows) -> None:
    """Messages of a year, an hour and a moment, so that Postgres asks blocks of every size."""
    ages = [0, 0, 0, 1, 5, 900, 1100, 4000, 20_000, 90_000, 10**6, 10**7, 3 * 10**7, 10**8]
    texts: list[str] = []

    @settings(max_examples=1, deadline=None, database=None, derandomize=True)
    @given(st.lists(WORDS, min_size=200, max_size=200))
    def draw(drawn: list[str]) -> None:
        texts[:] = drawn

    await asyncio.to_thread(draw)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    at = sorted(start - timedelta(seconds=ages[n % len(ages)], milliseconds=n) for n in range(len(texts)))
    numbered = enumerate(zip(texts, at, strict=True), 1)
    await rows.write(*(message(n, content, created_at=moment) for n, (content, moment) in numbered))
    queries: set[str] = set()

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(QUERIES)
    def ask(parts: list[str]) -> None:
        queries.add(" ".join(parts))

    await asyncio.to_thread(ask)
    assert len(queries) > 50
    for asked in queries:
        query = parse(asked)
        found = await find(rows.database, SearchFilter(1, query)) if query.wanted else []
        assert found == expected(texts, query), asked
    since, until = at[30], at[150]
    inside = await find(rows.database, SearchFilter(1, parse("a"), since=since, until=until))
    assert inside == [n for n in expected(texts, parse("a")) if since <= at[n - 1] < until]


async def test_a_crowded_block_of_time_is_divided(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_postgres, "CROWD", 5)
    now, count = datetime(2026, 1, 1, tzinfo=UTC), 200
    at = [now - timedelta(days=400 + n * 0.4) for n in range(count)]
    await rows.write(*(message(n + 1, f"same {n}", created_at=at[n]) for n in range(count)))
    await rows.write(message(1000, "other", created_at=now))
    async with rows.database.reading() as connection:
        before, seen = None, []
        while True:
            matches = await find_matches(connection, SearchFilter(1, parse("same")), before=before, limit=17)
            seen += [one.message_id for one in matches.items]
            before = matches.rest
            if before is None:
                break
    assert seen == list(range(1, count + 1))


async def test_a_search_that_looked_at_many_says_where_to_go_on(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FEW", 10)
    monkeypatch.setattr(search, "MOST", 40)
    lines = [message(n, "b a" if n % 50 else "a b") for n in range(1, 101)]
    await rows.write(*lines)
    chosen, before, found = SearchFilter(1, parse('"a b"')), None, []
    for turn in range(3):
        async with rows.database.reading() as connection:
            matches = await find_matches(connection, chosen, before=before, limit=5)
        found += [one.message_id for one in matches.items]
        before = matches.rest
        assert (before is None) == (turn == 2)
    assert found == [100, 50]


async def test_the_statements_of_a_search_do_not_grow_with_its_matches(rows: Rows) -> None:
    search_in = Search(rows.database, Pager(Cursors(b"secret")))
    sent: list[str] = []
    event.listen(rows.database.engine.sync_engine, "before_cursor_execute", lambda *call: sent.append(call[2]))
    counts = []
    for first, last in ((1, 4), (4, 400)):
        await rows.write(*(message(n, f"same {n}") for n in range(first, last)))
        sent.clear()
        found = await search_in.find(SearchFilter(1, parse("same")), Ask(limit=100))
        assert len(found.page.items) == min(100, last - 1)
        counts.append(len([one for one in sent if not one.startswith("BEGIN")]))
    # Postgres: the time limit, the first and the last moment, the matches, the page. SQLite: the last two.
    assert counts == ([4, 4] if rows.database.dialect == "postgresql" else [2, 2])
