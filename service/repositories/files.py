"""Files: paths, the blobs that they name, and what a user has of both.

Whoever changes a user's blobs or files holds the row of `file_usage` first; so a blob that nobody refers to is not
taken away from under somebody who is about to.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, delete, exists, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.file_tables import blobs, file_usage, files, message_blobs
from service.db.recordset import upsert
from service.db.tables import messages
from service.db.types import after, later, now
from service.domain.paging import Ask, Page
from service.domain.paths import LAST
from service.repositories.paging import Pager, Sort

BLOB: list[ColumnElement[Any]] = [blobs.c.user_id, blobs.c.sha256, blobs.c.token, blobs.c.size]
USAGE: list[ColumnElement[Any]] = [file_usage.c.bytes, file_usage.c.files]


async def lock_usage(connection: AsyncConnection, user_id: int) -> Row[Any]:
    """What the user has (bytes, files), held until the transaction ends. Raises IntegrityError for nobody."""
    row = upsert(connection.dialect.name, file_usage).values(user_id=user_id)
    touch = row.on_conflict_do_update(index_elements=["user_id"], set_={"bytes": file_usage.c.bytes})
    return (await connection.execute(touch.returning(*USAGE))).one()


async def find_usage(connection: AsyncConnection, user_id: int) -> Row[Any] | None:
    query = select(*USAGE).where(file_usage.c.user_id == user_id)
    return (await connection.execute(query)).first()


async def add_usage(connection: AsyncConnection, user_id: int, *, size: int, count: int) -> None:
    """Count bytes and files that came, or went where they are negative."""
    values = {"bytes": file_usage.c.bytes + size, "files": file_usage.c.files + count}
    await connection.execute(update(file_usage).where(file_usage.c.user_id == user_id).values(values))


async def find_file(connection: AsyncConnection, user_id: int, path: str) -> Row[Any] | None:
    """A file with its blob's token and size."""
    found: Row[Any] | None = (await connection.execute(_files(user_id).where(files.c.path == path))).first()
    return found


async def page_files(
    connection: AsyncConnection, pager: Pager, ask: Ask, *, user_id: int, prefix: str
) -> Page[Row[Any]]:
    """A page of the files whose path begins so, in the order of their bytes."""
    query = _files(user_id)
    if prefix:
        query = query.where(files.c.path >= prefix, files.c.path < prefix + LAST)
    scope = ("files", user_id, prefix)
    return await pager.page(connection, query, sort=[Sort(files.c.path)], ask=ask, scope=scope)


async def put_file(connection: AsyncConnection, user_id: int, path: str, values: Mapping[str, Any]) -> None:
    """Have the path name other content: sha256 and content_type."""
    row = upsert(connection.dialect.name, files).values(user_id=user_id, path=path, **values)
    changed = {**values, "updated_at": now()}
    await connection.execute(row.on_conflict_do_update(index_elements=["user_id", "path"], set_=changed))


async def delete_file(connection: AsyncConnection, user_id: int, path: str) -> None:
    await connection.execute(delete(files).where(files.c.user_id == user_id, files.c.path == path))


async def list_files(connection: AsyncConnection, user_id: int, after: str, most: int) -> list[Row[Any]]:
    """The next files by path."""
    return list(
        await connection.execute(_files(user_id).where(files.c.path > after).order_by(files.c.path).limit(most))
    )


async def list_unnamed(connection: AsyncConnection, user_id: int, after: str, most: int) -> list[Row[Any]]:
    """The next blobs, by hash, that messages show and no file names."""
    named, shown = _referring()
    query = select(*BLOB).where(blobs.c.user_id == user_id, blobs.c.sha256 > after, shown, ~named)
    return list(await connection.execute(query.order_by(blobs.c.sha256).limit(most)))


async def find_blob(connection: AsyncConnection, user_id: int, sha256: str) -> Row[Any] | None:
    query = select(*BLOB).where(blobs.c.user_id == user_id, blobs.c.sha256 == sha256)
    return (await connection.execute(query)).first()


async def add_blob(connection: AsyncConnection, values: Mapping[str, Any]) -> None:
    await connection.execute(insert(blobs), dict(values))


