"""Steps that the tests of the API share: ask a model, watch it answer, wait for the end, read everything back."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx2

OPENAI, ANTHROPIC = "gpt-4.1-mini", "claude-sonnet-4-5"
WIRES = (OPENAI, ANTHROPIC)
# Dollars per million tokens, in and out: set by the tests, and Anthropic's own.
PRICES = {OPENAI: (Decimal(1), Decimal(2)), ANTHROPIC: (Decimal(3), Decimal(15))}
MILLION = Decimal(1_000_000)
PATIENCE = 20.0
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One server-sent event; `data` is parsed unless it is [DONE]."""

    id: str
    name: str
    data: Any


async def call(client: httpx2.AsyncClient, method: str, path: str, body: object = None, *, expect: int) -> Any:
    """The JSON of an answer, whose status must be the expected one; None where it has no body."""
    reply = await client.request(method, path, json=body)
    assert reply.status_code == expect, f"{method} {path}: {reply.status_code} {reply.text}"
    return reply.json() if reply.content else None


async def start_talk(client: httpx2.AsyncClient, *contents: str, **fields: object) -> Json:
    """A new conversation whose messages alternate between the user and the assistant."""
    roles = ("user", "assistant")
    lines = [{"role": roles[index % 2], "content": content} for index, content in enumerate(contents)]
    made: Json = await call(client, "POST", "/conversation", {"messages": lines, **fields}, expect=201)
    return made


async def ask(client: httpx2.AsyncClient, talk: int, content: str, **fields: object) -> Json:
    """The folded answer to the next question of a conversation."""
    body = {"model": OPENAI, "content": content, **fields}
    answer: Json = await call(client, "POST", f"/conversations/{talk}/completions", body, expect=201)
    return answer


async def ask_anew(client: httpx2.AsyncClient, content: str, **fields: object) -> Json:
    """The folded answer to the first question of a new conversation."""
    body = {"model": OPENAI, "messages": [{"role": "user", "content": content}], **fields}
    answer: Json = await call(client, "POST", "/chat/completions", body, expect=201)
    return answer


async def branch(client: httpx2.AsyncClient, talk: int) -> list[tuple[str, str]]:
    """Role and content along the active branch of a conversation."""
    page = await call(client, "GET", f"/conversations/{talk}/messages?limit=100", expect=200)
    return [(one["role"], one["content"]) for one in page["items"]]


async def watch(lines: AsyncIterator[str]) -> AsyncIterator[SentEvent]:
    """The events of a stream as they come; comments are left out."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            data = fields.get("data", "")
            parsed = data if data == "[DONE]" else json.loads(data)
            yield SentEvent(fields.get("id", ""), fields.get("event", "message"), parsed)
            fields = {}


async def stream(client: httpx2.AsyncClient, path: str, body: Json) -> list[SentEvent]:
    """All events of a streamed answer."""
    async with client.stream("POST", path, json=body) as reply:
        assert reply.status_code in (200, 201), await reply.aread()
        assert reply.headers["content-type"].startswith("text/event-stream")
        return [event async for event in watch(reply.aiter_lines())]


def text_of(events: list[SentEvent]) -> str:
    return "".join(event.data["token"] for event in events if event.name == "message" and event.data != "[DONE]")


async def ended(client: httpx2.AsyncClient, path: str) -> Json:
    """The one completion that a list holds, or the completion at a path, once it has ended."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < deadline:
        reply = await client.get(path)
        body = reply.json()
        found = body["items"][0] if body.get("items") else body
        if found.get("status") in ("completed", "incomplete", "failed", "cancelled"):
            whole: Json = await call(client, "GET", f"/completions/{found['id']}", expect=200)
            return whole
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path} has not ended: {body}")


def check_account(completion: Json, model: str) -> None:
    """The record, its only attempt and its only ledger entry agree on what was used and what it cost."""
    [attempt], [entry], usage = completion["attempts"], completion["entries"], completion["usage"]
    assert (completion["status"], attempt["status"]) == ("completed", "completed")
    assert completion["finish_reason"] == "stop"
    assert attempt["upstream_id"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    price_in, price_out = PRICES[model]
    cost = (usage["input_tokens"] * price_in + usage["output_tokens"] * price_out) / MILLION
    assert Decimal(completion["cost_usd"]) == Decimal(entry["cost_usd"]) == cost
    assert {name: entry[name] for name in usage} == usage
    assert (entry["model"], entry["provenance"], entry["kind"]) == (model, "provider", "charge")
    assert entry["conversation_id"] == completion["conversation_id"]
