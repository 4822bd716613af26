"""The instruments of the torture: the provider does what its mode says, the relay cuts where it is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from torture.folded import unfold
from torture.ledgers import Ledger, read
from torture.modes import BY_NAME, MODES, choose
from torture.provider import Provider
from torture.relay import Relay
from torture.rows import Completion, Journalled, Message

PATHS = {"openai": "/alpha/v1/chat/completions", "anthropic": "/beta/v1/messages"}


@asynccontextmanager
async def provider(folder: Path) -> AsyncIterator[int]:
    """Its port; the ledger is complete when the block is over."""
    notes = Ledger(folder / "provider.jsonl")
    served = Provider(1, notes)
    async with await asyncio.start_server(served.serve, "127.0.0.1", 0) as server:
        yield int(server.sockets[0].getsockname()[1])
        await asyncio.wait_for(served.settle(), 5)
    notes.close()


async def ask(port: int, wire: str, mode: str, *, stream: bool = True) -> tuple[int, bytes, bool]:
    """The status, the body as far as it came, and whether it came to HTTP's end."""
    body = {"messages": [{"role": "user", "content": f"q7 mode:{mode}"}], "max_tokens": 7, "stream": stream}
    headers = {"Authorization": "Bearer worker-1"}
    raw, status = bytearray(), 0
    try:
        async with asyncio.timeout(1), aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}{PATHS[wire]}"
            async with session.post(url, json=body, headers=headers, allow_redirects=False) as response:
                status = response.status
                while data := await response.content.readany():
                    raw += data
    except (aiohttp.ClientError, OSError, TimeoutError):
        return status, bytes(raw), False
    return status, bytes(raw), True


def ledger(folder: Path) -> dict[str, dict[str, Any]]:
    return {line["what"]: line for line in read(folder / "provider.jsonl")}


@pytest.mark.parametrize("wire", PATHS)
@pytest.mark.parametrize("mode", ["plain", "paced", "at_once", "split", "dripping", "crlf", "thinking", "no_usage"])
async def test_healthy_modes_say_all_and_note_it(tmp_path: Path, wire: str, mode: str) -> None:
    async with provider(tmp_path) as port:
        status, raw, whole = await ask(port, wire, mode)
    noted = ledger(tmp_path)
    assert (status, whole) == (200, True)
    assert (noted["call"]["worker"], noted["call"]["tag"], noted["call"]["mode"]) == ("worker-1", 7, mode)
    events = [json.loads(line[5:]) for line in raw.splitlines() if line.startswith(b"data: {")]
    said = "".join(_text(event) for event in events)
    assert said
    assert said == noted["end"]["text"]
    assert noted["end"]["finish"] is True
    assert (noted["end"]["count"] is None) == (mode == "no_usage")


@pytest.mark.parametrize("wire", PATHS)
@pytest.mark.parametrize(
    ("mode", "status", "whole", "finish"),
    [
        ("limited", 429, True, False),
        ("overloaded", 529, True, False),
        ("closed", 200, False, False),
        ("reset_at_once", 0, False, False),
        ("truncated", 200, True, False),
        ("stalled", 200, False, False),
        ("bad_chunk", 200, False, False),
        ("garbage", 200, True, False),
        ("cut_after_the_end", 200, False, True),
        ("endless", 200, False, False),
    ],
)
async def test_bad_modes_end_as_they_are_named(
    tmp_path: Path, wire: str, mode: str, status: int, whole: bool, finish: bool
) -> None:
    async with provider(tmp_path) as port:
        found = await ask(port, wire, mode)
    assert (found[0], found[2]) == (status, whole)
    assert ledger(tmp_path)["end"]["finish"] is finish


def test_modes_are_many_and_the_seed_decides() -> None:
    assert len(MODES) == len(BY_NAME) >= 20
    drawn = [choose(5, tag, 1).name for tag in range(2000)]
    assert drawn == [choose(5, tag, 1).name for tag in range(2000)]
    assert set(drawn) == set(BY_NAME)
    assert drawn != [choose(6, tag, 1).name for tag in range(2000)]


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that says what it hears, and what it heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            heard.append(data)
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield int(server.sockets[0].getsockname()[1]), heard


async def test_relay_goes_round_and_passes_over_the_dead() -> None:
    async with echo() as (first, heard), echo() as (second, also), Relay(lambda: [first, 1, second]) as relay:
        for _ in range(6):
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            writer.write(b"hello")
            assert await reader.read(100) == b"hello"
            writer.close()
    assert len(heard) + len(also) == 6
    assert heard
    assert also


async def test_frozen_relay_holds_bytes_and_a_cut_one_ends_connections() -> None:
    async with echo() as (port, heard), Relay(lambda: [port]) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        relay.freeze("up")
        writer.write(b"later")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(100), 0.1)
        assert heard == []
        relay.thaw()
        assert await reader.read(100) == b"later"
        assert relay.cut() == 1
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()


async def test_swallowed_commit_arrives_without_an_answer() -> None:
    async with echo() as (port, heard), Relay(lambda: [port]) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        trap = asyncio.create_task(relay.swallow_commit(2))
        await asyncio.sleep(0)
        writer.write(b"P WITH x AS (SELECT 1) json_to_recordset")
        assert await reader.read(100)
        writer.write(b"B bind")
        assert await trap is True
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert heard[-1] == b"B bind"
        assert await relay.swallow_commit(0.01) is False
        writer.close()


def _text(event: dict[str, Any]) -> str:
    if choices := event.get("choices"):
        return choices[0]["delta"].get("content") or ""
    return str(event.get("delta", {}).get("text", ""))


def test_folded_rows_are_told_from_the_message_or_from_what_they_kept() -> None:
    message = Message(1, 5, 1, None, 5, 0, "assistant", "Hello" + "o" * 34, "Hm", "completed", 7)
    known: dict[str, Any] = {one.name: None for one in fields(Completion)}
    answer = Completion(**known | {"id": 7, "message_id": 5})
    data = '{"folded":[["reasoning","CA"],["text","AFiB"],["done",{"status":"completed"}]]}'
    folded = Journalled(1, 7, 3, 7, data, "[0,39,0,2]")
    told = [["reasoning", "Hm"], ["reasoning", ""], ["text", ""], ["text", "Hello"], ["text", "o" * 34]]
    gone = replace(folded, completion_id=8, said="Hello" + "o" * 34 + "Hm")
    plain = replace(folded, data="[]", spans=None)
    rows = unfold([folded, gone, plain], [answer], {5: message})
    assert [json.loads(row.data)[:5] for row in rows] == [told, told, []]
    assert json.loads(rows[0].data)[5] == ["done", {"status": "completed"}]
