"""A stream taken up again: from any event, on any worker, after the end, after a restart, after a kill."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from llmock.testing import LLMockServer

from tests.api.steps import call
from tests.conftest import MakeDatabase, People, admin_key_for, service_environment
from tests.servers.service import Service

# Comments are the connection's, not the stream's.
HEARTBEAT = b": still here\n\n"
CANNED = {"model": "slow", "messages": [{"role": "user", "content": "Tell me slowly."}]}
WORDS = 40
LEASE = 3


@pytest.fixture
async def slow_provider() -> AsyncIterator[str]:
    """A provider on OpenAI's wire that says a word every 50 ms; its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"POST"):
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            writer.close()
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        try:
            for number in range(WORDS):
                choice = {"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": None}
                writer.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
                await writer.drain()
                await asyncio.sleep(0.05)
            end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            writer.write(b"data: " + json.dumps(end).encode() + b"\n\ndata: [DONE]\n\n")
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()


@dataclass
class Two:
    """Two services on one database, and the headers of somebody who may ask both."""

    one: Service
    two: Service
    headers: dict[str, str]

    def client(self, service: Service) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=service.url, headers=self.headers, timeout=30)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, make_database: MakeDatabase) -> Iterator[str]:
    with make_database(request.param) as url:
        yield url


@pytest.fixture
async def two(database: str, llmock_server: LLMockServer, slow_provider: str, tmp_path: Path) -> AsyncIterator[Two]:
    environment = service_environment(database, llmock_server) | {
        "EVERTURN_PROVIDERS": json.dumps([{"name": "slow", "base_url": slow_provider}]),
        "EVERTURN_MODELS": json.dumps([{"id": "slow", "provider": "slow", "input_price": "1", "output_price": "1"}]),
        "EVERTURN_LEASE_SECONDS": str(LEASE),
        "EVERTURN_DRAIN_SECONDS": "5",
    }
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    one, another = (Service(environment, folder) for folder in folders)
    await asyncio.gather(asyncio.to_thread(one.start), asyncio.to_thread(another.start))
    try:
        key = await asyncio.to_thread(admin_key_for, database)
        yield Two(one, another, {"Authorization": f"Bearer {key}"})
    finally:
        for service in (one, another):
            await asyncio.to_thread(service.kill)


@asynccontextmanager
async def opened(client: httpx2.AsyncClient, words: int) -> AsyncIterator[tuple[int, bytes]]:
    """A new stream, left open, of which so many words have come: its completion and its bytes up to there."""
    async with client.stream("POST", "/chat/completions/stream", json=CANNED) as reply:
        assert reply.status_code == 200
        got = b""
        async for piece in reply.aiter_raw():
            got += piece.replace(HEARTBEAT, b"")
            if got.count(b'{"token"') >= words and got.endswith(b"\n\n"):
                break
        yield int(reply.headers["Everturn-Completion-Id"]), got


async def rest(client: httpx2.AsyncClient, completion_id: int, **how: object) -> bytes:
    reply = await client.get(f"/completions/{completion_id}/stream", **how)  # type: ignore[arg-type]
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    return reply.content.replace(HEARTBEAT, b"")


def last_seq(data: bytes) -> int:
    return int(data.rsplit(b"id: ", 1)[1].split(b"\n", 1)[0].split(b":")[1])


async def test_finished_stream_is_replayed_byte_for_byte(people: People) -> None:
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Say something."}]}
    first = await people.owner.post("/chat/completions/stream", json=body)
    completion_id = int(first.headers["Everturn-Completion-Id"])
    events = first.content.split(b"\n\n")[:-1]
    assert events[-1].endswith(b"data: [DONE]")
    assert await rest(people.owner, completion_id) == first.content
    for seq in (0, 1, len(events) // 2, len(events) - 1):
        expected = b"".join(event + b"\n\n" for event in events[seq + 1 :])
        again = await rest(people.owner, completion_id, params={"starting_after": seq})
        assert again == (expected or again)
        browser = await rest(people.owner, completion_id, headers={"Last-Event-ID": f"{completion_id}:{seq}"})
        assert browser == again
    beyond = await rest(people.owner, completion_id, params={"starting_after": 2**53 - 1})
    assert beyond.count(b"\n\n") <= 1


async def test_folded_answer_is_given_again_by_another_worker(two: Two) -> None:
    """It never had the turn, and finds its end in the database."""
    body = {**CANNED, "model": "gpt-4.1-mini"}
    headers = {"Idempotency-Key": "once"}
    async with two.client(two.one) as here, two.client(two.two) as there:
        first = await here.post("/chat/completions", json=body, headers=headers)
        again = await there.post("/chat/completions", json=body, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201), again.text
        assert again.json() == first.json()
        assert again.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("sent", ["7:1", "x", "1:x", ":-1"])
async def test_another_streams_event_is_refused(people: People, sent: str) -> None:
    made = await call(people.owner, "POST", "/chat/completions", {**CANNED, "model": "gpt-4.1-mini"}, expect=201)
    path = f"/completions/{made['completion_id']}/stream"
    reply = await people.owner.get(path, headers={"Last-Event-ID": sent})
    assert reply.status_code == 400
    assert (await people.owner.get(path, params={"starting_after": "-1"})).status_code == 422


async def test_unstored_turn_ends_its_stream_too(people: People) -> None:
    body = {**CANNED, "model": "gpt-4.1-mini", "store": False}
    made = await call(people.owner, "POST", "/chat/completions", body, expect=201)
    assert (await rest(people.owner, made["completion_id"])).endswith(b"data: [DONE]\n\n")


async def test_running_stream_is_followed_from_another_worker(two: Two) -> None:
    async with two.client(two.one) as here, two.client(two.two) as there:
        async with opened(here, 5) as (completion_id, got):
            pass  # the reader leaves
        began = time.monotonic()
        more = await rest(there, completion_id, params={"starting_after": last_seq(got)})
        assert time.monotonic() - began > 0.5, "the turn should have been running still"
        whole = got + more
        assert whole == await rest(here, completion_id)
        assert whole.count(b'{"token"') == WORDS
        assert whole.endswith(b"data: [DONE]\n\n")


async def test_killed_workers_turn_is_finished_and_resumed_elsewhere(two: Two) -> None:
    async with two.client(two.one) as here, two.client(two.two) as there:
        async with opened(here, 5) as (completion_id, got):
            await asyncio.to_thread(two.one.kill)
        began = time.monotonic()
        more = await rest(there, completion_id, params={"starting_after": last_seq(got)})
        assert time.monotonic() - began < 3 * LEASE
        assert b"event: error" in more
        assert b'"code":"worker_lost"' in more
        record = await call(there, "GET", f"/completions/{completion_id}", expect=200)
        assert (record["status"], record["error_code"]) == ("incomplete", "worker_lost")
        tokens = [json.loads(line[6:])["token"] for line in (got + more).decode().split("\n") if '{"token"' in line]
        assert record["content"] == "".join(tokens)
        assert [entry["provenance"] for entry in record["entries"]] == ["estimated"]
        await asyncio.to_thread(two.one.start)
        async with two.client(two.one) as again:
            assert await rest(again, completion_id) == got + more
            left = await call(again, "GET", "/completions?status=in_progress", expect=200)
            assert left["total"] == 0
