"""A provider on OpenAI's wire that costs next to nothing: canned bytes from a raw asyncio protocol.

`python -m bench.provider PORT` serves `POST …/chat/completions` and `GET …/models` with HTTP/1.1 keep-alive.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
from functools import lru_cache
from typing import cast

from bench import canned, loops

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_NAMES = ("canned-16", "canned-64", "canned-256", "canned-64-20ms", "canned-256-5ms")


class Wire(asyncio.Protocol):
    """One connection. Requests are answered one after the other; a cut connection ends its stream."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._raw = bytearray()
        self._transport: asyncio.Transport | None = None
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._raw += data
        if not self._busy:
            self._next_request()

    def _next_request(self) -> None:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._raw[:end])
        length = _LENGTH.search(head)
        stop = end + 4 + (int(length[1]) if length else 0)
        if len(self._raw) < stop:
            return
        body = bytes(self._raw[end + 4 : stop])
        del self._raw[:stop]
        self._answer(head.split(b" ", 2), body)

    def _answer(self, line: list[bytes], body: bytes) -> None:
        path = line[1].partition(b"?")[0]
        if line[0] == b"GET" and path.endswith(b"/models"):
            self._write(_models())
        elif line[0] == b"POST" and path.endswith(b"/chat/completions"):
            self._complete(body)
        else:
            self._write(_reply(404, _error("there is only /chat/completions and /models")))

    def _complete(self, body: bytes) -> None:
        try:
            asked = json.loads(body)
            model, stream = asked["model"], bool(asked.get("stream"))
        except (ValueError, KeyError, TypeError):
            return self._write(_reply(400, _error("not a request for a chat completion")))
        plan = canned.plan(model)
        if plan is None:
            return self._write(_reply(404, _error(f"no such model: {model}")))
        if not stream:
            return self._write(_completion(model, plan.chunks))
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        self._busy = True
        self._stream(_writes(model, with_usage), 0, self._loop.time(), plan.pace)

    def _stream(self, writes: list[bytes], at: int, began: float, pace: float) -> None:
        """Writes are due by the clock, not by the one before, so a late timer is made up for."""
        if self._transport is None:
            return
        self._transport.write(writes[at])
        at += 1
        if at == len(writes):
            self._busy = False
            self._next_request()
        elif pace:
            self._loop.call_at(began + at * pace, self._stream, writes, at, began, pace)
        else:
            self._loop.call_soon(self._stream, writes, at, began, pace)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


@lru_cache(maxsize=64)
def _writes(model: str, with_usage: bool) -> list[bytes]:
    """The stream's writes: single events when paced, several together when not; the ending goes with the last word."""
    found = canned.plan(model)
    if found is None:
        return []
    size = 1 if found.pace else canned.EVENTS_A_WRITE
    events = [_http_chunk(event) for event in canned.events(model, found.chunks, include_usage=with_usage)]
    told, ending = events[: found.chunks], events[found.chunks :]
    writes = [b"".join(told[start : start + size]) for start in range(0, len(told), size)] or [b""]
    writes[0] = _STREAM_HEAD + writes[0]
    writes[-1] += b"".join(ending) + b"0\r\n\r\n"
    return writes


@lru_cache(maxsize=64)
def _completion(model: str, chunks: int) -> bytes:
    return _reply(200, canned.completion(model, chunks))


@lru_cache(maxsize=1)
def _models() -> bytes:
    data = [{"id": name, "object": "model", "created": 1700000000, "owned_by": "canned"} for name in _NAMES]
    return _reply(200, json.dumps({"object": "list", "data": data}).encode())


def _reply(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}}).encode()


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n" % len(data) + data + b"\r\n"


async def serve(port: int) -> None:
    """Serves until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Wire, "127.0.0.1", port, backlog=1024)
    gc.freeze()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    loops.run(serve(int(sys.argv[1])))
