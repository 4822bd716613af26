"""Files: a user's attachments, kept by the hash of their content, under a quota."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.blobs.arriving import Arriving, Expected, Quota, exceeded, too_many
from service.blobs.store import Blob, Incoming, Reader, Store
from service.db.engine import Database
from service.domain.etags import Conditions, Tags, quote
from service.domain.media import HEAD_BYTES, IMAGES, contradicts, essence
from service.domain.paging import Ask, Page
from service.domain.parts import images_of
from service.domain.porting.carried import IMPORTED, TAKEN, UNCHANGED, Brought, FileHead
from service.errors import (
    BadRequest,
    EverturnError,
    NotFound,
    PreconditionFailed,
    StorageFull,
    Unavailable,
    Unprocessable,
)
from service.repositories import files as rows
from service.repositories import messages
from service.repositories.paging import Pager
from service.turns.keeping import add_blob, reuse_blob

log = logging.getLogger(__name__)

MOST_TRIES = 3
# Between an image that an import brings and the message that keeps it: longer than an import takes.
BROUGHT_SECONDS = 3 * 3600
T = TypeVar("T")
NEW = Conditions(none_match=Tags(any=True))
NOWHERE = ""


@dataclass(frozen=True, slots=True)
class File:
    """What a path names. `content_type` is what the client said."""

    path: str
    size: int
    content_type: str
    sha256: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class FileDraft:
    """A file to be written. `length` None: it is known when all of it is here. `sha256`: what the client computed."""

    path: str
    content_type: str
    length: int | None
    conditions: Conditions
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written, and whether its path is new."""

    file: File
    created: bool


# Writes the rows of a blob that is on the disk. → what it says, and the blobs that are not needed any more.
Write = Callable[[AsyncConnection, Blob, FileDraft], Awaitable[tuple[T, list[Blob]]]]


