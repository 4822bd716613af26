"""Completions over HTTP: what reaches the provider, what is stored of it, and what is refused."""

from decimal import Decimal

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Reply

from tests.api.steps import (
    ANTHROPIC,
    OPENAI,
    Json,
    ask,
    ask_anew,
    branch,
    call,
    check_account,
    ended,
    start_talk,
    watch,
)
from tests.conftest import People
from tests.patience import until


async def test_a_reply_says_all_that_a_caller_needs(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("The capital of France is Paris.")
    body = {"model": OPENAI, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    reply = await http.post("/chat/completions", json=body)
    answer = reply.json()
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/completions/{answer['completion_id']}"
    assert answer["id"] == f"msg_{answer['message_id']}"
    assert (answer["status"], answer["finish_reason"], answer["warnings"]) == ("completed", "stop", [])
    # llmock counts four characters a token: 30 in, 31 out, at one and two dollars a million.
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (7, 7)
    assert Decimal(answer["cost_usd"]) == Decimal("0.000021")
    record = await call(http, "GET", reply.headers["location"], expect=200)
    check_account(record, OPENAI)
    assert record["usage"] == answer["usage"]
    assert (record["temperature"], record["max_tokens"], record["streamed"]) == (0.7, 1000, False)
    assert record["duration_ms"] >= 0
    assert record["finished_at"] >= record["created_at"]


@pytest.mark.parametrize(
    ("model", "limit"), [(OPENAI, ("max_tokens", "max_completion_tokens")), (ANTHROPIC, ("max_tokens",))]
)
async def test_the_parameters_reach_the_provider_and_the_record(
    http: httpx2.AsyncClient, llmock: LLMock, model: str, limit: tuple[str, ...]
) -> None:
    wanted = {"temperature": 0.25, "max_tokens": 77, "top_p": 0.5, "stop": ["END"]}
    answer = await ask_anew(http, "Hello?", model=model, **wanted)
    sent = llmock.last_request.body
    assert (sent["model"], sent["temperature"], sent["top_p"]) == (model, 0.25, 0.5)
    assert [sent[name] for name in limit if name in sent] == [77]
    assert sent["stop_sequences" if model == ANTHROPIC else "stop"] == ["END"]
    record = await call(http, "GET", f"/completions/{answer['completion_id']}", expect=200)
    assert (record["temperature"], record["max_tokens"]) == (0.25, 77)
    assert record["parameters"] == {"top_p": 0.5, "stop": ["END"]}


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
async def test_the_system_prompt_reaches_the_provider(http: httpx2.AsyncClient, llmock: LLMock, model: str) -> None:
    talk = (await start_talk(http, "Hello", "Hi!", system_prompt="Speak like a pirate."))["id"]
    await ask(http, talk, "And now?", model=model)
    sent = llmock.last_request.body
    told = [message["content"] for message in sent["messages"]]
    if model == ANTHROPIC:
        assert "Speak like a pirate." in str(sent["system"])
        assert told == ["Hello", "Hi!", "And now?"]
    else:
        assert told == ["Speak like a pirate.", "Hello", "Hi!", "And now?"]
        assert sent["messages"][0]["role"] in ("system", "developer")
    assert len(await branch(http, talk)) == 4


async def test_the_model_is_the_requests_or_the_conversations_or_the_default(
    http: httpx2.AsyncClient, llmock: LLMock
) -> None:
    talk = (await call(http, "POST", "/conversations", {"model": ANTHROPIC}, expect=201))["id"]
    body = {"content": "Hello?"}
    path = f"/conversations/{talk}/completions"
    assert (await call(http, "POST", path, body, expect=201))["model"] == ANTHROPIC
    assert (await call(http, "POST", path, {**body, "model": OPENAI}, expect=201))["model"] == OPENAI
    asked = {"messages": [{"role": "user", "content": "Hello?"}]}
    default = (await call(http, "POST", "/chat/completions", asked, expect=201))["model"]
    assert (await call(http, "GET", f"/models/{default}", expect=200))["provider"] == "openai"
    assert [request.model for request in llmock.requests] == [ANTHROPIC, OPENAI, default]


async def test_history_that_does_not_fit_is_trimmed_and_said(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    words = "word " * 40
    talk = (await start_talk(http, words + "1", words + "2", "short", "Hi!", system_prompt="Be kind."))["id"]
    answer = await ask(http, talk, "And now?", model="small", max_tokens=120)
    told = [message["content"] for message in llmock.last_request.body["messages"]]
    assert told == ["Be kind.", words + "2", "short", "Hi!", "And now?"]
    [warning] = answer["warnings"]
    assert warning.startswith("The 1 oldest messages do not fit")
    record = await call(http, "GET", f"/completions/{answer['completion_id']}", expect=200)
    assert (record["warnings"], record["cost_usd"]) == ([warning], "0")
    assert len(await branch(http, talk)) == 6


async def test_without_store_only_the_record_and_the_ledger_stay(people: People, llmock: LLMock) -> None:
    llmock.reply("Nobody will know.")
    answer = await ask_anew(people.owner, "A secret?", store=False)
    assert answer["id"] == f"cmpl_{answer['completion_id']}"
    assert (answer["content"], answer["message_id"], answer["conversation_id"]) == ("Nobody will know.", None, None)
    record = await call(people.owner, "GET", f"/completions/{answer['completion_id']}", expect=200)
    check_account(record, OPENAI)
    assert (record["stored"], record["content"]) == (False, None)
    receipt = await call(people.admin, "DELETE", f"/users/{people.owner_id}", expect=200)
    assert receipt["kept"] == {"ledger_entries": 1}
    assert receipt["erased"]["messages"] == receipt["erased"]["conversations"] == 0


@pytest.mark.slow
@pytest.mark.other
@pytest.mark.usefixtures("llmock")
async def test_without_store_the_journal_keeps_no_text(people: People) -> None:
    """It is kept for the seconds that followers need."""
    made = await ask_anew(people.owner, "A secret?", store=False)

    async def forgotten() -> bool:
        replayed = await people.owner.get(f"/completions/{made['completion_id']}/stream?starting_after=0")
        return "token" not in replayed.text

    await until(forgotten, "the journal to forget the answer")
    receipt = await call(people.admin, "DELETE", f"/users/{people.owner_id}", expect=200)
    assert receipt["erased"]["events"] == 0


async def test_a_turn_of_a_conversation_is_always_stored(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    talk = (await start_talk(http))["id"]
    body = {"messages": [{"role": "user", "content": "x"}], "conversation_id": talk, "store": False}
    problem = await call(http, "POST", "/chat/completions", body, expect=422)
    assert problem["detail"][0]["loc"] == ["body", "store"]
    assert llmock.requests == []


async def test_a_second_question_meets_the_running_answer(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.pace(40).reply("One two three four five six seven eight nine ten.")
    talk = (await start_talk(http, "Hello", "Hi!"))["id"]
    path, body = f"/conversations/{talk}/completions", {"model": OPENAI, "content": "Count!", "on_conflict": "reject"}
    async with http.stream("POST", path, json={**body, "stream": True}) as reply:
        events = watch(reply.aiter_lines())
        first = await anext(events)
        assert reply.headers["everturn-completion-id"] == str(first.data["completion_id"])
        for question in (body, {**body, "parent_id": first.data["message_id"]}):
            problem = await call(http, "POST", path, question, expect=409)
            assert problem["code"] == "conversation_busy"
        rest = [event async for event in events]
    assert rest[-1].data == "[DONE]"
    assert [content for _, content in await branch(http, talk)][2:] == [
        "Count!",
        "One two three four five six seven eight nine ten.",
    ]
    await ask(http, talk, "Thanks.")
    assert len(llmock.requests) == 2


async def test_another_branch_can_be_asked_meanwhile(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.pace(30).reply("One two three four five six.").reply("Beside.")
    made = await start_talk(http, "Hello", "Hi!")
    path, body = f"/conversations/{made['id']}/completions", {"model": OPENAI, "content": "Count!"}
    async with http.stream("POST", path, json={**body, "stream": True}) as reply:
        first = await anext(watch(reply.aiter_lines()))
        beside = await ask(http, made["id"], "Or else?", parent_id=made["active_leaf_id"])
        assert beside["content"] == "Beside."
    await ended(http, f"/completions/{first.data['completion_id']}")
    page = await call(http, "GET", f"/conversations/{made['id']}/messages?branch=all", expect=200)
    assert page["total"] == 6
    assert {one["status"] for one in page["items"]} == {"completed"}


async def test_a_stale_parent_becomes_a_sibling(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("First.").reply("Second.")
    made = await start_talk(http, "Hello", "Hi!")
    first = await ask(http, made["id"], "One?", parent_id=made["active_leaf_id"])
    second = await ask(http, made["id"], "Two?", parent_id=made["active_leaf_id"])
    assert await branch(http, made["id"]) == [
        ("user", "Hello"), ("assistant", "Hi!"), ("user", "Two?"), ("assistant", "Second."),
    ]  # fmt: skip
    assert (await call(http, "GET", f"/messages/{first['message_id']}", expect=200))["content"] == "First."
    assert [m["content"] for m in llmock.last_request.body["messages"]] == ["Hello", "Hi!", "Two?"]
    assert second["conversation_id"] == made["id"]


async def test_an_answer_cut_by_its_length_is_incomplete(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.add(Reply(text="Half an", finish_reason="length"))
    answer = await ask_anew(http, "Hello?")
    assert (answer["status"], answer["finish_reason"], answer["content"]) == ("incomplete", "length", "Half an")
    message = await call(http, "GET", f"/messages/{answer['message_id']}", expect=200)
    assert message["status"] == "incomplete"


@pytest.mark.usefixtures("llmock")
async def test_a_model_without_a_price_costs_null_and_not_zero(http: httpx2.AsyncClient) -> None:
    answer = await ask_anew(http, "Hello?", model="unpriced")
    assert answer["cost_usd"] is None
    record = await call(http, "GET", f"/completions/{answer['completion_id']}", expect=200)
    assert record["entries"][0]["cost_usd"] is None
    assert record["usage"]["input_tokens"] > 0


@pytest.mark.usefixtures("llmock")
async def test_records_are_chosen_by_what_they_hold(people: People) -> None:
    one = await ask_anew(people.owner, "Hello?", temperature=0.1, max_tokens=10)
    two = await ask_anew(people.owner, "Hello?", model=ANTHROPIC, temperature=0.2, max_tokens=20)
    three = await ask_anew(people.other, "Hello?")
    stamps: Json = await call(people.owner, "GET", f"/completions/{two['completion_id']}", expect=200)
    at = httpx2.QueryParams({"since": stamps["created_at"]})
    queries = {
        f"model={OPENAI}": [one],
        "provider=anthropic": [two],
        "temperature=0.1": [one],
        "max_tokens=20": [two],
        "status=completed&sort=oldest": [one, two],
        "status=failed": [],
        f"conversation_id={one['conversation_id']}": [one],
        f"{at}": [two],
        str(at).replace("since", "until"): [one],
    }
    for query, expected in queries.items():
        page = await call(people.owner, "GET", f"/completions?{query}", expect=200)
        assert [item["id"] for item in page["items"]] == [item["completion_id"] for item in expected], query
        assert page["total"] == len(expected)
    everybody = await call(people.admin, "GET", "/completions?limit=3", expect=200)
    assert [item["id"] for item in everybody["items"]] == [item["completion_id"] for item in (three, two, one)]
    others = await call(people.admin, "GET", f"/completions?user_id={people.other_id}", expect=200)
    assert [item["id"] for item in others["items"]] == [three["completion_id"]]
    await call(people.owner, "GET", f"/completions?user_id={people.other_id}", expect=403)
    assert (await call(people.owner, "GET", f"/completions?user_id={people.owner_id}", expect=200))["total"] == 2
