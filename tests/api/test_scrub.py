"""What an erasure leaves in SQLite's file is overwritten, however its pages were split and whoever is in the way."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, text
from sqlalchemy.engine import make_url

from service.db.engine import Database
from service.db.scrub import request_scrub, scrub
from service.db.tables import conversations, messages, users
from tests.conftest import MakeDatabase

WORD = "anary7d1f"  # an index leaves out what a word begins with
PEOPLE = range(1, 13)


class Site:
    """A database in which every user writes in turn, one of them of canaries."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, synchronous="normal")
        self.path = Path(make_url(url).database or "")

    async def write(self) -> None:
        dice = random.Random(7)
        async with self.database.transaction() as connection:
            for user in PEOPLE:
                row = {"id": user, "username": f"u{user}", "username_key": f"u{user}"}
                await connection.execute(insert(users), row)
                title = f"c{WORD}" if user == 7 else "Horses"
                await connection.execute(insert(conversations), {"user_id": user, "id": user, "title": title})
        for start in range(0, 600, 20):
            async with self.database.transaction() as connection:
                for number in range(start, start + 20):
                    user = dice.choice(PEOPLE)
                    word = f"c{WORD}" if user == 7 else "horse"
                    long = " ".join(f"{word}{dice.randrange(10**6)}" for _ in range(dice.choice((1, 9, 90, 900))))
                    row = {"user_id": user, "id": number, "conversation_id": user, "line_id": number, "depth": 0}
                    await connection.execute(insert(messages), {**row, "role": "user", "content": long})

    async def erase(self) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(delete(users).where(users.c.id == 7))
            await request_scrub(connection)

    def left(self) -> int:
        files = [path for path in self.path.parent.glob(f"{self.path.name}*") if not path.name.endswith("-shm")]
        return sum(path.read_bytes().count(WORD.encode()) for path in files)

    async def mark(self) -> int:
        async with self.database.reading() as connection:
            return int((await connection.execute(text("PRAGMA user_version"))).scalar_one())


@pytest.fixture
def url(make_database: MakeDatabase) -> Iterator[str]:
    with make_database("sqlite") as made:
        yield made


@pytest.fixture
async def site(url: str) -> AsyncIterator[Site]:
    made = Site(url)
    await made.write()
    yield made
    await made.database.close()


async def test_nothing_is_left_in_any_page(site: Site) -> None:
    assert site.left() > 1000
    await site.erase()
    assert await site.mark() == 1
    assert await scrub(site.database, 20)
    assert (site.left(), await site.mark()) == (0, 0)
    async with site.database.reading() as connection:
        query = text("SELECT count(*) FROM search_index WHERE search_index MATCH 'u_1'")
        assert (await connection.execute(query)).scalar_one() > 10
        assert (await connection.execute(text("PRAGMA integrity_check"))).scalar_one() == "ok"


async def test_a_reader_in_the_way_is_waited_for(site: Site) -> None:
    with closing(sqlite3.connect(site.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages")
        await site.erase()
        assert not await scrub(site.database, 0.3)
        assert await site.mark() == 1, "whoever comes next goes on"
    assert site.left()
    assert await scrub(site.database, 20)
    assert (site.left(), await site.mark()) == (0, 0)


async def test_what_is_erased_meanwhile_is_not_forgotten(site: Site) -> None:
    await site.erase()
    one = asyncio.create_task(scrub(site.database, 20))
    while not one.done():
        await site.erase()
        await asyncio.sleep(0)
    await site.erase()
    assert await site.mark()
    assert await scrub(site.database, 20)
    assert (site.left(), await site.mark()) == (0, 0)
