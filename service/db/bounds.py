"""A bound on how long statements may run."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

from asyncpg.exceptions import QueryCanceledError  # type: ignore[import-untyped]  # it ships none
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

CANCELLED = "57014"
SQLITE_INTERRUPT = 9
# As the drivers raise it while the rows of a cursor are fetched.
BARE = (QueryCanceledError, sqlite3.OperationalError)
AGAIN_SECONDS = 0.001
LOOK_SECONDS = 0.02


class TooSlow(Exception):
    """The statement ran for too long and was ended by the database."""


@asynccontextmanager
async def bounded(connection: AsyncConnection, seconds: float) -> AsyncIterator[None]:
    """Within the block each statement of the connection may run for so long, on SQLite all of them together, and the
    one that runs is ended where the block is cancelled.

    Raises TooSlow. The transaction can only be rolled back then.
    """
    alarm = None
    if connection.dialect.name == "postgresql":
        limit = f"{max(1, round(seconds * 1000))}ms"
        await connection.execute(text("SELECT set_config('statement_timeout', :limit, true)"), {"limit": limit})
    else:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver, "connected"
        alarm = asyncio.create_task(_interrupt(driver, seconds, asyncio.current_task()))
    try:
        yield
    except (DBAPIError, *BARE) as error:
        if _was_ended(getattr(error, "orig", error)):
            raise TooSlow from error
        raise
    finally:
        if alarm:
            alarm.cancel()


async def _interrupt(driver: object, seconds: float, task: "asyncio.Task[Any] | None") -> None:
    """End what runs when the time is over, or when the task is cancelled: it waits for the thread of the statement."""
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0 and not (task and task.cancelling()):  # noqa: ASYNC110  # nobody would tell
        await asyncio.sleep(min(left, LOOK_SECONDS))
    # Between two statements it has no effect, and of a connection that is closed there is nothing to end.
    with suppress(ValueError):
        while True:
            await driver.interrupt()  # type: ignore[attr-defined]  # aiosqlite's
            await asyncio.sleep(AGAIN_SECONDS)


def _was_ended(error: object) -> bool:
    return getattr(error, "sqlstate", None) == CANCELLED or getattr(error, "sqlite_errorcode", None) == SQLITE_INTERRUPT
