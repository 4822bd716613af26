"""Many at once to one conversation: what does not conflict is stored, and each prompt is the history before it."""

import asyncio
from collections import Counter

import httpx2
import pytest
from llmock.pytest_plugin import LLMock

from tests.api.steps import OPENAI, Json, branch, call, start_talk

SENDERS = 10


async def test_of_ten_questions_at_once_the_stored_ones_are_those_accepted(
    http: httpx2.AsyncClient, llmock: LLMock
) -> None:
    llmock.delay(0.2, times=None)
    talk = (await start_talk(http, "Hello", "Hi!"))["id"]
    replies = await ask_at_once(http, talk, {})
    assert Counter(reply.status_code for reply in replies) == {201: 1, 409: SENDERS - 1}
    assert {reply.json()["code"] for reply in replies if reply.status_code == 409} <= {"conversation_busy", "conflict"}
    await check_stored(http, llmock, talk, replies)
    assert len(await branch(http, talk)) == 4


async def test_ten_answers_to_the_same_message_are_ten_branches(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.delay(0.1, times=None)
    made = await start_talk(http, "Hello", "Hi!")
    replies = await ask_at_once(http, made["id"], {"parent_id": made["active_leaf_id"]})
    assert Counter(reply.status_code for reply in replies) == {201: SENDERS}
    await check_stored(http, llmock, made["id"], replies)
    assert len(await branch(http, made["id"])) == 4


@pytest.mark.usefixtures("llmock")
async def test_ten_new_conversations_at_once_are_ten(http: httpx2.AsyncClient) -> None:
    body = {"model": OPENAI, "messages": [{"role": "user", "content": "Hello?"}]}
    replies = await asyncio.gather(*(http.post("/chat/completions", json=body) for _ in range(SENDERS)))
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.json()["conversation_id"] for reply in replies}) == SENDERS
    assert (await call(http, "GET", "/conversations", expect=200))["total"] == SENDERS
    assert (await call(http, "GET", "/users/me/messages", expect=200))["total"] == 2 * SENDERS


async def test_what_is_sent_twice_is_stored_twice(http: httpx2.AsyncClient) -> None:
    line = {"role": "user", "content": "Remember the milk."}
    first, second = [await call(http, "POST", "/chat", line, expect=201) for _ in range(2)]
    assert first["id"] != second["id"]
    assert first["conversation_id"] != second["conversation_id"]


async def test_a_deletion_beside_questions_leaves_nothing_half(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.delay(0.05, times=None)
    talk = (await start_talk(http, "Hello", "Hi!"))["id"]
    asking = asyncio.create_task(ask_at_once(http, talk, {}))
    deleted = await http.delete(f"/conversations/{talk}")
    assert deleted.status_code == 204
    assert {reply.status_code for reply in await asking} <= {201, 404, 409}
    await call(http, "GET", f"/conversations/{talk}", expect=404)
    assert (await call(http, "GET", "/users/me/messages", expect=200))["total"] == 0


async def ask_at_once(client: httpx2.AsyncClient, talk: int, fields: Json) -> list[httpx2.Response]:
    bodies = [{"model": OPENAI, "content": f"Question {n}?", **fields} for n in range(SENDERS)]
    return await asyncio.gather(*(client.post(f"/conversations/{talk}/completions", json=body) for body in bodies))


async def check_stored(client: httpx2.AsyncClient, llmock: LLMock, talk: int, replies: list[httpx2.Response]) -> None:
    """Exactly the accepted questions are there, each below the history that the provider read with it."""
    accepted = [reply.json() for reply in replies if reply.status_code == 201]
    page = await call(client, "GET", f"/conversations/{talk}/messages?branch=all&limit=100", expect=200)
    nodes = {one["id"]: one for one in page["items"]}
    assert page["total"] == len(nodes) == 2 + 2 * len(accepted)
    assert (await call(client, "GET", f"/conversations/{talk}", expect=200))["message_count"] == len(nodes)
    histories = []
    for answer in accepted:
        assert nodes[answer["message_id"]]["content"] == answer["content"]
        line: list[str] = []
        at = nodes[answer["message_id"]]["parent_id"]
        while at is not None:
            line.insert(0, nodes[at]["content"])
            at = nodes[at]["parent_id"]
        histories.append(line)
    sent = [[message["content"] for message in request.body["messages"]] for request in llmock.requests]
    assert sorted(sent) == sorted(histories)
    assert (await call(client, "GET", f"/completions?conversation_id={talk}", expect=200))["total"] == len(accepted)
