"""Images of messages: looked up and held before a message refers to them, and fetched when a provider is asked."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.blobs.store import Blob, Store
from service.db.engine import Database
from service.domain.claims import Claim
from service.domain.history import Line
from service.domain.media import UNKNOWN, essence
from service.domain.parts import MOST_IMAGE_BYTES, MOST_IMAGES, DataPart, FilePart, ImagePart, Part
from service.domain.pixels import measure
from service.errors import EverturnError, NotFound, Unavailable, Unprocessable
from service.providers.base import Model, ProviderFailure
from service.repositories import files as rows
from service.turns.claims import Claims
from service.turns.keeping import Keeping, Kept

log = logging.getLogger(__name__)

# Between the look at a blob and the message that keeps it: much longer than any begin takes.
HELD_SECONDS = 300
# Of a completion that is not stored no message will keep them.
UNSTORED_SECONDS = 3 * 3600
MOST_TRIES = 3
NO_IMAGE = "is no image that models take: PNG, JPEG, GIF or WebP, as its type says."

# The bytes of a user's image by their hash; None where the service does not have them any more.
Fetch = Callable[[int, str], Awaitable[bytes | None]]


class Images:
    def __init__(self, database: Database, store: Store, claims: Claims, keeping: Keeping) -> None:
        self._database = database
        self._store = store
        self._claims = claims
        self._keeping = keeping

    @asynccontextmanager
    async def settled(
        self, user_id: int, lines: tuple[Line, ...], *, claim: Claim | None = None, stored: bool = True
    ) -> AsyncIterator[tuple[Line, ...]]:
        """The lines with their images looked up, written where they were sent along, and held for a while: store them
        inside.

        What is sent along becomes a file at the end, or is only held where nothing is to be `stored`; where this or
        what is done inside is refused, nothing stays of it. A request that was carried out already is not looked at.
        Raises NotFound for a file that is not the user's, Unprocessable, QuotaExceeded, StorageFull, Unavailable,
        IdempotencyMismatch.
        """
        wanted = [part for line in lines for part in line.parts if isinstance(part, FilePart | DataPart)]
        if not wanted or (claim and await self._claims.find(claim)):
            yield lines
            return
        found, kept = await self._settle(user_id, wanted, stored=stored)
        try:
            yield tuple(_settled(line, found) for line in lines)
        except EverturnError as error:
            # An outage may hide a message that was written: the sweep knows what is needed.
            if kept.new and not isinstance(error, Unavailable):
                await self._keeping.forget(user_id, kept)
            raise
        if sent := [image for part, image in found.items() if stored and isinstance(part, DataPart)]:
            await self._name(user_id, sent)

    async def _settle(
        self, user_id: int, wanted: list[FilePart | DataPart], *, stored: bool
    ) -> tuple[dict[FilePart | DataPart, ImagePart], Kept]:
        if len(wanted) > MOST_IMAGES:
            raise Unprocessable(f"One request may hold {MOST_IMAGES} images.", loc=("body",))
        for _ in range(MOST_TRIES):
            # Before anything is read: twenty files may be large.
            if sum([await self._size(user_id, part) for part in wanted]) > MOST_IMAGE_BYTES:
                raise _too_large()
            found = {part: await self._look(user_id, part) for part in dict.fromkeys(wanted)}
            if sum(found[part].size for part in wanted) > MOST_IMAGE_BYTES:
                raise _too_large()
            kept = await self._keeping.keep(
                user_id,
                {image: part.data for part, image in found.items() if isinstance(part, DataPart)},
                shown={image.sha256 for image in found.values()},
                seconds=HELD_SECONDS if stored else UNSTORED_SECONDS,
                named=stored,
            )
            if kept is not None:
                return found, kept
        raise Unavailable("The images were changed all the time; send again.")

    async def _name(self, user_id: int, sent: list[ImagePart]) -> None:
        """The message is there, with its images: that a path is not, for once, is no reason to refuse it."""
        try:
            await self._keeping.name(user_id, sent)
        except EverturnError as error:
            log.warning("the images of a message of user %s got no paths: %s", user_id, error.code)

    async def fetch(self, user_id: int, sha256: str) -> bytes | None:
        """The bytes of an image; None where nobody knows it any more. Raises ProviderFailure where they cannot be
        read."""
        try:
            for _ in range(MOST_TRIES):
                async with self._database.reading() as connection:
                    row = await rows.find_blob(connection, user_id, sha256)
                if row is None:
                    return None
                try:
                    return await self._store.read(_blob(row))
                except FileNotFoundError:
                    # Written anew since it was looked up: look again.
                    continue
        except Unavailable as error:
            raise ProviderFailure("unreadable", "an image of the question cannot be read now") from error
        log.error("a blob of user %s is missing on the disk", user_id)
        raise ProviderFailure("unreadable", "an image of the question is missing on the service's disk")

    async def release(self, connection: AsyncConnection, user_id: int, hashes: Collection[str]) -> list[Blob]:
        """Let go of these where nothing refers to them any more. → the blobs to remove after the commit."""
        if not hashes:
            return []
        await rows.lock_usage(connection, user_id)
        gone = await rows.release_blobs(connection, user_id, *hashes)
        await rows.add_usage(connection, user_id, size=-sum(row.size for row in gone), count=0)
        return [_blob(row) for row in gone]

    async def remove(self, gone: list[Blob]) -> None:
        """Take released blobs off the disk."""
        await self._store.remove(gone)

    async def _size(self, user_id: int, part: FilePart | DataPart) -> int:
        if isinstance(part, DataPart):
            return len(part.data)
        async with self._database.reading() as connection:
            row = await rows.find_file(connection, user_id, part.path)
        if row is None:
            raise NotFound(f"There is no file {part.path}.")
        size: int = row.size
        return size

    async def _look(self, user_id: int, part: FilePart | DataPart) -> ImagePart:
        if isinstance(part, DataPart):
            return await _measure(_path(part), part.media_type, part.data)
        for _ in range(MOST_TRIES):
            async with self._database.reading() as connection:
                row = await rows.find_file(connection, user_id, part.path)
            if row is None:
                raise NotFound(f"There is no file {part.path}.")
            if row.size > MOST_IMAGE_BYTES:
                raise _too_large()
            try:
                data = await self._store.read(_blob(row))
            except FileNotFoundError:
                # Replaced or deleted since it was looked up: look again.
                continue
            return await _measure(part.path, row.content_type, data)
        raise Unavailable(f"The content of the file {part.path} is missing on the service's disk.")


def refuse_blind(model: Model, lines: tuple[Line, ...]) -> Unprocessable | None:
    """The error for images that a model is known not to take."""
    if model.images is not False or not any(line.parts for line in lines):
        return None
    return Unprocessable(f"The model {model.id} takes no images.", loc=("body", "model"))


async def _measure(path: str, declared: str, data: bytes) -> ImagePart:
    return await asyncio.to_thread(_examine, path, declared, data)


def _examine(path: str, declared: str, data: bytes) -> ImagePart:
    """What an image is. Raises Unprocessable for what is none, and for what is declared to be something else."""
    try:
        kind, width, height = measure(data)
    except ValueError:
        raise Unprocessable(f"{path} {NO_IMAGE}", loc=("body",)) from None
    if essence(declared) not in (kind, UNKNOWN):
        raise Unprocessable(f"{path} {NO_IMAGE}", loc=("body",))
    return ImagePart(path, sha256(data).hexdigest(), kind, len(data), width, height)


def _path(part: DataPart) -> str:
    """Where an image is kept that was sent along: the same one always at the same path."""
    return f"pasted/{sha256(part.data).hexdigest()}.{part.media_type.rpartition('/')[2]}"


def _blob(row: Row[Any]) -> Blob:
    return Blob(row.user_id, row.sha256, row.token, row.size)


def _settled(line: Line, found: dict[FilePart | DataPart, ImagePart]) -> Line:
    parts: list[Part] = [found[part] if isinstance(part, FilePart | DataPart) else part for part in line.parts]
    return replace(line, parts=tuple(parts)) if parts else line


def _too_large() -> Unprocessable:
    return Unprocessable(f"The images of one request may take {MOST_IMAGE_BYTES:,} bytes together.", loc=("body",))