async def replace_blob(connection: AsyncConnection, user_id: int, sha256: str, token: str) -> None:
    """The same content now lies in another file."""
    where = (blobs.c.user_id == user_id, blobs.c.sha256 == sha256)
    await connection.execute(update(blobs).where(*where).values(token=token))


async def hold_blobs(
    connection: AsyncConnection, user_id: int, hashes: Collection[str], *, seconds: int
) -> dict[str, datetime]:
    """Keep these for so long at least, whoever refers to them; → those that are there, and until when they are held: no
    two holds of one have the same moment."""
    longest = case((blobs.c.held_until >= later(seconds), after(blobs.c.held_until)), else_=later(seconds))
    held = update(blobs).where(blobs.c.user_id == user_id, blobs.c.sha256.in_(hashes)).values(held_until=longest)
    rows = await connection.execute(held.returning(blobs.c.sha256, blobs.c.held_until))
    return {row.sha256: row.held_until for row in rows}


async def drop_blob(connection: AsyncConnection, user_id: int, sha256: str, until: datetime) -> list[Row[Any]]:
    """Delete a blob before its time where nothing refers to it and nobody has held it since `until`; → what went."""
    held = delete(blobs).where(blobs.c.user_id == user_id, blobs.c.sha256 == sha256, blobs.c.held_until == until)
    return list(await connection.execute(held.where(*_alone()).returning(*BLOB)))


async def release_blobs(connection: AsyncConnection, user_id: int, *hashes: str) -> list[Row[Any]]:
    """Delete these blobs, or all of the user's, where nothing refers to them any more; → what went."""
    removal = delete(blobs).where(blobs.c.user_id == user_id, _unreferenced())
    if hashes:
        removal = removal.where(blobs.c.sha256.in_(hashes))
    return list(await connection.execute(removal.returning(*BLOB)))


async def list_shown(connection: AsyncConnection, user_id: int, conversation_id: int) -> list[str]:
    """The hashes of the images in a conversation."""
    talk = select(messages.c.id).where(messages.c.user_id == user_id, messages.c.conversation_id == conversation_id)
    query = select(message_blobs.c.sha256).where(
        message_blobs.c.user_id == user_id, message_blobs.c.message_id.in_(talk)
    )
    return list((await connection.execute(query.distinct())).scalars())


async def list_blobs(connection: AsyncConnection, user_id: int) -> list[Row[Any]]:
    """All of a user's, for their erasure."""
    return list(await connection.execute(select(*BLOB).where(blobs.c.user_id == user_id)))


async def owners_of_waste(connection: AsyncConnection, most: int) -> list[int]:
    """Some users with blobs that nothing refers to any more."""
    query = select(blobs.c.user_id).where(_unreferenced()).distinct().limit(most)
    return list((await connection.execute(query)).scalars())


async def known_tokens(connection: AsyncConnection, keys: Sequence[tuple[int, str]]) -> set[tuple[int, str, str]]:
    """Of blobs named by user and sha256: those that are there, with their token."""
    query = select(*BLOB[:3]).where(tuple_(blobs.c.user_id, blobs.c.sha256).in_(keys))
    return {(row.user_id, row.sha256, row.token) for row in await connection.execute(query)}


def _files(user_id: int) -> Select[Any]:
    both = (blobs.c.user_id == files.c.user_id) & (blobs.c.sha256 == files.c.sha256)
    return select(files, blobs.c.token, blobs.c.size).join_from(files, blobs, both).where(files.c.user_id == user_id)


def _unreferenced() -> ColumnElement[bool]:
    return and_(*_alone(), or_(blobs.c.held_until.is_(None), blobs.c.held_until < now()))


def _alone() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Neither a file nor a message refers to it."""
    named, shown = _referring()
    return ~named, ~shown


def _referring() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """A file refers to it; a message does."""
    named = exists().where(files.c.user_id == blobs.c.user_id, files.c.sha256 == blobs.c.sha256)
    shown = exists().where(message_blobs.c.user_id == blobs.c.user_id, message_blobs.c.sha256 == blobs.c.sha256)
    return named, shown
