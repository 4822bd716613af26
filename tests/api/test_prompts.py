"""Asking at the further addresses: by a model's name, by its provider's, with one prompt; and removing an answer."""

from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from llmock.pytest_plugin import LLMock

from tests.api.steps import ANTHROPIC, OPENAI, Json, ask, ask_anew, branch, call, start_talk, stream, text_of, watch
from tests.conftest import People

CHAT: Json = {"messages": [{"role": "user", "content": "Hello?"}]}


async def record(client: httpx2.AsyncClient, answer: Json) -> Json:
    found: Json = await call(client, "GET", f"/completions/{answer['completion_id']}", expect=200)
    return found


@pytest.mark.parametrize("name", [OPENAI, f"openai/{OPENAI}", ANTHROPIC, "gpt-4o-2024-11-20"])
async def test_a_model_is_asked_by_its_name(http: httpx2.AsyncClient, llmock: LLMock, name: str) -> None:
    llmock.reply("Here.")
    reply = await http.post(f"/models/{name}/completions", json={"prompt": "Hello?", "max_tokens": 9})
    answer = reply.json()
    assert (reply.status_code, answer["content"]) == (201, "Here.")
    assert answer["model"] == name.removeprefix("openai/")
    kept = await record(http, answer)
    assert (kept["temperature"], kept["max_tokens"], kept["streamed"]) == (0.7, 9, False)
    assert await branch(http, answer["conversation_id"]) == [("user", "Hello?"), ("assistant", "Here.")]


