"""Comparing models over HTTP: one fails, one is slow, one is cancelled; the others answer, and one is picked."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Delay, Match

from tests.api.steps import ANTHROPIC, OPENAI, Json, ask, branch, call, check_account, ended, start_talk
from tests.conftest import People

PATH = "/compare-providers"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
KEYS = {
    "model", "provider", "status", "completion_id", "message_id", "content", "reasoning", "finish_reason", "usage",
    "cost_usd", "latency_ms", "first_token_ms", "warnings", "error",
}  # fmt: skip


async def compare(client: httpx2.AsyncClient, *models: str, **fields: object) -> Json:
    body = {"messages": QUESTION, "models": models, **fields}
    made: Json = await call(client, "POST", PATH, body, expect=201)
    assert [one["model"] for one in made["results"]] == list(models)
    return made


async def running(client: httpx2.AsyncClient, **wanted: str) -> Json:
    """The one completion that runs and fits."""
    query = httpx2.QueryParams({"status": "in_progress", **wanted})
    async with asyncio.timeout(10):
        while True:
            page = await call(client, "GET", f"/completions?{query}", expect=200)
            if page["items"]:
                found: Json = page["items"][0]
                return found
            await asyncio.sleep(0.02)


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while True:
            if await done():
                return
            await asyncio.sleep(0.02)


async def test_each_answers_as_a_sibling_with_its_own_account(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("Paris.", provider="openai").reply("Paris, of course.", provider="anthropic")
    made = await compare(http, ANTHROPIC, OPENAI)
    first, second = made["results"]
    assert (first["content"], second["content"]) == ("Paris, of course.", "Paris.")
    for result in made["results"]:
        assert result.keys() == KEYS
        assert (result["status"], result["finish_reason"], result["error"]) == ("completed", "stop", None)
        assert result["latency_ms"] >= result["first_token_ms"] >= 0
        record = await call(http, "GET", f"/completions/{result['completion_id']}", expect=200)
        check_account(record, result["model"])
        assert (record["usage"], record["cost_usd"]) == (result["usage"], result["cost_usd"])
        assert Decimal(result["cost_usd"]) > 0
        message = await call(http, "GET", f"/messages/{result['message_id']}", expect=200)
        assert (message["parent_id"], message["content"]) == (made["message_id"], result["content"])
        assert record["max_tokens"] == 1000
    talk = await call(http, "GET", f"/conversations/{made['conversation_id']}", expect=200)
    assert (talk["title"], talk["message_count"], talk["active_leaf_id"], talk["model"]) == (
        QUESTION[0]["content"], 3, first["message_id"], first["model"],
    )  # fmt: skip
    assert [sorted(m["content"] for m in request.body["messages"]) for request in llmock.requests] == [
        [QUESTION[0]["content"]]
    ] * 2


async def test_one_is_picked_and_the_talk_goes_on_with_it(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("One.", provider="openai").reply("Other.", provider="anthropic")
    talk = (await start_talk(http, "Hello", "Hi!", system_prompt="Be kind."))["id"]
    made = await compare(http, OPENAI, ANTHROPIC, conversation_id=talk, temperature=0.1)
    assert made["conversation_id"] == talk
    said = [("user", "Hello"), ("assistant", "Hi!"), ("user", QUESTION[0]["content"])]
    assert await branch(http, talk) == [*said, ("assistant", "One.")]
    for request in llmock.requests:
        assert "Be kind." in str(request.body)
        assert request.body["temperature"] == 0.1
    picked = {"message_id": made["results"][1]["message_id"]}
    await call(http, "POST", f"/conversations/{talk}/activate", picked, expect=200)
    await ask(http, talk, "Go on.")
    told = [message["content"] for message in llmock.last_request.body["messages"]]
    assert told == ["Be kind.", "Hello", "Hi!", QUESTION[0]["content"], "Other.", "Go on."]
    assert [content for _, content in await branch(http, talk)][3:5] == ["Other.", "Go on."]


async def test_one_that_fails_does_not_fail_the_others(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.fail(400, message="No such luck", provider="anthropic").reply("Paris.", provider="openai")
    made = await compare(http, "nothing-like-it", ANTHROPIC, OPENAI)
    unknown, refused, answered = made["results"]
    assert (unknown["error"]["code"], unknown["error"]["status"]) == ("model_not_found", 404)
    assert (unknown["status"], unknown["completion_id"], unknown["content"]) == ("failed", None, None)
    assert (refused["error"]["code"], refused["status"]) == ("provider_refused", "failed")
    assert refused["error"]["completion_id"] == refused["completion_id"]
    assert refused["usage"]["output_tokens"] == 0
    assert (answered["content"], answered["error"]) == ("Paris.", None)
    assert unknown.keys() == refused.keys() == answered.keys() == KEYS


async def test_all_are_asked_at_once_and_a_slow_one_is_waited_for(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.add(*(Delay(1.0, match=Match(model=model)) for model in (OPENAI, ANTHROPIC, "unpriced")))
    began = time.monotonic()
    made = await compare(http, OPENAI, ANTHROPIC, "unpriced", "small")
    took = time.monotonic() - began
    assert {one["status"] for one in made["results"]} == {"completed"}
    assert took < 2.5, "one after the other they would take three seconds"
    slow = made["results"][:2]
    assert all(one["latency_ms"] >= 1000 for one in slow)
    assert made["results"][2]["cost_usd"] is None


async def test_one_is_cancelled_and_keeps_what_it_said(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.pace(60).reply("word " * 200, provider="anthropic").reply("Paris.", provider="openai")
    asking = asyncio.create_task(compare(http, ANTHROPIC, OPENAI))
    slow = await running(http, provider="anthropic")
    async with http.stream("GET", f"/completions/{slow['id']}/stream") as watched:
        lines = watched.aiter_lines()
        async for line in lines:
            if "token" in line:
                break
        stopped = await call(http, "POST", f"/completions/{slow['id']}/cancel", {}, expect=200)
    assert stopped["status"] == "cancelled"
    made = await asking
    cancelled, answered = made["results"]
    assert (cancelled["status"], cancelled["finish_reason"], cancelled["error"]) == ("cancelled", "cancelled", None)
    assert cancelled["content"].startswith("word")
    assert len(cancelled["content"]) < 1000
    assert (answered["status"], answered["content"]) == ("completed", "Paris.")
    record = await call(http, "GET", f"/completions/{cancelled['completion_id']}", expect=200)
    assert [entry["provenance"] for entry in record["entries"]] != []


async def test_hanging_up_stops_none_of_them(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.pace(50).reply("One two three four five.", provider="openai").reply("Six seven.", provider="anthropic")
    body = {"messages": QUESTION, "models": [OPENAI, ANTHROPIC]}
    hasty = httpx2.AsyncClient(base_url=http.base_url, headers=http.headers, timeout=0.2, verify=False)
    async with hasty:
        with pytest.raises(httpx2.TimeoutException):
            await hasty.post(PATH, json=body)

    async def both_ended() -> bool:
        page = await call(http, "GET", "/completions?status=completed", expect=200)
        return bool(page["total"] == 2)

    await until(both_ended)
    page = await call(http, "GET", "/users/me/messages?sort=oldest", expect=200)
    assert sorted(one["content"] for one in page["items"]) == sorted(
        [QUESTION[0]["content"], "One two three four five.", "Six seven."]
    )


async def test_one_key_makes_one_comparison(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.add(Delay(0.3, times=None))
    body = {"messages": QUESTION, "models": [OPENAI, ANTHROPIC, OPENAI]}
    key = {"Idempotency-Key": "compare-1"}
    replies = await asyncio.gather(*(http.post(PATH, json=body, headers=key) for _ in range(20)))
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.text for reply in replies}) == 1
    assert len(llmock.requests) == 3
    assert sum("idempotency-replayed" in reply.headers for reply in replies) == 19
    other = await http.post(PATH, json={**body, "models": [OPENAI]}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    turn = await http.post("/completions", json={"prompt": "x", "model": OPENAI}, headers=key)
    assert turn.status_code == 422
    assert (await call(http, "GET", "/users/me/messages", expect=200))["total"] == 4


async def test_without_store_nothing_of_it_stays(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("Paris.", times=2)
    made = await compare(http, OPENAI, ANTHROPIC, store=False)
    assert (made["conversation_id"], made["message_id"]) == (None, None)
    assert [one["content"] for one in made["results"]] == ["Paris.", "Paris."]
    assert (await call(http, "GET", "/users/me/messages", expect=200))["total"] == 0
    for result in made["results"]:
        record = await ended(http, f"/completions/{result['completion_id']}")
        assert (record["content"], len(record["entries"])) == (None, 1)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"models": ["nothing", "like-it"]}, 404, "model_not_found"),
        ({"models": []}, 422, "unprocessable"),
        ({"models": [OPENAI] * 11}, 422, "unprocessable"),
        ({"messages": []}, 422, "unprocessable"),
        ({"messages": [*QUESTION, {"role": "assistant", "content": "Paris."}]}, 422, "unprocessable"),
        ({"conversation_id": 2**53 - 1}, 404, "not_found"),
        ({"conversation_id": 1, "store": False}, 422, "unprocessable"),
        ({"model": OPENAI}, 422, "unprocessable"),
        ({"temperature": 3}, 422, "unprocessable"),
    ],
)
async def test_what_cannot_be_compared_stores_nothing(
    http: httpx2.AsyncClient, llmock: LLMock, fields: dict[str, Any], status: int, code: str
) -> None:
    body = {"messages": QUESTION, "models": [OPENAI], **fields}
    assert (await call(http, "POST", PATH, body, expect=status))["code"] == code
    assert (await call(http, "GET", "/users/me/messages", expect=200))["total"] == 0
    assert llmock.requests == []


async def test_where_no_turn_may_begin_nothing_is_stored(people: People, llmock: LLMock) -> None:
    path = f"/users/{people.owner_id}"
    await call(people.admin, "PATCH", path, {"limits": {"requests_per_minute": 0}}, expect=200)
    body = {"messages": QUESTION, "models": [OPENAI, ANTHROPIC]}
    for stored in (True, False):
        problem = await call(people.owner, "POST", PATH, {**body, "store": stored}, expect=429)
        assert problem["code"] == "limit_exceeded"
    assert (await call(people.owner, "GET", "/users/me/messages", expect=200))["total"] == 0
    await call(people.admin, "PATCH", path, {"limits": {"requests_per_minute": 1}}, expect=200)
    made = await compare(people.owner, OPENAI, ANTHROPIC)
    assert [one["error"] and one["error"]["code"] for one in made["results"]] == [None, "limit_exceeded"]
    assert len(llmock.requests) == 1


async def test_a_talk_that_is_being_answered_or_somebody_elses_is_not_compared(people: People, llmock: LLMock) -> None:
    llmock.pace(50).reply("One two three four five six seven eight.")
    talk = (await start_talk(people.owner, "Hello", "Hi!"))["id"]
    body = {"messages": QUESTION, "models": [OPENAI], "conversation_id": talk}
    await call(people.other, "POST", PATH, body, expect=404)
    turn = {"model": OPENAI, "content": "Count!", "stream": True}
    async with people.owner.stream("POST", f"/conversations/{talk}/completions", json=turn) as reply:
        assert reply.status_code == 200
        assert (await call(people.owner, "POST", PATH, body, expect=409))["code"] == "conversation_busy"
    await until(lambda: _is_quiet(people.owner))
    assert (await compare(people.owner, OPENAI, conversation_id=talk))["results"][0]["status"] == "completed"


async def _is_quiet(client: httpx2.AsyncClient) -> bool:
    page = await call(client, "GET", "/completions?status=in_progress", expect=200)
    return bool(page["total"] == 0)
