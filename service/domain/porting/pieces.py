"""The JSON objects of a byte stream, one at a time: of an array, of JSON Lines, or a single one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

CHUNK = 1 << 18
BOM = b"\xef\xbb\xbf"
OPENING, CLOSING, QUOTE = b"{[", b"}]", 0x22

# A whole string or, where the chunk ends first, its beginning (the group is then empty); or a bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[{}\[\]]', re.DOTALL)
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+("?)', re.DOTALL)
_BETWEEN = re.compile(rb"[\s,]*")


class Reads(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one object, or why there is none."""

    text: bytes
    problem: str = ""


class NotJsonError(ValueError):
    """Between the objects stands something else than white space and commas."""


def split(stream: Reads, most: int, *, chunk: int = CHUNK) -> Iterator[Piece]:
    """The objects of a stream, whatever its length, in the memory of one object. Raises NotJsonError.

    Only strings and brackets are looked at: an object that is broken inside, or has more than `most` bytes, is a piece
    of its own, and those after it are found all the same.
    """
    splitter = _Splitter(most)
    head = stream.read(len(BOM))
    data = b"" if head == BOM else head
    while data or (data := stream.read(chunk)):
        yield from splitter.feed(data)
        data = b""
    yield from splitter.finish()


class _Splitter:
    """Where in the stream we are: how deep, in which object, and whether in a string."""

    __slots__ = ("_base", "_depth", "_held", "_in_string", "_most", "_parts", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = b""
        self._in_string = False
        # Objects begin at depth `base`: 1 inside a top array, 0 outside of one.
        self._depth = self._base = 0
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        data, self._held = self._held + chunk, b""
        position = self._leave_string(data)
        start = 0
        if self._in_string:
            return
        for token in _TOKEN.finditer(data, position):
            kind = data[token.start()]
            if self._depth == self._base:
                start = token.start()
                self._check(data[position:start], kind)
            position = token.end()
            if kind == QUOTE:
                self._in_string = not token[1]
            elif self._turn(kind):
                yield self._take(data[start:position])
        if self._depth == self._base:
            self._check(data[position:])
        else:
            # A string that ends in a backslash goes on with whatever that escapes.
            end = position if self._in_string else len(data)
            self._held = data[end:]
            self._keep(data[start:end])

    def finish(self) -> Iterator[Piece]:
        """What the end of the stream leaves unfinished."""
        if self._depth > self._base:
            yield Piece(b"", "The file ends in the middle of this item.")
        elif self._base:
            yield Piece(b"", "The file ends before its list is closed: what came after is missing.")

    def _leave_string(self, data: bytes) -> int:
        """Where the string ends that an earlier chunk began; 0 where there is none."""
        if not self._in_string:
            return 0
        found = _STRING.match(data)
        end = found.end() if found else 0
        self._in_string = not (found and found[1])
        if self._in_string:
            self._held = data[end:]
            self._keep(data[:end])
        return end

    def _turn(self, bracket: int) -> bool:
        """Go in or out by a bracket; whether an object ends with it."""
        if bracket in OPENING:
            if bracket == OPENING[1] and not self._depth:
                self._base = 1
            self._depth += 1
            return False
        self._depth -= 1
        if self._depth < self._base:
            self._base = 0
            return False
        return self._depth == self._base

    def _check(self, between: bytes, kind: int | None = None) -> None:
        """Raise NotJsonError for what cannot stand outside of an object."""
        closes = kind is not None and kind in CLOSING and (kind == CLOSING[0] or not self._base)
        if kind == QUOTE or closes or not _BETWEEN.fullmatch(between):
            raise NotJsonError("Here stands something that is no JSON object.")

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._most:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _take(self, last: bytes) -> Piece:
        self._keep(last)
        whole, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        if size > self._most:
            return Piece(b"", f"It has more than {self._most:,} bytes.")
        return Piece(whole)
