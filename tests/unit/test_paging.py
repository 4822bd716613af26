"""Paging by key shows what paging by number shows, on both databases, also where sort values are equal."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.tables import conversations, users
from service.domain.cursors import Cursors
from service.domain.paging import Ask, Page
from service.errors import BadCursor
from service.repositories.paging import Pager, Sort

PAGER = Pager(Cursors(b"a secret for tests"))
START = datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=UTC)
ROWS = 57
OWNER = 1
C = conversations.c
SORTS = {
    "recent": [Sort(C.active_at, True), Sort(C.id, True)],
    "oldest": [Sort(C.active_at), Sort(C.id)],
    "title": [Sort(C.title_key), Sort(C.id)],
    "mixed": [Sort(C.title_key, True), Sort(C.active_at), Sort(C.id, True)],
    "single": [Sort(C.id)],
}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[AsyncConnection]:
    database = Database(database_url)
    rows = [
        {
            "user_id": user,
            "id": number,
            "title_key": f"title {number % 5}",
            "active_at": START + timedelta(number // 10),
        }
        for user in (OWNER, 2)
        for number in range(1, ROWS + 1)
    ]
    async with database.transaction() as opened:
        people = [{"id": user, "username": f"u{user}", "username_key": f"u{user}"} for user in (OWNER, 2)]
        await opened.execute(insert(users), people)
        await opened.execute(insert(conversations), rows)
    async with database.reading() as opened:
        yield opened
    await database.close()


async def ask(connection: AsyncConnection, sort: str, asked: Ask) -> tuple[list[int], Page[object]]:
    query = select(C.id, C.title_key, C.active_at).where(C.user_id == OWNER)
    page = await PAGER.page(connection, query, sort=SORTS[sort], ask=asked, scope=("test", OWNER, sort))
    return [row.id for row in page.items], page.map(lambda row: row)


async def by_number(connection: AsyncConnection, sort: str, limit: int) -> list[list[int]]:
    return [(await ask(connection, sort, Ask(skip, limit)))[0] for skip in range(0, ROWS, limit)]


@pytest.mark.parametrize("sort", SORTS)
async def test_walking_by_key_equals_walking_by_number(connection: AsyncConnection, sort: str) -> None:
    expected = await by_number(connection, sort, 10)
    assert sorted(chain(*expected)) == list(range(1, ROWS + 1))
    ids, page = await ask(connection, sort, Ask(0, 10))
    forth = [ids]
    while page.next:
        ids, page = await ask(connection, sort, Ask(0, 10, page.next))
        assert (page.total, page.skip) == (None, 0)
        forth.append(ids)
    assert forth == expected
    back = [ids]
    while page.prev:
        ids, page = await ask(connection, sort, Ask(0, 10, page.prev))
        back.insert(0, ids)
    assert back == expected


@pytest.mark.parametrize("sort", SORTS)
async def test_a_page_by_number_offers_both_cursors(connection: AsyncConnection, sort: str) -> None:
    expected = await by_number(connection, sort, 10)
    for number, (_, after) in enumerate(pairwise(expected)):
        _, page = await ask(connection, sort, Ask(number * 10, 10))
        assert page.total == ROWS
        assert page.next
        assert (await ask(connection, sort, Ask(0, 10, page.next)))[0] == after
        if number:
            assert page.prev
            assert (await ask(connection, sort, Ask(0, 10, page.prev)))[0] == expected[number - 1]
        else:
            assert page.prev is None


async def test_rows_that_come_meanwhile_do_not_move_a_cursor(connection: AsyncConnection) -> None:
    first, page = await ask(connection, "recent", Ask(0, 10))
    row = {"user_id": OWNER, "id": 1000, "title_key": "", "active_at": START + timedelta(days=99)}
    await connection.execute(insert(conversations), row)
    second, _ = await ask(connection, "recent", Ask(0, 10, page.next))
    shifted, _ = await ask(connection, "recent", Ask(10, 10))
    assert first[-1] in shifted
    assert not set(first) & set(second)


async def test_a_foreign_cursor_is_refused(connection: AsyncConnection) -> None:
    _, page = await ask(connection, "recent", Ask(0, 10))
    for sort, cursor in (("oldest", page.next), ("recent", (page.next or "")[:-1]), ("recent", "é"), ("recent", "")):
        with pytest.raises(BadCursor):
            await ask(connection, sort, Ask(0, 10, cursor))


@pytest.mark.parametrize("total", [41, select(C.id).where(C.user_id == 2, C.id == 7)])
async def test_the_total_may_be_given(connection: AsyncConnection, total: object) -> None:
    query = select(C.id).where(C.user_id == OWNER)
    sort: Sequence[Sort] = SORTS["single"]
    page = await PAGER.page(connection, query, sort=sort, ask=Ask(0, 1), scope=(), total=total)  # type: ignore[arg-type]  # both kinds
    assert page.total in (41, 7)


async def test_beyond_the_end_there_is_an_empty_page(connection: AsyncConnection) -> None:
    ids, page = await ask(connection, "recent", Ask(2**53 - 1, 10))
    assert (ids, page.total, page.next, page.prev) == ([], ROWS, None, None)