class Files:
    def __init__(self, database: Database, pager: Pager, store: Store, arriving: Arriving, *, quota: Quota) -> None:
        self._database = database
        self._pager = pager
        self._store = store
        self._quota = quota
        self._arriving = arriving

    async def put(self, user_id: int, draft: FileDraft, body: AsyncIterator[bytes]) -> Written:
        """Keep a content under a path, all of it or nothing; what the path named before is let go.

        Raises PreconditionFailed, QuotaExceeded, StorageFull, Unprocessable for an image that is none, BadRequest for
        another content than announced, and whatever `body` raises.
        """
        return await self._receive(user_id, draft, body, self._write)

    async def bring(self, user_id: int, head: FileHead, body: AsyncIterator[bytes]) -> Brought:
        """Keep a file that an import carries, unless its path names one, and an image for the messages that show it.

        Raises as `put`.
        """
        if head.path is None:
            return await self._hold(user_id, head, body)
        try:
            await self.put(user_id, FileDraft(head.path, head.content_type, head.size, NEW, head.sha256), body)
            return IMPORTED
        except PreconditionFailed:
            async with self._database.reading() as connection:
                if (await self._find(connection, user_id, head.path)).sha256 == head.sha256:
                    return UNCHANGED
        if essence(head.content_type) in IMAGES:
            with suppress(BadRequest, Unprocessable):
                await self._hold(user_id, head, body)
        return TAKEN

    async def _hold(self, user_id: int, head: FileHead, body: AsyncIterator[bytes]) -> Brought:
        """Keep an image until the messages that show it are there as well. Raises as `put`."""

        async def hold(connection: AsyncConnection) -> bool:
            return bool(await rows.hold_blobs(connection, user_id, [head.sha256], seconds=BROUGHT_SECONDS))

        async def write(connection: AsyncConnection, blob: Blob, _draft: FileDraft) -> tuple[Brought, list[Blob]]:
            usage = await rows.lock_usage(connection, user_id)
            size = await add_blob(connection, self._store, blob)
            if size and usage.bytes + size > self._quota.bytes:
                raise exceeded(self._quota.bytes)
            await rows.add_usage(connection, user_id, size=size, count=0)
            await hold(connection)
            row = await rows.find_blob(connection, user_id, head.sha256)
            return IMPORTED, [] if row is not None and row.token == blob.token else [blob]

        if await self._database.atomically(hold):
            return UNCHANGED
        draft = FileDraft(NOWHERE, head.content_type, head.size, Conditions(), head.sha256)
        return await self._receive(user_id, draft, body, write)

    async def open(self, user_id: int, path: str) -> tuple[File, Reader]:
        """A file, and its content, to be closed. Raises NotFound, Unavailable."""

        async def look(connection: AsyncConnection) -> tuple[File, Blob]:
            row = await self._find(connection, user_id, path)
            return _file(row), _blob(row)

        return await self._open(look)

    async def open_image(self, user_id: int, message_id: int, sha256: str) -> tuple[File, Reader]:
        """An image of a message, whatever became of the file; to be closed. Raises NotFound, Unavailable."""

        async def look(connection: AsyncConnection) -> tuple[File, Blob]:
            message = await messages.find_message(connection, user_id, message_id)
            shown = images_of(messages.line_of(message).parts) if message else []
            image = next((one for one in shown if one.sha256 == sha256), None)
            row = await rows.find_blob(connection, user_id, sha256) if image else None
            if message is None or image is None or row is None:
                raise NotFound("There is no such image in this message.")
            at = message.created_at
            return File(image.file, image.size, image.media_type, sha256, at, at), _blob(row)

        return await self._open(look)

    async def delete(self, user_id: int, path: str, conditions: Conditions) -> None:
        """Raises NotFound, PreconditionFailed."""

        async def work(connection: AsyncConnection) -> list[Blob]:
            await self._find(connection, user_id, path)
            await rows.lock_usage(connection, user_id)
            row = await self._find(connection, user_id, path)
            _check(conditions, row)
            await rows.delete_file(connection, user_id, path)
            gone = await rows.release_blobs(connection, user_id, row.sha256)
            await rows.add_usage(connection, user_id, size=-_total(gone), count=-1)
            return [_blob(one) for one in gone]

        await self._store.remove(await self._database.atomically(work))

    async def page(self, user_id: int, prefix: str, ask: Ask) -> Page[File]:
        """A page of the files whose path begins so, by path. Raises BadCursor."""
        async with self._database.reading() as connection:
            page = await rows.page_files(connection, self._pager, ask, user_id=user_id, prefix=prefix)
        return page.map(_file)

    async def _open(self, look: Callable[[AsyncConnection], Awaitable[tuple[File, Blob]]]) -> tuple[File, Reader]:
        for _ in range(MOST_TRIES):
            async with self._database.reading() as connection:
                file, blob = await look(connection)
            try:
                return file, await self._store.open(blob)
            except FileNotFoundError:
                # Replaced or deleted since it was looked up: look again.
                continue
        log.error("a blob of user %s is missing on the disk", blob.user_id)
        raise Unavailable("The content of this file is missing on the service's disk.")

    async def _receive(self, user_id: int, draft: FileDraft, body: AsyncIterator[bytes], write: Write[T]) -> T:
        room = await self._admit(user_id, draft)
        with self._arriving.expect(user_id, draft.length, room=room) as expected:
            async with self._store.receive(user_id) as incoming:
                blob = await _fill(incoming, draft, expected, body)
            return await self._enter(blob, lambda connection: write(connection, blob, draft))

    async def _admit(self, user_id: int, draft: FileDraft) -> int:
        """Refuse early what would be refused in the end. → the bytes that the user may still send."""
        async with self._database.reading() as connection:
            row = await rows.find_file(connection, user_id, draft.path)
            usage = await rows.find_usage(connection, user_id)
        _check(draft.conditions, row)
        if draft.length:
            await self._store.check_space(draft.length)
        return self._quota.bytes - (usage.bytes if usage else 0) + (row.size if row else 0)

    async def _enter(self, blob: Blob, write: Callable[[AsyncConnection], Awaitable[tuple[T, list[Blob]]]]) -> T:
        """Write the rows of a blob that is on the disk, and remove those that are not needed any more."""
        try:
            written, gone = await self._database.atomically(write)
        except IntegrityError:
            await self._store.remove([blob])
            raise NotFound(f"There is no user {blob.user_id}.") from None
        except EverturnError as error:
            # An outage may hide a commit: the sweep knows whether the blob is needed.
            if isinstance(error, StorageFull) or not isinstance(error, Unavailable):
                await self._store.remove([blob])
            raise
        await self._store.remove(gone)
        return written

    async def _write(self, connection: AsyncConnection, blob: Blob, draft: FileDraft) -> tuple[Written, list[Blob]]:
        """→ the file, and the blobs that are not needed any more."""
        user_id = blob.user_id
        usage = await rows.lock_usage(connection, user_id)
        before = await rows.find_file(connection, user_id, draft.path)
        _check(draft.conditions, before)
        if before is not None and (before.sha256, before.content_type) == (blob.sha256, draft.content_type):
            return Written(_file(before), False), await reuse_blob(connection, self._store, blob)
        new = await add_blob(connection, self._store, blob)
        values = {"sha256": blob.sha256, "content_type": draft.content_type}
        await rows.put_file(connection, user_id, draft.path, values)
        old = [] if before is None else await rows.release_blobs(connection, user_id, before.sha256)
        size, count = new - _total(old), int(before is None)
        if size > 0 and usage.bytes + size > self._quota.bytes:
            raise exceeded(self._quota.bytes)
        if count and usage.files >= self._quota.files:
            raise too_many(self._quota.files)
        await rows.add_usage(connection, user_id, size=size, count=count)
        after = await self._find(connection, user_id, draft.path)
        unused = [] if after.token == blob.token else [blob]
        return Written(_file(after), before is None), [*unused, *map(_blob, old)]

    async def _find(self, connection: AsyncConnection, user_id: int, path: str) -> Row[Any]:
        row = await rows.find_file(connection, user_id, path)
        if row is None:
            raise NotFound("There is no such file.")
        return row


async def _fill(incoming: Incoming, draft: FileDraft, expected: Expected, body: AsyncIterator[bytes]) -> Blob:
    head = b""
    async for data in body:
        if len(head) < HEAD_BYTES:
            head += data[: HEAD_BYTES - len(head)]
            if len(head) == HEAD_BYTES:
                _check_image(draft, head)
        expected.grow(incoming.size + len(data))
        await incoming.write(data)
    _check_image(draft, head)
    if draft.sha256 is not None and await incoming.digest() != draft.sha256:
        raise BadRequest("The body is not the one that its digest announces; send it again.")
    return await incoming.keep()


def _check_image(draft: FileDraft, head: bytes) -> None:
    if contradicts(draft.content_type, head):
        raise Unprocessable("The body is not the image that Content-Type announces.", loc=("header", "content-type"))


def _check(conditions: Conditions, row: Row[Any] | None) -> None:
    if not conditions.allow_write(None if row is None else quote(row.sha256)):
        raise PreconditionFailed


def _total(gone: list[Row[Any]]) -> int:
    return sum(row.size for row in gone)


def _blob(row: Row[Any]) -> Blob:
    return Blob(row.user_id, row.sha256, row.token, row.size)


def _file(row: Row[Any]) -> File:
    found = row._mapping
    return File(**{name: found[name] for name in File.__slots__})
