"""Steps that the tests of two workers share: open a stream, leave it, take it up again."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2

from tests.api.steps import Json
from tests.servers.provider import Plan

# Comments are the connection's, not the stream's.
HEARTBEAT = b": still here\n\n"
DONE = b"data: [DONE]\n\n"


@dataclass
class Stream:
    """A stream that is open, and what came of it so far, without its comments."""

    completion_id: int
    pieces: AsyncIterator[bytes]
    got: bytes

    async def rest(self) -> bytes:
        """All of it, once it has ended."""
        async for piece in self.pieces:
            self.got += piece.replace(HEARTBEAT, b"")
        return self.got


def chat(plan: Plan, **fields: object) -> Json:
    """A plan's question as the body of a chat completion."""
    return {"messages": [{"role": "user", "content": plan.question}], **fields}


@asynccontextmanager
async def opened(
    client: httpx2.AsyncClient, path: str, body: Json, *, words: int = 0, headers: dict[str, str] | None = None
) -> AsyncIterator[Stream]:
    """A new stream, of which so many words have come."""
    async with client.stream("POST", path, json=body, headers=headers) as reply:
        yield await _begun(reply, words)


@asynccontextmanager
async def taken_up(client: httpx2.AsyncClient, completion_id: int, *, words: int = 0) -> AsyncIterator[Stream]:
    """A stream from its beginning, of which so many words have come."""
    async with client.stream("GET", f"/completions/{completion_id}/stream") as reply:
        yield await _begun(reply, words)


async def _begun(reply: httpx2.Response, words: int) -> Stream:
    assert reply.status_code == 200, await reply.aread()
    stream = Stream(int(reply.headers["Everturn-Completion-Id"]), reply.aiter_raw(), b"")
    while stream.got.count(b'{"token"') < words or not stream.got.endswith(b"\n\n"):
        stream.got += (await anext(stream.pieces)).replace(HEARTBEAT, b"")
    return stream


async def resume(client: httpx2.AsyncClient, completion_id: int, after: int | None = None, **how: object) -> bytes:
    """A completion's stream to its end, without comments."""
    params = {} if after is None else {"starting_after": after}
    reply = await client.get(f"/completions/{completion_id}/stream", params=params, **how)  # type: ignore[arg-type]
    assert reply.status_code == 200, reply.text
    return reply.content.replace(HEARTBEAT, b"")


def events_of(data: bytes) -> list[bytes]:
    """The events of a stream, each with the empty line that ends it."""
    return [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]


def last_seq(data: bytes) -> int:
    """The number of the last event."""
    return int(data.rsplit(b"id: ", 1)[1].split(b"\n", 1)[0].split(b":")[1])


def text_of(data: bytes) -> str:
    """The answer as far as a stream tells it."""
    return "".join(json.loads(line[6:])["token"] for line in data.decode().split("\n") if '{"token"' in line)


def p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]
