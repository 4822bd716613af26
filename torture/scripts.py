"""How a call's answer goes over the line: its shape, its pace and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, NoReturn

from torture.modes import Mode
from torture.plan import dice
from torture.relay import reset
from torture.wires import Count, Frame, Speech, Wire

STALL_SECONDS = 30.0
STATUS_HEADERS = {429: "Retry-After: 1\r\n", 307: "Location: /elsewhere\r\n"}


class HungUp(Exception):
    """The connection is over, by either side's will."""


@dataclass(slots=True)
class Told:
    """What was written so far: the most that the other side can have read."""

    status: int = 0
    text: list[str] = field(default_factory=list)
    thought: str = ""
    count: Count | None = None
    finish: bool = False

    def add(self, frame: Frame) -> None:
        self.text.append(frame.text)
        self.thought += frame.thought
        self.count = frame.count or self.count
        self.finish = self.finish or frame.finish

    def facts(self) -> dict[str, Any]:
        count = asdict(self.count) if self.count else None
        said = {"text": "".join(self.text), "thought": self.thought}
        return {"status": self.status, **said, "count": count, "finish": self.finish}


@dataclass(frozen=True, slots=True)
class Line:
    """A connection, with the ways in which it can be ended."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Write it. Raises HungUp once the other side is gone."""
        if self.writer.is_closing() or self.reader.at_eof():
            raise HungUp
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, status: int, body: Any, *, kind: str = "application/json") -> None:
        """An answer in one piece."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.send(self.head(status, kind, f"Content-Length: {len(data)}\r\n") + data)

    def head(self, status: int, kind: str, more: str) -> bytes:
        return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{STATUS_HEADERS.get(status, '')}{more}\r\n".encode()

    async def pause(self, seconds: float) -> None:
        """Wait, but not for somebody who hung up. Raises HungUp."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                # Nobody sends a second request before the first is answered: a read ends with the connection only.
                await self.reader.read(1)
        except TimeoutError:
            return
        raise HungUp

    def close(self) -> NoReturn:
        """End it in the orderly way, wherever it stands."""
        self.writer.close()
        raise HungUp

    def reset(self) -> NoReturn:
        """End it with a reset."""
        reset(self.writer)
        raise HungUp


async def perform(line: Line, wire: Wire, speech: Speech, *, mode: Mode, stream: bool, told: Told) -> bool:
    """Answer a call in its mode; True where the connection can be used again. Raises HungUp."""
    chance = dice(speech.id)
    await line.pause(chance.uniform(*mode.wait))
    if mode.end in ("close", "reset") and mode.at == "start":
        return await _end(line, wire, mode)
    told.status = mode.status
    if mode.status != 200:
        await line.reply(mode.status, wire.error(mode.status))
        return True
    if mode.kind == "text/html":
        await line.reply(200, b"<html>Service Unavailable</html>", kind=mode.kind)
        return True
    if not stream:
        return await _whole(line, wire, speech, mode=mode, told=told)
    line.writer.write(line.head(200, mode.kind, "Transfer-Encoding: chunked\r\n"))
    async for data, frames in _shaped(line, wire, speech, mode=mode):
        for frame in frames:
            told.add(frame)
        await line.send(b"%x\r\n%b\r\n" % (len(data), data))
    if mode.end not in ("whole", "stop"):
        return await _end(line, wire, mode)
    await line.send(b"0\r\n\r\n")
    return True


async def _shaped(line: Line, wire: Wire, speech: Speech, *, mode: Mode) -> AsyncIterator[tuple[bytes, list[Frame]]]:
    """The writes, each with the frames that begin in it, and the pauses between them."""
    chance = dice(speech.id, "shape")
    frames = _kept(wire.stream(speech), speech, mode)
    if mode.shape in ("frames", "crlf"):
        for frame in frames:
            data = frame.data.replace(b"\n", b"\r\n") if mode.shape == "crlf" else frame.data
            yield (b": still here\r\n\r\n" + data if mode.shape == "crlf" else data), [frame]
            await line.pause(chance.uniform(*mode.pace) if frame.text else 0)
        return
    # In pieces that know nothing of the frames: all that is in them may have been read as soon as the first is sent.
    everything = list(frames)
    data = b"".join(frame.data for frame in everything)
    for piece in _pieces(data, mode):
        yield piece, everything
        everything = []
        await line.pause(chance.uniform(*mode.pace))
        if mode.shape == "drip":
            await asyncio.sleep(0.001)


def _kept(frames: Iterator[Frame], speech: Speech, mode: Mode) -> Iterator[Frame]:
    """The frames up to where the mode ends the answer."""
    if mode.end == "whole":
        return frames
    if mode.at == "start":
        return iter(())
    if mode.at == "finish":
        return _through(frames, lambda frame, _said: frame.finish)
    return _through(frames, lambda frame, said: bool(frame.text) and said >= speech.words // 2)


def _through(frames: Iterator[Frame], last: Any) -> Iterator[Frame]:
    said = 0
    for frame in frames:
        yield frame
        said += bool(frame.text)
        if last(frame, said):
            return


def _pieces(data: bytes, mode: Mode) -> Iterator[bytes]:
    """One piece, or odd ones that cut through frames, lines and characters."""
    if mode.shape == "one":
        return iter((data,))
    chance, cuts = dice(data[:40]), [0]
    while cuts[-1] < len(data):
        cuts.append(
            min(len(data), cuts[-1] + (chance.randint(1, 4) if mode.shape == "drip" else chance.randint(1, 90)))
        )
    return (data[start:stop] for start, stop in zip(cuts, chain(cuts[1:], ()), strict=False))


async def _whole(line: Line, wire: Wire, speech: Speech, *, mode: Mode, told: Told) -> bool:
    """The answer in one piece, and as broken as the mode wants it."""
    endless = speech.words > 1000
    if endless or mode.end == "stall":
        await line.pause(STALL_SECONDS)
        raise HungUp
    chance = dice(speech.id, "whole")
    await line.pause(sum(chance.uniform(*mode.pace) for _ in range(speech.words)))
    broken = mode.end != "whole" and mode.at == "middle"
    if mode.end == "error":
        await line.reply(200, wire.error(500))
        return True
    frame = wire.whole(speech)
    if mode.end == "garbage":
        await line.reply(200, frame.data[:-9])
        return True
    head = line.head(200, "application/json", f"Content-Length: {len(frame.data)}\r\n")
    if broken:
        await line.send(head + frame.data[: len(frame.data) // 2])
        if mode.end == "reset":
            line.reset()
        line.close()
    told.add(frame)
    await line.send(head)
    for piece in (frame.data,) if mode.shape == "frames" else _pieces(frame.data, mode):
        await line.send(piece)
    return True


async def _end(line: Line, wire: Wire, mode: Mode) -> bool:
    """The end that a mode makes of a stream. Raises HungUp, or returns whether the connection can be used again."""
    if mode.end == "close":
        line.close()
    if mode.end == "reset":
        line.reset()
    if mode.end == "stall":
        await line.pause(STALL_SECONDS)
        raise HungUp
    if mode.end == "chunk":
        await line.send(b"not a length\r\nxx\r\n")
        line.close()
    what = (
        b'data: {"choices": [\n\n' if mode.end == "garbage" else b"data: %b\n\n" % json.dumps(wire.error(500)).encode()
    )
    if wire.name == "anthropic" and mode.end == "error":
        what = b"event: error\n" + what
    await line.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(what), what))
    return True
