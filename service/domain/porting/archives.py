"""What an upload holds: a file of JSON, or a zip archive with some of them. Nothing is ever unpacked to disk."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError  # noqa: N812  # named as the other errors are

from service.domain.porting.pieces import Reads

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# conversations.json, conversations-000.json … in whatever folder; and our own files.
WANTED = re.compile(r"(?:^|/)(?:conversations(?:[-_]\d+)?\.json|[^/]+\.(?:ndjson|jsonl))$")
MOST_FILES = 10_000


class BrokenArchiveError(ValueError):
    """An archive, or a file in it, that cannot be read; the message says why."""


def open_files(upload: BinaryIO, name: str, most: int) -> Iterator[tuple[str, Reads]]:
    """The files of an upload that may hold conversations, by name, each to be read before the next one.

    Together they give at most `most` bytes, however small they are packed. Raises BrokenArchiveError, also while read.
    """
    upload.seek(0)
    magic = upload.read(len(MAGIC[0]))
    upload.seek(0)
    if magic not in MAGIC:
        yield name, upload
        return
    budget = _Budget(most)
    with _explained(), ZipFile(upload) as archive:
        members = _members(archive)
        for member in members:
            with archive.open(member) as file:
                yield member.filename, _Member(file, budget)


def _members(archive: ZipFile) -> list[ZipInfo]:
    found = [one for one in archive.infolist() if WANTED.search(one.filename) and not one.is_dir()]
    if not found:
        raise BrokenArchiveError(
            "The archive holds neither a conversations.json nor a conversations-000.json nor an .ndjson file."
        )
    if len(found) > MOST_FILES:
        raise BrokenArchiveError(f"The archive holds more than {MOST_FILES:,} files of conversations.")
    return sorted(found, key=lambda one: one.filename)


class _Budget:
    """The bytes that may still come out of an archive."""

    def __init__(self, most: int) -> None:
        self.most = self.left = most

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise BrokenArchiveError(f"The archive unpacks to more than {self.most:,} bytes.")


class _Member:
    """A file in an archive, unpacked as it is read."""

    def __init__(self, file: Reads, budget: _Budget) -> None:
        self._file = file
        self._budget = budget

    def read(self, size: int, /) -> bytes:
        with _explained():
            data = self._file.read(size)
        self._budget.take(len(data))
        return data


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (BadZipFile, ZlibError, EOFError, NotImplementedError) as error:
        raise BrokenArchiveError("The archive is damaged, or packed in a way that is not known here.") from error
    except RuntimeError as error:
        # What zipfile says of a member with a password.
        raise BrokenArchiveError("The archive is encrypted.") from error
