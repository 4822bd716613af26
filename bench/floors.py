"""The two bare floors: a FastAPI handler that forwards to the provider, and one that stores the turn as well.

uvicorn serves `bench.floors:app`. FLOOR_PROVIDER is the provider's base URL; FLOOR_DATABASE is empty (forward only), a
`postgresql://` URL or a SQLite file's path; FLOOR_SYNCHRONOUS is SQLite's durability, the service's own setting.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
import asyncpg  # type: ignore[import-untyped]  # it ships none
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

_TABLES = (
    "CREATE TABLE IF NOT EXISTS floor_messages (id {serial}, role TEXT NOT NULL, content TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS floor_completions (id {serial}, model TEXT NOT NULL, input_tokens BIGINT NOT NULL,"
    " output_tokens BIGINT NOT NULL)",
)
_MESSAGE = "INSERT INTO floor_messages (role, content) VALUES ($1, $2)"
_COMPLETION = "INSERT INTO floor_completions (model, input_tokens, output_tokens) VALUES ($1, $2, $3)"


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: str
    content: str


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str
    messages: list[Message]


class Store(Protocol):
    """Where a floor puts a turn: one transaction of three inserts."""

    async def turn(self, ask: Ask, answer: str, usage: Mapping[str, int]) -> None: ...

    async def close(self) -> None: ...


class Nowhere:
    async def turn(self, ask: Ask, answer: str, usage: Mapping[str, int]) -> None:
        return None

    async def close(self) -> None:
        return None


class Postgres:
    """Raw asyncpg over a pool of the service's size."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> Postgres:
        pool = await asyncpg.create_pool(url, min_size=10, max_size=10)
        for table in _TABLES:
            await pool.execute(table.format(serial="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"))
        return cls(pool)

    async def turn(self, ask: Ask, answer: str, usage: Mapping[str, int]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_MESSAGE, "user", ask.messages[-1].content)
            await connection.execute(_MESSAGE, "assistant", answer)
            await connection.execute(_COMPLETION, ask.model, usage["prompt_tokens"], usage["completion_tokens"])

    async def close(self) -> None:
        await self._pool.close()


class SQLite:
    """Raw sqlite3 on a thread of its own, as the library wants it: one hop and one commit a turn."""

    def __init__(self, path: str, synchronous: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._connection = self._thread.submit(_open_sqlite, path, synchronous).result()

    async def turn(self, ask: Ask, answer: str, usage: Mapping[str, int]) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._write, ask, answer, usage)

    def _write(self, ask: Ask, answer: str, usage: Mapping[str, int]) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        run(_MESSAGE.replace("$", "?"), ("user", ask.messages[-1].content))
        run(_MESSAGE.replace("$", "?"), ("assistant", answer))
        run(_COMPLETION.replace("$", "?"), (ask.model, usage["prompt_tokens"], usage["completion_tokens"]))
        run("COMMIT")

    async def close(self) -> None:
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()


def _open_sqlite(path: str, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=True)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    for table in _TABLES:
        connection.execute(table.format(serial="INTEGER PRIMARY KEY"))
    return connection


async def _open_store() -> Store:
    where = os.environ.get("FLOOR_DATABASE", "")
    if not where:
        return Nowhere()
    if where.startswith("postgresql://"):
        return await Postgres.open(where)
    return SQLite(where, os.environ["FLOOR_SYNCHRONOUS"])


class Bench:
    """What the handlers share."""

    session: aiohttp.ClientSession
    store: Store


held = Bench()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    held.store = await _open_store()
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(os.environ["FLOOR_PROVIDER"].rstrip("/") + "/", connector=connector) as session:
        held.session = session
        gc.collect()
        gc.freeze()
        yield
    await held.store.close()


app = FastAPI(lifespan=lifespan)


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


@app.post("/chat/completions", status_code=201)
async def complete(ask: Ask) -> dict[str, object]:
    async with held.session.post("chat/completions", data=ask.model_dump_json(), headers=_JSON) as reply:
        got = await reply.json()
    answer, usage = got["choices"][0]["message"]["content"], got["usage"]
    await held.store.turn(ask, answer, usage)
    return {"id": got["id"], "model": ask.model, "content": answer, "usage": usage}


@app.post("/chat/completions/stream")
async def stream(ask: Ask) -> StreamingResponse:
    return StreamingResponse(_relay(ask), media_type="text/event-stream")


_JSON = {"content-type": "application/json"}


async def _relay(ask: Ask) -> AsyncIterator[bytes]:
    """Parses every chunk, and sends the tokens of one read in one piece."""
    body = ask.model_dump() | {"stream": True, "stream_options": {"include_usage": True}}
    usage: Mapping[str, int] = {}
    told: list[str] = []
    async with held.session.post("chat/completions", data=json.dumps(body), headers=_JSON) as reply:
        rest = b""
        async for data in reply.content.iter_any():
            *events, rest = (rest + data).split(b"\n\n")
            chunks = [json.loads(event[6:]) for event in events if event != b"data: [DONE]"]
            tokens = [_token(chunk) for chunk in chunks]
            told += tokens
            usage = chunks[-1]["usage"] or usage if chunks else usage
            if out := b"".join(b"data: %b\n\n" % json.dumps({"token": t}).encode() for t in tokens if t):
                yield out
    await held.store.turn(ask, "".join(told), usage)
    yield b"data: [DONE]\n\n"


def _token(chunk: dict[str, list[dict[str, dict[str, str]]]]) -> str:
    choices = chunk["choices"]
    return choices[0]["delta"].get("content", "") if choices else ""
