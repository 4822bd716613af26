"""The content of files on its way through exports and imports, a piece at a time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Generic, TypeVar

from service.blobs.store import Reader
from service.domain.porting.carried import PIECE_BYTES, FileData, FileHead
from service.errors import BadRequest, Unavailable

Item = TypeVar("Item")


class Pulled(Generic[Item]):
    """What is read in a thread, one after the other; one can be put back."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._back: list[Item] = []

    async def next(self) -> Item | None:
        return self._back.pop() if self._back else await asyncio.to_thread(next, self._items, None)

    def put_back(self, item: Item | None) -> None:
        if item is not None:
            self._back.append(item)


async def content_of(head: FileHead, pulled: Pulled[Item]) -> AsyncIterator[bytes]:
    """The bytes that follow a file's line. Raises BadRequest where they end before, or go beyond, what it says."""
    size = 0
    while size < head.size:
        item = await pulled.next()
        if not isinstance(item, FileData):
            pulled.put_back(item)
            raise BadRequest("The content of this file is cut off.")
        size += len(item.data)
        if size > head.size:
            raise BadRequest("The content of this file is longer than its line says.")
        yield item.data


async def pieces_of(reader: Reader, size: int) -> AsyncGenerator[bytes]:
    """A blob in pieces of PIECE_BYTES; closes it. Raises Unavailable where it is shorter than it was written."""
    try:
        start = 0
        while start < size:
            piece = await reader.read(start, min(PIECE_BYTES, size - start))
            if not piece:
                raise Unavailable("The content of a file is missing on the service's disk.")
            start += len(piece)
            yield piece
    finally:
        reader.close()
