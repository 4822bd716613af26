"""Uploads on their way through the disk, in files without a name that are gone with the process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from service.errors import BodyTooLarge, as_full

BLOCK = 1 << 20


async def receive(chunks: AsyncIterator[bytes], folder: Path, *, most: int) -> BinaryIO:
    """Put an import's upload of at most so many bytes on the disk. Raises BodyTooLarge, StorageFull."""
    with as_full("There is no room on the disk for this upload."), ExitStack() as stack:
        upload = stack.enter_context(TemporaryFile(dir=_room(folder)))
        size, block = 0, bytearray()
        async for chunk in chunks:
            size += len(chunk)
            if size > most:
                raise BodyTooLarge(f"An import has at most {most:,} bytes.")
            block += chunk
            if len(block) >= BLOCK:
                await asyncio.to_thread(upload.write, block)
                block = bytearray()
        await asyncio.to_thread(upload.write, block)
        await asyncio.to_thread(upload.flush)
        stack.pop_all()
        return upload


def _room(folder: Path) -> Path | None:
    """The folder, or the system's for passing files where that one cannot be made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder
