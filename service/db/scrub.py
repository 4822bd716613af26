"""Overwriting what an erasure leaves in SQLite's file: words in the search index, and the write-ahead log.

With `secure_delete` deleted rows are overwritten. But the search index keeps a word until its segments are merged, and
the log holds pages as they were until it is emptied. Until both is done the file's `user_version` is not 0: it is
written with the erasure, so that after a crash whoever comes next goes on. Postgres does the like by vacuuming.
"""

import asyncio
from time import monotonic

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database

# About so many pages of the index are merged in a transaction: some milliseconds.
PAGES = 200
AGAIN_SECONDS = 0.05
MERGE = "INSERT INTO search_index (search_index, rank) VALUES ('merge', :pages)"


async def request_scrub(connection: AsyncConnection) -> None:
    """Have the file scrubbed after this transaction."""
    if connection.dialect.name == "sqlite":
        mark = (await connection.execute(text("PRAGMA user_version"))).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA user_version = {mark % 2**30 + 1}")


async def scrub(database: Database, seconds: float) -> bool:
    """Scrub if that is due, for so long; whether nothing is left to be done. Raises DatabaseUnavailable.

    False on Postgres, where it is nothing that we do.

    It goes in small transactions, so that turns get in between. Where a reader looks at an older state of the database
    the log cannot be emptied now.
    """
    if database.dialect != "sqlite":
        return False
    async with database.reading() as connection:
        mark: int = (await connection.execute(text("PRAGMA user_version"))).scalar_one()
    if not mark:
        return True
    deadline, more = monotonic() + seconds, await database.in_thread(lambda one: _merge(one, -PAGES))
    while more:
        if monotonic() > deadline:
            return False
        more = await database.in_thread(lambda one: _merge(one, PAGES))
    while not await database.empty_log():
        if monotonic() > deadline:
            return False
        await asyncio.sleep(AGAIN_SECONDS)
    await database.in_thread(lambda one: _settle(one, mark))
    return True


def _merge(connection: Connection, pages: int) -> bool:
    """Merge some pages, if negative of all segments; False where nothing was left (sqlite.org/fts5.html, 6.7)."""
    before = _changes(connection)
    connection.execute(text(MERGE), {"pages": pages})
    return _changes(connection) - before >= 2


def _changes(connection: Connection) -> int:
    return int(connection.execute(text("SELECT total_changes()")).scalar_one())


def _settle(connection: Connection, mark: int) -> None:
    """All of what was requested up to `mark` is done; what was requested since is not."""
    if connection.execute(text("PRAGMA user_version")).scalar_one() == mark:
        connection.exec_driver_sql("PRAGMA user_version = 0")
