"""The schema's version: bringing a database to it, and refusing to serve on another."""

import asyncio
import os
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.db.backfill import fill_search
from service.db.engine import Database, async_url
from service.errors import Unavailable

SCHEMA = "2026_11_26_folds"


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database to a revision, creating an embedded one, and fill what is new from what was there.

    Not to be called where an event loop runs. What is killed while it fills goes on there the next time.

    Raises Unavailable where the database has a schema that this version does not know.
    """
    parsed = async_url(url)
    embedded = parsed.get_backend_name() == "sqlite"
    if embedded and parsed.database:
        path = Path(parsed.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Talks are nobody else's to read; SQLite gives its -wal and -shm files the same mode.
        os.close(os.open(path, os.O_CREAT, 0o600))
    # Each start on an embedded database comes by here: alembic is imported where there is something to do.
    if not (embedded and revision == "head" and asyncio.run(_is_newest(url))):
        _command("upgrade", url, revision)
    if revision == "head":
        asyncio.run(_fill(url))


def downgrade(url: str, revision: str = "base") -> None:
    """Take the database back to a revision, with what that loses."""
    _command("downgrade", url, revision)


def check(url: str) -> None:
    """Raise alembic's CommandError where the database differs from service/db/tables.py."""
    _command("check", url)


async def verify_schema(database: Database) -> None:
    """Raise Unavailable, with what to do, unless the database has the schema that this code expects."""
    found = await _find_version(database)
    if found != SCHEMA:
        raise Unavailable(
            f"The database's schema is {found or 'empty'}, this version needs {SCHEMA}: run `everturn migrate`."
        )


async def _find_version(database: Database) -> str | None:
    try:
        async with database.reading() as connection:
            found: str | None = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
            return found
    except DBAPIError:
        return None


async def _is_newest(url: str) -> bool:
    database = Database(url, pool=1)
    try:
        return await _find_version(database) == SCHEMA
    finally:
        await database.close()


async def _fill(url: str) -> None:
    database = Database(url, pool=1)
    try:
        await fill_search(database)
    finally:
        await database.close()


def _command(name: str, url: str, *arguments: str) -> None:
    import alembic.command
    from alembic.config import Config
    from alembic.script.revision import ResolutionError
    from alembic.util import CommandError

    here = Path(__file__).resolve()
    folder = next(
        path for path in (here.parents[2] / "migrations", here.parents[1] / "_migrations") if (path / "env.py").exists()
    )
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    try:
        getattr(alembic.command, name)(config, *arguments)
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        raise Unavailable(
            f"The database's schema is not of this version, which knows those up to {SCHEMA}: {error}. "
            "Run the version that made it, or a newer one."
        ) from error