async def test_a_model_is_watched_by_its_name(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("Once upon a time.")
    events = await stream(http, f"/models/openai/{OPENAI}/completions?stream=true", {"prompt": "A story!"})
    assert (events[0].name, text_of(events), events[-1].data) == ("completion", "Once upon a time.", "[DONE]")


async def test_a_prompt_has_its_own_defaults(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("One.").reply("Two.")
    answer = await call(http, "POST", "/completions", {"model": ANTHROPIC, "prompt": "Count!"}, expect=201)
    assert (answer["content"], answer["model"]) == ("One.", ANTHROPIC)
    kept = await record(http, answer)
    assert (kept["temperature"], kept["max_tokens"]) == (0.7, 100)
    body = {"prompt": "Go on!", "stream": True, "model": OPENAI, "conversation_id": answer["conversation_id"]}
    assert text_of(await stream(http, "/completions", body)) == "Two."
    assert [m["content"] for m in llmock.last_request.body["messages"]] == ["Count!", "One.", "Go on!"]


@pytest.mark.parametrize(
    ("provider", "name", "found"),
    [
        ("openai", OPENAI, OPENAI),
        ("openai", f"openai/{OPENAI}", OPENAI),
        ("anthropic", ANTHROPIC, ANTHROPIC),
        ("anthropic", None, None),
        ("openai", None, None),
    ],
)
async def test_a_provider_is_asked(
    http: httpx2.AsyncClient, llmock: LLMock, provider: str, name: str | None, found: str | None
) -> None:
    body = CHAT if name is None else {**CHAT, "model": name}
    answer = await call(http, "POST", f"/completions/{provider}", body, expect=201)
    assert answer["provider"] == provider
    assert found in (None, answer["model"])
    assert (await record(http, answer))["max_tokens"] == 1000
    assert len(llmock.requests) == 1
    assert text_of(await stream(http, f"/completions/{provider}", {**body, "stream": True}))


@pytest.mark.parametrize("provider", ["nobody", "OpenAI", "17", "x" * 65, quote("é")])
async def test_a_provider_that_is_not_configured_is_a_422(http: httpx2.AsyncClient, provider: str) -> None:
    problem = await call(http, "POST", f"/completions/{provider}", CHAT, expect=422)
    assert problem["detail"][0]["loc"] == ["path", "provider"]


async def test_a_provider_is_not_asked_for_anothers_model(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    for provider, name in (("openai", ANTHROPIC), ("anthropic", f"openai/{OPENAI}"), ("openai", "nothing")):
        problem = await call(http, "POST", f"/completions/{provider}", {**CHAT, "model": name}, expect=404)
        assert (problem["code"], problem["model"]) == ("model_not_found", name)
    assert llmock.requests == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/models/nothing/like/it/completions", {"prompt": "x"}, 404),
        (f"/models/{OPENAI}/completions", {}, 422),
        (f"/models/{OPENAI}/completions", {"prompt": "x", "model": OPENAI}, 422),
        (f"/models/{OPENAI}/completions?stream=maybe", {"prompt": "x"}, 422),
        ("/completions", {"prompt": ""}, 422),
        ("/completions", {"prompt": "x", "max_tokens": 0}, 422),
        ("/completions", {"prompt": "x", "temperature": 2.1}, 422),
        ("/completions", {"prompt": "x", "model": "nothing"}, 404),
        ("/completions/openai", {"prompt": "x"}, 422),
        ("/completions/openai", {"messages": []}, 422),
    ],
)
async def test_what_does_not_fit_is_refused(
    http: httpx2.AsyncClient, llmock: LLMock, path: str, body: Json, status: int
) -> None:
    await call(http, "POST", path, body, expect=status)
    assert llmock.requests == []


async def test_one_key_makes_one_turn(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    paths: dict[str, Any] = {
        f"/models/{OPENAI}/completions": {"prompt": "Hello?"},
        "/completions": {"prompt": "Hello?", "model": OPENAI},
        "/completions/openai": {**CHAT, "model": OPENAI},
    }
    for number, (path, body) in enumerate(paths.items()):
        key = {"Idempotency-Key": f"turn-{number}"}
        first = await http.post(path, json=body, headers=key)
        again = await http.post(path, json=body, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert again.headers["idempotency-replayed"] == "true"
        other = await http.post(path, json={**body, "max_tokens": 3}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(llmock.requests) == len(paths)


async def test_a_removed_answer_is_gone_and_still_accounted(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("A secret.").reply("Nothing.")
    talk = (await start_talk(http, "Hello", "Hi!"))["id"]
    key = {"Idempotency-Key": "the-secret"}
    path, body = f"/conversations/{talk}/completions", {"model": OPENAI, "content": "Tell me!"}
    answer = (await http.post(path, json=body, headers=key)).json()
    where = f"/completions/{answer['completion_id']}"
    before = await call(http, "GET", where, expect=200)
    for _ in range(2):
        await call(http, "DELETE", where, expect=204)
    after = await call(http, "GET", where, expect=200)
    assert (after["content"], after["reasoning"], after["stored"]) == (None, None, False)
    same = ("id", "message_id", "status", "usage", "cost_usd", "entries", "attempts", "duration_ms")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert len(after["entries"]) == 1
    message = await call(http, "GET", f"/messages/{answer['message_id']}", expect=200)
    assert (message["content"], message["reasoning"]) == ("", None)
    assert "secret" not in (await http.get(f"{where}/stream")).text
    async with http.stream("GET", f"{where}/stream?starting_after=0") as reply:
        assert [event.data async for event in watch(reply.aiter_lines())] == ["[DONE]"]
    again = await http.post(path, json=body, headers=key)
    assert (again.status_code, "secret" in again.text) == (409, False)
    assert (await ask(http, talk, "What was it?"))["content"] == "Nothing."
    assert [m["content"] for m in llmock.last_request.body["messages"]] == ["Hello", "Hi!", "Tell me!", "What was it?"]


async def test_a_running_answer_is_not_removed(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.pace(40).reply("One two three four five six seven eight.")
    async with http.stream("POST", "/completions", json={"prompt": "Count!", "model": OPENAI, "stream": True}) as reply:
        events = watch(reply.aiter_lines())
        first = await anext(events)
        where = f"/completions/{first.data['completion_id']}"
        assert (await call(http, "DELETE", where, expect=409))["code"] == "conflict"
        rest = [event async for event in events]
    assert rest[-1].data == "[DONE]"
    assert (await call(http, "GET", where, expect=200))["content"] == "One two three four five six seven eight."
    await call(http, "DELETE", where, expect=204)


async def test_an_answer_that_was_not_stored_and_somebody_elses(people: People, llmock: LLMock) -> None:
    answer = await ask_anew(people.owner, "Hello?", store=False)
    where = f"/completions/{answer['completion_id']}"
    await call(people.other, "DELETE", where, expect=404)
    await call(people.owner, "DELETE", where, expect=204)
    assert len((await call(people.owner, "GET", where, expect=200))["entries"]) == 1
    assert len(llmock.requests) == 1


@pytest.mark.usefixtures("llmock")
async def test_a_stream_resumed_far_beyond_its_end_ends(http: httpx2.AsyncClient) -> None:
    answer = await ask_anew(http, "Hello?")
    path = f"/completions/{answer['completion_id']}/stream?starting_after={2**53 - 1}"
    async with http.stream("GET", path) as reply:
        assert [event.data async for event in watch(reply.aiter_lines())] == ["[DONE]"]
