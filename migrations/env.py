"""Alembic's environment: one transaction, one migrator at a time, and no waiting behind long locks."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.db.all_tables import metadata
from service.db.engine import add_functions, async_url

LOCK = 0x45766572747572  # "Evertur": the advisory lock's number
SECONDS_FOR_A_LOCK = 10


def run(connection: Connection) -> None:
    postgres = connection.dialect.name == "postgresql"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=known,
        render_as_batch=not postgres,
        compare_server_default=False,
    )
    with context.begin_transaction():
        if postgres:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            connection.execute(text(f"SET LOCAL lock_timeout = '{SECONDS_FOR_A_LOCK}s'"))
        context.run_migrations()


def known(name: str | None, kind: str, _parents: object) -> bool:
    """Whether something is compared with the metadata. The search index is not: each database has its own."""
    return not (kind == "table" and (name or "").startswith("search_"))


async def main() -> None:
    url = context.config.attributes.get("url") or os.environ.get("EVERTURN_DATABASE_URL", "sqlite:///data/everturn.db")
    engine = create_async_engine(async_url(url))
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", add_functions)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
            await connection.commit()
    finally:
        await engine.dispose()


asyncio.run(main())
