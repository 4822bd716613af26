"""Files as lines of our own shape: one `file`, or an `image` that no file is, then its content in `file_data`."""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from typing import Any, Literal

from service.domain.media import UNKNOWN, clean_media_type
from service.domain.paths import clean_path
from service.domain.porting.talks import Shape, UnreadableError

KINDS = ("file", "image", "file_data")
# Of a content in one line.
PIECE_BYTES = 384 * 1024
_SHA256 = re.compile("[0-9a-f]{64}")


# What came of a file, and why.
Brought = tuple[Literal["imported", "unchanged", "skipped"], str | None]
IMPORTED: Brought = "imported", None
UNCHANGED: Brought = "unchanged", None
TAKEN: Brought = "skipped", "There is another file at this path."


@dataclass(frozen=True, slots=True)
class FileHead:
    """A file that is carried; so many bytes follow it. `file` is the one in the upload.

    Without a `path` it is an image of messages that no file has any more.
    """

    file: str
    path: str | None
    content_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileData:
    """A piece of its content; what cannot be read is empty, and then the hash is another."""

    data: bytes


def read_line(file: str, item: Shape) -> FileHead | FileData:
    """Raises UnreadableError for a file that cannot be."""
    if item["type"] == "file_data":
        data = item.get("data")
        try:
            return FileData(b64decode(data, validate=True) if isinstance(data, str) else b"")
        except (NotBase64, ValueError):
            return FileData(b"")
    path, kind, size, sha256 = (item.get(name) for name in ("path", "content_type", "size", "sha256"))
    if not (isinstance(sha256, str) and isinstance(size, int)):
        raise UnreadableError("The line of a file has no size or sha256.")
    if not 0 <= size < 2**53 or not _SHA256.fullmatch(sha256):
        raise UnreadableError("The line of a file has a size or sha256 that is none.")
    if item["type"] == "image":
        return FileHead(file, None, UNKNOWN, size, sha256)
    if not (isinstance(path, str) and isinstance(kind, str)):
        raise UnreadableError("The line of a file has no path or content_type.")
    try:
        return FileHead(file, clean_path(path), clean_media_type(kind), size, sha256)
    except ValueError as error:
        raise UnreadableError(f"This file cannot be here: {error}") from None


def head_of(row: Any) -> dict[str, Any]:
    """What a file's line says. Times are left out: they are those of this instance."""
    return {name: getattr(row, name) for name in ("path", "content_type", "size", "sha256")}


def image_of(row: Any) -> dict[str, Any]:
    """What the line of an image says; its type stands in the messages that show it."""
    return {"size": row.size, "sha256": row.sha256}


def data_of(piece: bytes) -> dict[str, str]:
    return {"data": b64encode(piece).decode()}
