"""The files on disk: written once under a name of their own, read, removed; which of them count, the database says.

A blob lies at `<sha256, first two>/<sha256>.<owner>.<token>`. The token is new with every write, so a name is never
used twice and whoever removes one cannot hit another's. Nothing that a client sends becomes part of a name.
"""

import asyncio
import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar

from service.errors import FULL, StorageFull, Unavailable

log = logging.getLogger(__name__)

THREADS = 8
WRITE_BYTES = 1024 * 1024
TEMPORARY = "tmp"
NAME = re.compile(r"(?P<sha256>[0-9a-f]{64})\.(?P<user_id>[1-9][0-9]{0,15})\.(?P<token>[0-9a-f]{16})")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Blob:
    """Content of one owner's, as the database knows it."""

    user_id: int
    sha256: str
    token: str
    size: int

    @property
    def name(self) -> str:
        return f"{self.sha256}.{self.user_id}.{self.token}"


class Store:
    """The directory of blobs. It is made when something is first written; several workers share it."""

    def __init__(self, root: Path, *, spare_bytes: int = 0) -> None:
        self._root = root.absolute()
        self._spare = spare_bytes
        self._pool = ThreadPoolExecutor(THREADS, "files")

    def receive(self, user_id: int) -> "Incoming":
        """A new blob of a user's, to be written inside a with-block; what is not kept in it leaves nothing behind."""
        return Incoming(self, user_id)

    async def check_space(self, needed: int) -> None:
        """Raise StorageFull unless so many bytes can be written and the spare ones stay free."""
        await self.run(lambda: self.require(needed))

    async def open(self, blob: Blob) -> "Reader":
        """Raises FileNotFoundError where it was removed, Unavailable."""
        return await self.run(lambda: Reader(self, os.open(self.path(blob.name), os.O_RDONLY | os.O_NOFOLLOW)))

    async def read(self, blob: Blob) -> bytes:
        """All of it. Raises FileNotFoundError, Unavailable."""
        return await self.run(lambda: self.path(blob.name).read_bytes())

    async def has(self, blob: Blob) -> bool:
        """Whether it lies on the disk, whole."""
        path = self.path(blob.name)
        return await self.run(lambda: path.is_file() and path.stat().st_size == blob.size)

    async def remove(self, blobs: Sequence[Blob]) -> None:
        """Remove what no row names any more."""
        if blobs:
            await self.unlink_paths([self.path(blob.name) for blob in blobs])

    async def folders(self) -> list[Path]:
        """The directories that hold blobs."""
        return await self.run(lambda: sorted(self._root.glob("[0-9a-f][0-9a-f]")))

    async def list(self, folder: Path) -> list[tuple[Path, float]]:
        """The files in one of them and when they were written, in seconds since 1970."""
        return await self.run(lambda: list(_files(folder)))

    async def clear_temporary(self, before: float) -> int:
        """Remove what was last written to before a moment: its worker has died. → how many."""
        folder = self._root / TEMPORARY
        return await self.run(lambda: self.unlink_all([path for path, at in _files(folder) if at < before]))

    async def unlink_paths(self, paths: Sequence[Path]) -> None:
        """Remove files. What cannot be removed now, the next sweep finds."""
        await self.run(lambda: self.unlink_all(paths))

    def path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError("not a blob's name")
        return self._root / name[:2] / name

    def unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("a file could not be removed: %s", errno.errorcode.get(error.errno or 0, "unknown"))

    def unlink_all(self, paths: Sequence[Path]) -> int:
        for path in paths:
            self.unlink(path)
        return len(paths)

    def require(self, needed: int) -> None:
        if self._spare:
            found = self._root
            while not found.exists():
                found = found.parent
            if shutil.disk_usage(found).free - needed < self._spare:
                raise StorageFull

    def create(self) -> tuple[Path, int]:
        """A temporary file, open for writing."""
        path = self._root / TEMPORARY / token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return path, os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._make(path.parent)
            return path, os.open(path, flags, 0o600)

    def settle(self, path: Path, name: str) -> None:
        """Give a written file its name, to last: the entry in its directory is on disk as well."""
        target = self.path(name)
        try:
            path.rename(target)
        except FileNotFoundError:
            self._make(target.parent)
            path.rename(target)
        _sync_directory(target.parent)

    async def run(self, work: Callable[[], T]) -> T:
        """Do something with the disk in a thread. Raises StorageFull, Unavailable; FileNotFoundError passes."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in FULL:
                log.warning("the disk of the files is full")
                raise StorageFull from error
            log.warning("the file store failed: %s", errno.errorcode.get(error.errno or 0, "unknown"))
            raise Unavailable("The file store does not answer.") from error

    def close(self) -> None:
        self._pool.shutdown()

    def _make(self, folder: Path) -> None:
        """The directory and its parents, nobody else's to read, and their entries on disk."""
        for one in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
            one.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(one.parent)


class Incoming:
    """A blob that is being written. Bytes are hashed and written a megabyte at a time."""

    def __init__(self, store: Store, user_id: int) -> None:
        self._store = store
        self._user_id = user_id
        self._hash = hashlib.sha256()
        self._waiting = bytearray()
        self._path: Path | None = None
        self._file = -1
        self._busy = Lock()
        self.size = 0

    async def __aenter__(self) -> Self:
        self._path, self._file = await self._store.run(self._store.create)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Shielded: a request that is cancelled while a thread writes for it cleans up as well, after that thread.
        await asyncio.shield(self._store.run(self._discard))

    async def write(self, data: bytes) -> None:
        """Raises StorageFull, Unavailable."""
        self.size += len(data)
        self._waiting += data
        if len(self._waiting) >= WRITE_BYTES:
            await self._store.run(self._flush)

    async def digest(self) -> str:
        """The SHA-256 of what was written so far, in hexadecimal digits. Raises StorageFull, Unavailable."""
        await self._store.run(self._flush)
        return self._hash.hexdigest()

    async def keep(self) -> Blob:
        """Make it durable under its own name. Raises StorageFull, Unavailable."""
        return await self._store.run(self._keep)

    def _flush(self) -> None:
        with self._busy:
            self._write()

    def _write(self) -> None:
        self._store.require(len(self._waiting))
        self._hash.update(self._waiting)
        view = memoryview(self._waiting)
        while view:
            view = view[os.write(self._file, view) :]
        self._waiting = bytearray()

    def _keep(self) -> Blob:
        with self._busy:
            self._write()
            os.fsync(self._file)
            self._close()
            assert self._path is not None
            blob = Blob(self._user_id, self._hash.hexdigest(), token_hex(8), self.size)
            self._store.settle(self._path, blob.name)
            self._path = None
            return blob

    def _discard(self) -> None:
        with self._busy:
            self._close()
            if self._path is not None:
                self._store.unlink(self._path)

    def _close(self) -> None:
        if self._file >= 0:
            with suppress(OSError):
                os.close(self._file)
            self._file = -1


class Reader:
    """An open blob. It can be read to its end although it is removed meanwhile."""

    def __init__(self, store: Store, file: int) -> None:
        self._store = store
        self._file = file

    async def read(self, start: int, count: int) -> bytes:
        """Up to `count` bytes from there. Raises Unavailable."""
        return await self._store.run(lambda: os.pread(self._file, count, start))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _files(folder: Path) -> Iterator[tuple[Path, float]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False).st_mtime


def _sync_directory(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
