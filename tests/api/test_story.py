"""The story: sign up, converse, stream, leave in the middle, and find everything again."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from secrets import token_hex

import httpx2
import pytest
from llmock.pytest_plugin import LLMock

from tests.api.steps import (
    OPENAI,
    WIRES,
    Json,
    ask,
    ask_anew,
    branch,
    call,
    check_account,
    ended,
    start_talk,
    stream,
    text_of,
)
from tests.conftest import People, Running

# Longer than one word, so that it is streamed in several pieces.
ANSWER = "The capital of France is Paris, and it lies on the Seine — where else?"
Reader = Callable[[asyncio.StreamReader], Awaitable[object]]


@pytest.mark.parametrize("model", WIRES)
async def test_sign_up_converse_stream_and_read_everything_back(
    people: People, running_service: Running, llmock: LLMock, model: str
) -> None:
    name = f"ada-{token_hex(4)}"
    made = await call(people.admin, "POST", "/users", {"username": name}, expect=201)
    key = await call(people.admin, "POST", f"/users/{made['id']}/keys", {"name": "laptop"}, expect=201)
    headers = {"Authorization": f"Bearer {key['key']}"}
    async with httpx2.AsyncClient(base_url=running_service.url, headers=headers, timeout=30, verify=False) as ada:
        assert (await call(ada, "GET", "/users/me", expect=200))["username"] == name
        llmock.reply("Hello, Ada.").reply("You said hello.").reply(ANSWER)
        first = await ask_anew(ada, "Hello?", model=model)
        talk = first["conversation_id"]
        second = await ask(ada, talk, "What did I say?", model=model)
        events = await stream(ada, f"/conversations/{talk}/completions", _question(model, "And France?"))
        assert [first["content"], second["content"], text_of(events)] == ["Hello, Ada.", "You said hello.", ANSWER]
        told = [
            ("user", "Hello?"),
            ("assistant", "Hello, Ada."),
            ("user", "What did I say?"),
            ("assistant", "You said hello."),
            ("user", "And France?"),
            ("assistant", ANSWER),
        ]
        assert await branch(ada, talk) == told
        page = await call(ada, "GET", "/completions?sort=oldest", expect=200)
        assert page["total"] == 3
        for item in page["items"]:
            check_account(await call(ada, "GET", f"/completions/{item['id']}", expect=200), model)
        [shown] = (await call(ada, "GET", "/conversations", expect=200))["items"]
        assert (shown["id"], shown["message_count"], shown["title"], shown["model"]) == (talk, 6, "Hello?", model)
    sent = [request.body["messages"] for request in llmock.requests]
    assert [[m["content"] for m in one] for one in sent] == [[c for _, c in told[:n]] for n in (1, 3, 5)]


@pytest.mark.parametrize("model", WIRES)
@pytest.mark.parametrize("path", ["/chat/completions/stream", "/chat/stream", "/chat/completions"])
async def test_a_stream_has_its_ids_tokens_usage_and_end(
    http: httpx2.AsyncClient, llmock: LLMock, model: str, path: str
) -> None:
    llmock.reply(ANSWER)
    asked: Json = {"messages": [{"role": "user", "content": "France?"}], "stream": True}
    events = await stream(http, path, {"model": model, **({"prompt": "France?"} if path == "/chat/stream" else asked)})
    first, last, usage = events[0], events[-1], events[-2]
    number = first.data["completion_id"]
    assert (first.name, last.name, last.data, usage.name) == ("completion", "message", "[DONE]", "usage")
    assert [event.id for event in events] == [f"{number}:{seq}" for seq in range(len(events))]
    assert len(events) > 5
    assert text_of(events) == ANSWER
    record = await call(http, "GET", f"/completions/{number}", expect=200)
    check_account(record, model)
    assert record["content"] == ANSWER
    assert record["streamed"] is True
    assert {name: usage.data[name] for name in record["usage"]} == record["usage"]
    assert usage.data["cost_usd"] == record["cost_usd"]
    message = await call(http, "GET", f"/messages/{first.data['message_id']}", expect=200)
    assert (message["content"], message["status"], message["completion_id"]) == (ANSWER, "completed", number)


async def before_any_byte(_: asyncio.StreamReader) -> object:
    return None


async def after_one_byte(reader: asyncio.StreamReader) -> object:
    return await reader.readexactly(1)


async def after_the_headers(reader: asyncio.StreamReader) -> object:
    return await reader.readuntil(b"\r\n\r\n")


async def after_two_tokens(reader: asyncio.StreamReader) -> object:
    await reader.readuntil(b'"token"')
    return await reader.readuntil(b'"token"')


@pytest.mark.parametrize("model", WIRES)
@pytest.mark.parametrize("leave", [before_any_byte, after_one_byte, after_the_headers, after_two_tokens])
async def test_who_leaves_a_stream_finds_the_whole_turn(
    http: httpx2.AsyncClient, running_service: Running, llmock: LLMock, leave: Reader, model: str
) -> None:
    llmock.pace(10).reply(ANSWER)
    talk = (await start_talk(http, "Hello", "Hi!"))["id"]
    path = f"/conversations/{talk}/completions"
    await _send_and_leave(running_service, http, path, _question(model, "France?"), leave)
    record = await ended(http, f"/completions?conversation_id={talk}")
    check_account(record, model)
    assert record["content"] == ANSWER
    told = [("user", "Hello"), ("assistant", "Hi!"), ("user", "France?"), ("assistant", ANSWER)]
    assert await branch(http, talk) == told
    assert (await call(http, "GET", f"/conversations/{talk}", expect=200))["message_count"] == 4
    assert len(llmock.requests) == 1


@pytest.mark.parametrize("leave", [before_any_byte])
async def test_who_does_not_wait_for_the_json_finds_the_whole_turn(
    http: httpx2.AsyncClient, running_service: Running, llmock: LLMock, leave: Reader
) -> None:
    llmock.delay(0.2).reply(ANSWER)
    asked = {"model": OPENAI, "messages": [{"role": "user", "content": "France?"}]}
    await _send_and_leave(running_service, http, "/chat/completions", asked, leave)
    record = await ended(http, "/completions")
    check_account(record, OPENAI)
    assert await branch(http, record["conversation_id"]) == [("user", "France?"), ("assistant", ANSWER)]


async def test_the_next_question_reads_what_was_left(
    http: httpx2.AsyncClient, running_service: Running, llmock: LLMock
) -> None:
    llmock.pace(10).reply(ANSWER)
    talk = (await start_talk(http))["id"]
    path = f"/conversations/{talk}/completions"
    await _send_and_leave(running_service, http, path, _question(OPENAI, "France?"), after_one_byte)
    await ended(http, f"/completions?conversation_id={talk}")
    await ask(http, talk, "And Italy?")
    sent = [message["content"] for message in llmock.last_request.body["messages"]]
    assert sent == ["France?", ANSWER, "And Italy?"]


def _question(model: str, content: str) -> Json:
    return {"model": model, "content": content, "stream": True}


async def _send_and_leave(service: Running, client: httpx2.AsyncClient, path: str, body: Json, leave: Reader) -> None:
    """Send a request on a socket of its own, read as far as `leave` does, and cut the connection."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: everturn\r\nAuthorization: {client.headers['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", service.service.port)
    try:
        writer.write(head.encode() + data)
        await writer.drain()
        await leave(reader)
    finally:
        writer.transport.abort()
