"""A bound on how long statements may run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

CANCELLED = "57014"
SQLITE_INTERRUPT = 9
AGAIN_SECONDS = 0.001


class TooSlow(Exception):
    """The statement ran for too long and was ended by the database."""


@asynccontextmanager
async def bounded(connection: AsyncConnection, seconds: float) -> AsyncIterator[None]:
    """Within the block each statement of the connection may run for so long, on SQLite all of them together.

    Raises TooSlow. The transaction can only be rolled back then.
    """
    alarm = None
    if connection.dialect.name == "postgresql":
        limit = f"{max(1, round(seconds * 1000))}ms"
        await connection.execute(text("SELECT set_config('statement_timeout', :limit, true)"), {"limit": limit})
    else:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver, "connected"
        alarm = asyncio.create_task(_interrupt(driver, seconds))
    try:
        yield
    except DBAPIError as error:
        if _was_ended(error):
            raise TooSlow from error
        raise
    finally:
        if alarm:
            alarm.cancel()


async def _interrupt(driver: object, seconds: float) -> None:
    await asyncio.sleep(seconds)
    # Between two statements it has no effect.
    while True:
        await driver.interrupt()  # type: ignore[attr-defined]  # aiosqlite's
        await asyncio.sleep(AGAIN_SECONDS)


def _was_ended(error: DBAPIError) -> bool:
    if getattr(error.orig, "sqlstate", None) == CANCELLED:
        return True
    return getattr(error.orig, "sqlite_errorcode", None) == SQLITE_INTERRUPT
