"""The load generator: closed loops over keep-alive connections, a process of its own, raw asyncio.

`python -m bench.load '<Load as JSON>'` prints a `Result` as JSON. Every answer is checked; a wrong one is an error.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from time import perf_counter
from typing import cast

from bench import canned, loops

MARK = canned.MARK.encode()
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOKEN = re.compile(rb'"token": ?"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. Each client goes round `paths`; `model` makes it a POST of one question to that canned model.

    Answers that end within `seconds` after `warmup` are measured; all are checked and counted. `stagger` spreads the
    clients' first requests over so many seconds. `requests` ends a client after so many, however long they take.
    """

    port: int
    paths: tuple[str, ...]
    key: str = ""
    model: str = ""
    stream: bool = False
    clients: int = 16
    seconds: float = 3.0
    warmup: float = 0.5
    stagger: float = 0.0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """Times in milliseconds. `total` counts every good answer and `wall` the seconds that they all took;
    `answered` and the rest are of those that were measured."""

    total: int
    answered: int
    seconds: float
    chunks: int
    p50: float
    p95: float
    p99: float
    first_p50: float
    first_p95: float
    wall: float
    errors: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What the clients share."""

    start: float
    end: float
    total: int = 0
    chunks: int = 0
    times: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def result(self, load: Load) -> Result:
        whole, first = percentiles(self.times), percentiles(self.firsts)
        return Result(
            total=self.total,
            answered=len(self.times),
            seconds=load.seconds,
            chunks=self.chunks,
            p50=whole[0],
            p95=whole[1],
            p99=whole[2],
            first_p50=first[0],
            first_p95=first[1],
            wall=perf_counter() - self.start + load.warmup,
            errors=tuple(self.errors[:5]),
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._raw = bytearray()
        self._done: asyncio.Future[None] | None = None
        self._at = 0
        self._need = -1
        self.status = 0
        self.body = bytearray()
        self.first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the connection was cut"))
        self._transport = None

    async def ask(self, request: bytes) -> None:
        """Sends and waits for the whole answer in `status` and `body`. Raises ConnectionError."""
        if self._transport is None:
            raise ConnectionError("the connection was closed")
        self._raw.clear()
        self.body.clear()
        self._at, self._need, self.status, self.first = 0, -1, 0, 0.0
        self._done = self._loop.create_future()
        self._transport.write(request)
        await self._done

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._raw += data
        if not self.status and not self._head():
            return
        whole = self._plain() if self._need >= 0 else self._chunked()
        if whole and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.status = int(self._raw[9:12])
        length = _LENGTH.search(self._raw, 0, end)
        self._need = int(length[1]) if length else -1
        self._at = end + 4
        return True

    def _plain(self) -> bool:
        if len(self._raw) < self._at + self._need:
            return False
        self.body += self._raw[self._at : self._at + self._need]
        return True

    def _chunked(self) -> bool:
        """Takes what came over into the body and counts the provider's chunks in it by their marks."""
        raw, now, marks = self._raw, perf_counter(), 0
        ended = False
        while not ended:
            end = raw.find(b"\r\n", self._at)
            size = int(raw[self._at : end], 16) if end >= 0 else 0
            if end < 0 or len(raw) < end + 4 + size:
                break
            piece = raw[end + 2 : end + 2 + size]
            marks += piece.count(MARK)
            self.body += piece
            self._at = end + 4 + size
            ended = size == 0
        if marks and not self.first:
            self.first = now
        if marks and self._tally.start <= now < self._tally.end:
            self._tally.chunks += marks
        return ended


async def run(load: Load) -> Result:
    """Runs a load to its end."""
    start = perf_counter() + load.warmup
    tally = Tally(start, start + load.seconds)
    gc.freeze()
    gc.disable()
    await asyncio.gather(*(_client(load, tally, number) for number in range(load.clients)))
    return tally.result(load)


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99 in milliseconds of values in seconds; zeros where there are none."""
    if len(values) < 2:
        return (values[0] * 1000,) * 3 if values else (0.0, 0.0, 0.0)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49] * 1000, cuts[94] * 1000, cuts[98] * 1000


async def _client(load: Load, tally: Tally, number: int) -> None:
    """One closed loop; it stops at the first wrong answer."""
    await asyncio.sleep(load.stagger * number / load.clients)
    requests = cycle([_request(load, path) for path in load.paths])
    expected = canned.text(load.model).encode() if load.model else b""
    connection = await _connect(load, tally)
    left = load.requests or sys.maxsize
    while left and (load.requests or perf_counter() < tally.end):
        left -= 1
        began = perf_counter()
        try:
            await connection.ask(next(requests))
        except ConnectionError as error:
            tally.errors.append(str(error))
            return
        ended = perf_counter()
        if wrong := _wrong(load, connection, expected):
            tally.errors.append(wrong)
            return
        tally.total += 1
        if load.requests or (began >= tally.start and ended < tally.end):
            tally.times.append(ended - began)
        if connection.first and tally.start <= began < tally.end:
            tally.firsts.append(connection.first - began)
    connection.close()


async def _connect(load: Load, tally: Tally) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection(tally), "127.0.0.1", load.port
    )
    return connection


def _request(load: Load, path: str) -> bytes:
    head = f"Host: 127.0.0.1:{load.port}\r\nAuthorization: Bearer {load.key}\r\n"
    if not load.model:
        return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()
    ask = {"model": load.model, "messages": [{"role": "user", "content": "What is the answer to this question?"}]}
    body = json.dumps(ask).encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _wrong(load: Load, connection: Connection, expected: bytes) -> str | None:
    """What is wrong with an answer: another status, another text, a stream without its end."""
    body = connection.body
    if connection.status not in ((200,) if load.stream or not load.model else (201,)):
        return f"{connection.status}: {bytes(body[:300])!r}"
    if load.stream:
        whole = b"".join(_TOKEN.findall(body)) == expected and body.endswith(b"data: [DONE]\n\n")
        return None if whole else f"the stream is not whole: {bytes(body[-300:])!r}"
    return None if expected in body else f"another text: {bytes(body[:300])!r}"


def main() -> None:
    asked = json.loads(sys.argv[1])
    asked["paths"] = tuple(asked["paths"])
    print(json.dumps(asdict(loops.run(run(Load(**asked))))))


if __name__ == "__main__":
    main()
