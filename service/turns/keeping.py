"""Blobs on their way into the database, and the images that a request sends along: all or none, named at its end."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.blobs.arriving import Arriving, Quota, exceeded, too_many
from service.blobs.store import Blob, Store
from service.db.engine import Database
from service.domain.parts import ImagePart
from service.errors import EverturnError, NotFound, Unavailable
from service.repositories import files as rows

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a request brought that was not here, by its hash with the moment until which it is held."""

    new: Mapping[str, datetime]


class Keeping:
    """Keeps what is sent along, within each user's quota."""

    def __init__(self, database: Database, store: Store, arriving: Arriving, *, quota: Quota) -> None:
        self._database = database
        self._store = store
        self._arriving = arriving
        self._quota = quota

    async def keep(
        self, user_id: int, sent: Mapping[ImagePart, bytes], *, shown: Collection[str], seconds: int, named: bool
    ) -> Kept | None:
        """Write the images that are not here, and hold them and all that is `shown` for so long; None where something
        shown is gone.

        All or none: what may be named later must have room as well, where it is to be `named`. Raises QuotaExceeded,
        StorageFull, Unavailable, NotFound.
        """
        async with self._database.reading() as connection:
            usage = await rows.find_usage(connection, user_id)
            missing = {image: data for image, data in sent.items() if not await _is_here(connection, user_id, image)}
            if named:
                await self._check_names(connection, user_id, sent, usage)
        size = sum(map(len, missing.values()))
        if missing:
            await self._store.check_space(size)
        room = self._quota.bytes - (usage.bytes if usage else 0)
        with self._arriving.expect(user_id, size, room=room):
            blobs: list[Blob] = []
            try:
                for data in missing.values():
                    blobs.append(await self._receive(user_id, data))  # noqa: PERF401  # kept up to an error
            except EverturnError:
                await self._store.remove(blobs)
                raise
            return await self._enter(user_id, blobs, sent if named else {}, (shown, seconds))

    async def name(self, user_id: int, images: Iterable[ImagePart]) -> None:
        """Have their paths name images that a message shows, as far as there is room for paths."""

        async def work(connection: AsyncConnection) -> list[Row[Any]]:
            usage = await rows.lock_usage(connection, user_id)
            count, gone = 0, []
            for image in images:
                before = await rows.find_file(connection, user_id, image.file)
                if before is None and usage.files + count >= self._quota.files:
                    log.warning("user %s has no room for the path of an image", user_id)
                elif (before is None or before.sha256 != image.sha256) and await _is_here(connection, user_id, image):
                    values = {"sha256": image.sha256, "content_type": image.media_type}
                    await rows.put_file(connection, user_id, image.file, values)
                    gone += [] if before is None else await rows.release_blobs(connection, user_id, before.sha256)
                    count += before is None
            await rows.add_usage(connection, user_id, size=-sum(row.size for row in gone), count=count)
            return gone

        await self._remove(await self._database.atomically(work))

    async def forget(self, user_id: int, kept: Kept) -> None:
        """Let go of what a refused request brought, unless somebody else has held or named it since."""

        async def work(connection: AsyncConnection) -> list[Row[Any]]:
            await rows.lock_usage(connection, user_id)
            gone = [row for one in kept.new.items() for row in await rows.drop_blob(connection, user_id, *one)]
            await rows.add_usage(connection, user_id, size=-sum(row.size for row in gone), count=0)
            return gone

        await self._remove(await self._database.atomically(work))

    async def _receive(self, user_id: int, data: bytes) -> Blob:
        async with self._store.receive(user_id) as incoming:
            await incoming.write(data)
            return await incoming.keep()

    async def _enter(
        self, user_id: int, blobs: list[Blob], named: Collection[ImagePart], held: tuple[Collection[str], int]
    ) -> Kept | None:
        async def work(connection: AsyncConnection) -> tuple[Kept, list[Blob]]:
            usage = await rows.lock_usage(connection, user_id) if blobs else None
            if usage is not None:
                await self._check_names(connection, user_id, named, usage)
            new = [blob for blob in blobs if await add_blob(connection, self._store, blob)]
            if usage is not None and usage.bytes + sum(blob.size for blob in new) > self._quota.bytes:
                raise exceeded(self._quota.bytes)
            if new:
                await rows.add_usage(connection, user_id, size=sum(blob.size for blob in new), count=0)
            until = await rows.hold_blobs(connection, user_id, held[0], seconds=held[1])
            made = {blob.sha256: until[blob.sha256] for blob in new}
            waste = [blob for blob in blobs if blob not in new and not await _is_used(connection, blob)]
            if until.keys() != set(held[0]):
                raise _GoneError
            return Kept(made), waste

        try:
            kept, waste = await self._database.atomically(work)
        except _GoneError:
            await self._store.remove(blobs)
            return None
        except IntegrityError:
            await self._store.remove(blobs)
            raise NotFound(f"There is no user {user_id}.") from None
        except EverturnError as error:
            # An outage may hide a commit: the sweep knows whether a blob is needed.
            if not isinstance(error, Unavailable):
                await self._store.remove(blobs)
            raise
        await self._store.remove(waste)
        return kept

    async def _check_names(
        self, connection: AsyncConnection, user_id: int, images: Collection[ImagePart], usage: Row[Any] | None
    ) -> None:
        paths = {image.file for image in images}
        new = [path for path in paths if await rows.find_file(connection, user_id, path) is None]
        if new and (usage.files if usage else 0) + len(new) > self._quota.files:
            raise too_many(self._quota.files)

    async def _remove(self, gone: list[Row[Any]]) -> None:
        await self._store.remove([Blob(row.user_id, row.sha256, row.token, row.size) for row in gone])


class _GoneError(Exception):
    """What is shown went while the rest was written."""


async def add_blob(connection: AsyncConnection, store: Store, blob: Blob) -> int:
    """Write a blob down unless its content is there already. → the bytes that are new."""
    if await rows.find_blob(connection, blob.user_id, blob.sha256) is not None:
        await reuse_blob(connection, store, blob)
        return 0
    values = {"user_id": blob.user_id, "sha256": blob.sha256, "token": blob.token, "size": blob.size}
    await rows.add_blob(connection, values)
    return blob.size


async def reuse_blob(connection: AsyncConnection, store: Store, blob: Blob) -> list[Blob]:
    """Keep the file that has this content, or take the new one where it got lost. → what is not needed."""
    row = await rows.find_blob(connection, blob.user_id, blob.sha256)
    if row is not None and await store.has(Blob(row.user_id, row.sha256, row.token, row.size)):
        return [blob]
    log.warning("a lost blob of user %s was written anew", blob.user_id)
    await rows.replace_blob(connection, blob.user_id, blob.sha256, blob.token)
    return []


async def _is_here(connection: AsyncConnection, user_id: int, image: ImagePart) -> bool:
    return await rows.find_blob(connection, user_id, image.sha256) is not None


async def _is_used(connection: AsyncConnection, blob: Blob) -> bool:
    row = await rows.find_blob(connection, blob.user_id, blob.sha256)
    return row is not None and row.token == blob.token
