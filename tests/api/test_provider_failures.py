"""A provider that fails: the question is kept, the error says what to do, and it can be asked again."""

from collections.abc import Callable, Iterator

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer

from tests.api.steps import OPENAI, WIRES, Json, ask, ask_anew, branch, call, check_account, start_talk, stream, text_of
from tests.conftest import MakeDatabase, admin_key_for, service_environment
from tests.servers.service import Service

ANSWER = "One two three four five six seven eight."
QUESTION = [{"role": "user", "content": "Hello?"}]


async def test_an_unknown_model_is_a_404_that_names_it(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    talk, name = await start_talk(http, "Hello"), "no-such-model"
    for method, path, body in (
        ("POST", "/chat/completions", {"messages": QUESTION}),
        ("POST", "/chat/stream", {"prompt": "x"}),
        ("POST", f"/conversations/{talk['id']}/completions", {"content": "x"}),
        ("POST", "/conversation", {"messages": QUESTION}),
        ("POST", "/conversations", {}),
        ("POST", "/users/me/conversations", {}),
        ("PATCH", f"/conversations/{talk['id']}", {"title": "Changed"}),
    ):
        problem = await call(http, method, path, {**body, "model": name}, expect=404)
        assert (problem["code"], problem["model"]) == ("model_not_found", name)
        assert name in problem["detail"]
    assert (await call(http, "GET", "/completions", expect=200))["total"] == 0
    [kept] = (await call(http, "GET", "/conversations", expect=200))["items"]
    assert (kept["model"], kept["title"]) == (None, None)
    assert len(await branch(http, talk["id"])) == 1
    # Asked at the provider is at most whether it has the model by now.
    assert {request.method for request in llmock.requests} <= {"GET"}


@pytest.mark.parametrize("model", WIRES)
@pytest.mark.parametrize("status", [401, 404, 429, 500, 503, 529])
async def test_a_failure_is_a_503_that_keeps_the_question(
    http: httpx2.AsyncClient, llmock: LLMock, status: int, model: str
) -> None:
    talk = (await start_talk(http, "Hello", "Hi!"))["id"]
    path, body = f"/conversations/{talk}/completions", {"model": model, "content": "Still there?"}
    llmock.fail(status, message="internal host db-seven")
    reply = await http.post(path, json=body)
    problem = reply.json()
    assert reply.status_code == 503, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert int(reply.headers["retry-after"]) >= 1
    assert (problem["code"], problem["conversation_id"]) == ("provider_unavailable", talk)
    assert "db-seven" not in reply.text
    record = await call(http, "GET", f"/completions/{problem['completion_id']}", expect=200)
    assert (record["status"], record["error_code"]) == ("failed", "provider_unavailable")
    assert (record["attempts"][0]["status"], record["content"]) == ("failed", "")
    assert record["usage"]["output_tokens"] == record["entries"][0]["output_tokens"] == 0
    told = [("user", "Hello"), ("assistant", "Hi!"), ("user", "Still there?")]
    assert await branch(http, talk) == [*told, ("assistant", "")]
    # Once more, in the place of the one that failed: its answer's parent's parent.
    question = await call(http, "GET", f"/messages/{problem['message_id']}", expect=200)
    before = (await call(http, "GET", f"/messages/{question['parent_id']}", expect=200))["parent_id"]
    llmock.reply("Now I am.")
    again = await call(http, "POST", path, {**body, "parent_id": before}, expect=201)
    check_account(await call(http, "GET", f"/completions/{again['completion_id']}", expect=200), model)
    assert await branch(http, talk) == [*told, ("assistant", "Now I am.")]
    assert [m["content"] for m in llmock.last_request.body["messages"]] == ["Hello", "Hi!", "Still there?"]


async def test_a_failed_answer_is_no_part_of_the_next_prompt(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.fail(500)
    problem = await call(http, "POST", "/chat/completions", {"model": OPENAI, "messages": QUESTION}, expect=503)
    await ask(http, problem["conversation_id"], "Hello again?")
    assert [m["content"] for m in llmock.last_request.body["messages"]] == ["Hello?", "Hello again?"]


async def test_the_providers_own_retry_after_is_passed_on(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.rate_limit(retry_after=7)
    reply = await http.post("/chat/completions", json={"model": OPENAI, "messages": QUESTION})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize("model", WIRES)
async def test_what_the_provider_refuses_is_a_422(http: httpx2.AsyncClient, llmock: LLMock, model: str) -> None:
    llmock.fail(400, message="This picture is not welcome.", times=None)
    problem = await call(http, "POST", "/chat/completions", {"model": model, "messages": QUESTION}, expect=422)
    assert problem["code"] == "provider_refused"
    assert "This picture is not welcome." in problem["detail"]
    record = await call(http, "GET", f"/completions/{problem['completion_id']}", expect=200)
    assert (record["status"], record["attempts"][0]["error_kind"]) == ("failed", "refused")
    assert await branch(http, problem["conversation_id"]) == [("user", "Hello?"), ("assistant", "")]


FAULTS: dict[str, Callable[[LLMock], object]] = {
    "truncated": lambda llmock: llmock.truncate(after_chunks=6),
    "cut off": lambda llmock: llmock.disconnect(after_chunks=6),
    "corrupted": lambda llmock: llmock.corrupt(after_chunks=6),
}


@pytest.mark.parametrize("model", WIRES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_stream_that_breaks_ends_with_the_problem_and_keeps_what_came(
    http: httpx2.AsyncClient, llmock: LLMock, fault: str, model: str
) -> None:
    FAULTS[fault](llmock.reply(ANSWER))
    events = await stream(http, "/chat/stream", {"model": model, "prompt": "Count!"})
    await check_broken(http, events[0].data, events[-1].name, events[-1].data, text_of(events))


@pytest.mark.parametrize("model", WIRES)
async def test_a_stream_that_never_begins_ends_with_the_problem(
    http: httpx2.AsyncClient, llmock: LLMock, model: str
) -> None:
    llmock.fail(503)
    first, last = await stream(http, "/chat/stream", {"model": model, "prompt": "Count!"})
    assert (first.name, last.name) == ("completion", "error")
    assert (last.data["status"], last.data["code"]) == (503, "provider_unavailable")
    record = await call(http, "GET", f"/completions/{first.data['completion_id']}", expect=200)
    assert (record["status"], record["content"]) == ("failed", "")
    assert await branch(http, first.data["conversation_id"]) == [("user", "Count!"), ("assistant", "")]


@pytest.fixture(scope="module")
def impatient(
    make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The address and the admin key of a service that waits for its provider for moments only."""
    with make_database("sqlite") as url:
        short = {"FIRST_BYTE": "0.4", "IDLE": "0.3", "TOTAL": "1"}
        limits = {f"EVERTURN_{name}_TIMEOUT": value for name, value in short.items()}
        key = admin_key_for(url)
        with Service(service_environment(url, llmock_server) | limits, tmp_path_factory.mktemp("impatient")) as service:
            yield service.url, key


@pytest.fixture
def hasty(impatient: tuple[str, str]) -> httpx2.AsyncClient:
    url, key = impatient
    return httpx2.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=30, verify=False)


async def test_a_stream_that_does_not_begin_in_time_fails(hasty: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.slow_first_token(2)
    async with hasty:
        first, last = await stream(hasty, "/chat/stream", {"model": OPENAI, "prompt": "Count!"})
        assert (last.name, last.data["code"]) == ("error", "provider_unavailable")
        record = await call(hasty, "GET", f"/completions/{first.data['completion_id']}", expect=200)
        assert (record["status"], record["attempts"][0]["error_kind"]) == ("failed", "timeout")


async def test_a_stream_that_stalls_keeps_what_came(hasty: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply(ANSWER).stall(after_chunks=6, seconds=2)
    async with hasty:
        events = await stream(hasty, "/chat/stream", {"model": OPENAI, "prompt": "Count!"})
        await check_broken(hasty, events[0].data, events[-1].name, events[-1].data, text_of(events))


async def test_a_stream_that_takes_too_long_in_all_keeps_what_came(hasty: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("word " * 30).pace(100)
    async with hasty:
        events = await stream(hasty, "/chat/stream", {"model": OPENAI, "prompt": "Count!"})
        assert events[-1].name == "error"
        assert 2 < len(text_of(events).split()) < 20


async def test_a_reply_that_does_not_come_in_time_is_a_503(hasty: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.delay(3)
    async with hasty:
        problem = await call(hasty, "POST", "/chat/completions", {"model": OPENAI, "messages": QUESTION}, expect=503)
        assert problem["code"] == "provider_unavailable"
        assert (await ask_anew(hasty, "Hello again?"))["status"] == "completed"


async def check_broken(client: httpx2.AsyncClient, first: Json, name: str, error: Json, text: str) -> None:
    """What a stream that broke said is what is stored, as an incomplete answer with an estimate of its usage."""
    assert (name, error["status"], error["code"]) == ("error", 503, "provider_unavailable")
    assert error["type"] == "urn:everturn:error:provider_unavailable"
    assert error["completion_id"] == first["completion_id"]
    assert text
    assert ANSWER.startswith(text)
    record = await call(client, "GET", f"/completions/{first['completion_id']}", expect=200)
    [entry] = record["entries"]
    # Anthropic counts the prompt before it answers; OpenAI counts at the end.
    counted = "partial" if first["provider"] == "anthropic" else "estimated"
    assert (record["status"], record["content"], entry["provenance"]) == ("incomplete", text, counted)
    assert record["usage"]["output_tokens"] == entry["output_tokens"] > 0
    assert await branch(client, first["conversation_id"]) == [("user", "Count!"), ("assistant", text)]
