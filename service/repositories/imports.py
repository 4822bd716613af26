"""Conversations that come from elsewhere: what of one is here already, and its rows."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, case, exists, insert, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.file_tables import blobs, message_blobs
from service.db.import_tables import imports
from service.db.recordset import encode, insert_rows
from service.db.tables import conversations, messages
from service.db.types import Instant, now, to_micros
from service.domain.porting.everturn import native_name
from service.domain.porting.trees import Stood
from service.repositories.turn_statements import MESSAGE

IMPORTED = (*MESSAGE, "reasoning", "created_at", "source_id")
# Rows of one statement: by number, and by characters of their text.
MOST_ROWS, MOST_CHARACTERS = 1000, 4_000_000


async def find_import(connection: AsyncConnection, user_id: int, source: str, *, source_id: str) -> int | None:
    """The number of the conversation that was imported under this name."""
    where = (imports.c.user_id == user_id, imports.c.source == source, imports.c.source_id == source_id)
    found: int | None = (await connection.execute(select(imports.c.conversation_id).where(*where))).scalar()
    return found


async def find_native(connection: AsyncConnection, user_id: int, number: int, *, created_at: datetime) -> int | None:
    """The number, if it is that of a conversation which the user began here in this very moment."""
    where = (conversations.c.user_id == user_id, conversations.c.id == number, conversations.c.created_at == created_at)
    found: int | None = (await connection.execute(select(conversations.c.id).where(*where))).scalar()
    return found


async def list_stood(connection: AsyncConnection, user_id: int, conversation_id: int) -> list[Stood]:
    """The messages of a conversation without their text, under the names that they have outside."""
    here = messages.c
    query = select(here.id, here.source_id, here.created_at, here.parent_id, here.line_id, here.depth)
    rows = await connection.execute(query.where(here.user_id == user_id, here.conversation_id == conversation_id))
    return [
        Stood(row.source_id or native_name(row.id, row.created_at), row.id, row.parent_id, row.line_id, row.depth)
        for row in rows
    ]


async def add_import(
    connection: AsyncConnection, user_id: int, conversation_id: int, *, names: tuple[str, str]
) -> None:
    """Remember source and name. Raises IntegrityError where another import of the same was faster."""
    source, source_id = names
    row = {"user_id": user_id, "source": source, "source_id": source_id, "conversation_id": conversation_id}
    await connection.execute(insert(imports), row)


async def show_images(connection: AsyncConnection, user_id: int, shown: Sequence[tuple[int, str]]) -> None:
    """Have messages, by number, keep content, by hash, that they show: as far as both are here.

    Raises IntegrityError where content goes in this very moment.
    """
    rows = [{"user_id": user_id, "message_id": message_id, "sha256": sha256} for message_id, sha256 in shown]
    await connection.execute(_show(connection.dialect.name), {"shown": encode(rows)})


async def add_messages(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert messages, parents before their children. Raises IntegrityError where a place is taken."""
    statement = _insert(connection.dialect.name)
    sqlite = connection.dialect.name == "sqlite"
    for batch in _batches(rows):
        if not sqlite:
            # The check of each row's parent keeps the plan that it got while the table was small, and then reads all of
            # the user's messages for each of them.
            await connection.execute(text("DISCARD PLANS"))
        shown = [{**row, "created_at": to_micros(row["created_at"])} for row in batch] if sqlite else batch
        await connection.execute(statement, {"rows": encode(shown)})


async def grow(
    connection: AsyncConnection,
    user_id: int,
    conversation_id: int,
    *,
    added: int,
    leaf_id: int | None,
    active_at: datetime,
) -> None:
    """Count messages that were added, move the leaf where one is given, and the activity where it is later."""
    here = conversations.c
    moment = literal(active_at, Instant)
    values: dict[str, Any] = {
        "message_count": here.message_count + added,
        "active_at": case((here.active_at < moment, moment), else_=here.active_at),
        "updated_at": now(),
    }
    if leaf_id is not None:
        values["active_leaf_id"] = leaf_id
    where = (here.user_id == user_id, here.id == conversation_id)
    await connection.execute(update(conversations).where(*where).values(values))


@lru_cache
def _insert(dialect: str) -> Any:
    return insert_rows(dialect, "rows", table=messages, names=IMPORTED)


@lru_cache
def _show(dialect: str) -> Any:
    def both(row: FromClause) -> ColumnElement[bool]:
        message, blob = messages.c, blobs.c
        here = (message.user_id == row.c.user_id, message.id == row.c.message_id, message.parts.is_not(None))
        return exists().where(*here) & exists().where(blob.user_id == row.c.user_id, blob.sha256 == row.c.sha256)

    names = ("user_id", "message_id", "sha256")
    return insert_rows(dialect, "shown", table=message_blobs, names=names, where=both)


def _batches(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row["content"]) + len(row["reasoning"] or "") + len(str(row["parts"] or ""))
        if len(batch) >= MOST_ROWS or size >= MOST_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
