"""A raw HTTP server that answers with exactly the bytes a test says, and the streams of both wires."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from service.domain.history import Line
from service.providers.adapter import Adapter
from service.providers.base import Call, Counted, Delta, Ending, Piece, Provider, Timeouts
from service.providers.transport import BASE_HEADERS, Endpoint

Script = Callable[[asyncio.StreamWriter], Awaitable[bool | None]]
KEY = "sk-test-0123456789"


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class RawServer:
    """Plays one script for each request, the last one again and again; `closed` is set when a client hangs up."""

    scripts: list[Script] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def play(self, *scripts: Script) -> None:
        self.scripts = list(scripts)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.closed.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Request(method, path, headers, json.loads(body) if body else None))
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if await script(writer):
            # Nothing more is said: wait for the client to hang up.
            return bool(await reader.read(1))
        return not writer.is_closing()


def chunked(*parts: bytes, content_type: str = "text/event-stream", cut: bool = False) -> Script:
    """A 200 whose body is these parts, each written by itself; `cut` breaks the connection after them."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for part in parts:
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)
        if cut:
            writer.close()
        else:
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    return script


def answer(body: Any, *, status: int = 200, headers: str = "", content_type: str = "application/json") -> Script:
    """One answer with a length; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def script(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
        writer.write(head.encode() + data)
        await writer.drain()

    return script


def stalled(*parts: bytes, content_type: str = "text/event-stream") -> Script:
    """A stream that says these parts and then nothing more."""

    async def script(writer: asyncio.StreamWriter) -> bool:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for part in parts:
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        await writer.drain()
        return True

    return script


def chat_chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + json.dumps(value | more).encode() + b"\n\n"


USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
DONE = b"data: [DONE]\n\n"
CHAT = (
    chat_chunk({"role": "assistant", "content": ""}),
    chat_chunk({"content": "Grüße, "}),
    chat_chunk({"content": "🌍!"}),
    chat_chunk({}, "stop"),
    chat_chunk(usage=USAGE),
    DONE,
)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode()


MESSAGE = (
    event("message_start", message={"id": "msg_1", "model": "m", "usage": {"input_tokens": 60, "output_tokens": 1}}),
    event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
    event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Hm."}),
    event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "xyz"}),
    event("content_block_stop", index=0),
    event("ping"),
    event("content_block_start", index=1, content_block={"type": "text", "text": ""}),
    event("content_block_delta", index=1, delta={"type": "text_delta", "text": "Grüße, "}),
    event("content_block_delta", index=1, delta={"type": "text_delta", "text": "🌍!"}),
    event("content_block_stop", index=1),
    event(
        "message_delta",
        delta={"stop_reason": "end_turn"},
        usage={"output_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 10},
    ),
    event("message_stop"),
)


def make_call(text: str = "Hello", *, stream: bool = True, model: str = "m", **more: Any) -> Call:
    return Call(model, (Line("user", text),), stream, **more)


def endpoint(url: str, headers: dict[str, str], **timeouts: float) -> Endpoint:
    return Endpoint(url, {**BASE_HEADERS, **headers}, (KEY,), Timeouts(**timeouts), 8)


async def collect(adapter: Provider, call: Call) -> tuple[str, str, Ending]:
    """The text, the reasoning and the ending of an answer, and that the batches keep their promise."""
    pieces: list[Piece] = []
    async for batch in adapter.run(call):
        assert batch
        pieces += batch
    ending = pieces.pop()
    assert isinstance(ending, Ending)
    deltas = [piece for piece in pieces if isinstance(piece, Delta)]
    assert len(deltas) == sum(not isinstance(piece, Counted) for piece in pieces)
    assert all(delta.text for delta in deltas)
    said = {kind: "".join(delta.text for delta in deltas if delta.kind == kind) for kind in ("text", "reasoning")}
    return said["text"], said["reasoning"], ending


MakeAdapter = Callable[..., Adapter]
