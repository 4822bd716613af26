"""Server-sent events out of the bytes that a socket read gives, and their JSON."""

import json
from typing import Any

from pydantic_core import from_json

MAX_EVENT_BYTES = 4 * 1024 * 1024


class EventTooLong(ValueError):
    """An event over `MAX_EVENT_BYTES`: nothing that a model says in one piece."""


class EventSplitter:
    """Splits a byte stream into the data of its events, wherever the reads cut it.

    Takes LF and CRLF, joins several data lines with a newline, skips comments and unknown fields, as the HTML
    standard's event stream format says.
    """

    __slots__ = ("_data", "_size", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._data: list[bytes] | None = None
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that is complete with this chunk. Raises `EventTooLong`."""
        if self._tail:
            chunk = self._tail + chunk
        lines = chunk.split(b"\n")
        self._tail = lines.pop()
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._add(line)
            elif (not line or line == b"\r") and self._data is not None:
                events.append(self._take())
        if len(self._tail) + self._size > MAX_EVENT_BYTES:
            raise EventTooLong
        return events

    def finish(self) -> bytes | None:
        """The data of a last event that lacks its blank line, if there is one."""
        if self._tail.startswith(b"data:"):
            self._add(self._tail)
        self._tail = b""
        return None if self._data is None else self._take()

    def _add(self, line: bytes) -> None:
        value = line[6:] if line.startswith(b"data: ") else line[5:]
        if value.endswith(b"\r"):
            value = value[:-1]
        if self._data is None:
            self._data = [value]
        else:
            self._data.append(value)
        self._size += len(value)

    def _take(self) -> bytes:
        data, self._data, self._size = self._data or [], None, 0
        return data[0] if len(data) == 1 else b"\n".join(data)


def parse(data: bytes) -> Any:
    """The JSON value, lone surrogates and broken UTF-8 let through to be cleaned. Raises ValueError."""
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
