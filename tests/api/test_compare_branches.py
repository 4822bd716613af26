"""Which branch a comparison leaves active: the first, in the order asked, that gave an answer."""

import asyncio

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Delay, Fail, Match

from tests.api.steps import ANTHROPIC, OPENAI, Json, ask, call
from tests.api.test_compare import PATH, QUESTION, compare, running, until

MODELS = (ANTHROPIC, OPENAI, "unpriced")


async def active(client: httpx2.AsyncClient, talk: int) -> tuple[int, str]:
    """The active leaf of a conversation and the model that goes on with it."""
    found = await call(client, "GET", f"/conversations/{talk}", expect=200)
    return found["active_leaf_id"], found["model"]


async def becomes_active(client: httpx2.AsyncClient, talk: int, expected: tuple[int, str]) -> None:
    """Where the comparison may just be beginning: its last step makes the preferred one active."""

    async def is_so() -> bool:
        return await active(client, talk) == expected

    await until(is_so)


def fail(llmock: LLMock, *models: str) -> None:
    llmock.add(*(Fail(400, match=Match(model=model)) for model in models))


@pytest.mark.parametrize(
    ("failing", "chosen"),
    [((), 0), (MODELS[:1], 1), (MODELS[:2], 2), (MODELS[1:2], 0), (MODELS, 0)],
    ids=["none", "first", "first two", "second", "all"],
)
async def test_the_first_that_answers_is_active(
    http: httpx2.AsyncClient, llmock: LLMock, failing: tuple[str, ...], chosen: int
) -> None:
    fail(llmock, *failing)
    made = await compare(http, *MODELS)
    assert [one["model"] for one in made["results"] if one["error"]] == list(failing)
    best = made["results"][chosen]
    assert await active(http, made["conversation_id"]) == (best["message_id"], best["model"])
    record = await call(http, "GET", f"/completions/{best['completion_id']}", expect=200)
    assert record["parameters"] == {"compared": chosen}


async def test_one_that_may_still_answer_is_waited_for(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    """Then the conversation is busy, as it is while the first one is at work; should it say nothing, the next is it."""
    fail(llmock, ANTHROPIC)
    llmock.add(Delay(30.0, match=Match(model=OPENAI)))
    comparing = asyncio.create_task(compare(http, *MODELS))
    slow = await running(http, model=OPENAI)
    talk = slow["conversation_id"]
    await until(lambda: _is_so(http, f"model={ANTHROPIC}&status=failed"))
    await until(lambda: _is_so(http, "model=unpriced&status=completed"))
    await becomes_active(http, talk, (slow["message_id"], OPENAI))
    busy = await http.post(f"/conversations/{talk}/completions", json={"content": "And?"})
    assert (busy.status_code, busy.json()["code"]) == (409, "conversation_busy")
    await call(http, "POST", f"/completions/{slow['id']}/cancel", {}, expect=200)
    last = (await comparing)["results"][2]
    assert await active(http, talk) == (last["message_id"], "unpriced")
    answer = await ask(http, talk, "And?")
    told = await call(http, "GET", f"/messages/{answer['message_id']}", expect=200)
    question = await call(http, "GET", f"/messages/{told['parent_id']}", expect=200)
    assert question["parent_id"] == last["message_id"]


@pytest.mark.parametrize("meanwhile", ["nothing", "picked", "sent"])
async def test_one_that_is_cancelled_without_a_word_is_passed_over_unless_somebody_went_on(
    http: httpx2.AsyncClient, llmock: LLMock, meanwhile: str
) -> None:
    llmock.add(Delay(30.0, match=Match(model=ANTHROPIC)))
    comparing = asyncio.create_task(compare(http, *MODELS))
    silent = await running(http, model=ANTHROPIC)
    talk = silent["conversation_id"]
    answers: dict[str, Json] = {}

    async def others_answered() -> bool:
        page = await call(http, "GET", f"/completions?status=completed&conversation_id={talk}", expect=200)
        answers.update({one["model"]: one for one in page["items"]})
        return len(answers) == 2

    await until(others_answered)
    await becomes_active(http, talk, (silent["message_id"], ANTHROPIC))
    last = answers["unpriced"]["message_id"]
    expected = (answers[OPENAI]["message_id"], OPENAI)
    if meanwhile == "picked":
        await call(http, "POST", f"/conversations/{talk}/activate", {"message_id": last}, expect=200)
        expected = (last, ANTHROPIC)
    elif meanwhile == "sent":
        sent = {"role": "user", "content": "I go on here.", "parent_id": last}
        made = await call(http, "POST", f"/conversations/{talk}/messages", sent, expect=201)
        expected = (made["id"], ANTHROPIC)
    await call(http, "POST", f"/completions/{silent['id']}/cancel", {}, expect=200)
    await comparing
    assert await active(http, talk) == expected


async def test_another_answer_that_fails_is_no_comparison(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    made = await compare(http, *MODELS)
    talk = made["conversation_id"]
    fail(llmock, OPENAI)
    problem = await call(http, "POST", f"/conversations/{talk}/regenerate", {"model": OPENAI}, expect=422)
    assert (await active(http, talk))[0] == problem["message_id"]


async def test_the_same_key_later_moves_nothing(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    fail(llmock, ANTHROPIC)
    body, key = {"messages": QUESTION, "models": MODELS}, {"Idempotency-Key": "twice"}
    made = (await http.post(PATH, json=body, headers=key)).json()
    talk, last = made["conversation_id"], made["results"][2]["message_id"]
    await call(http, "POST", f"/conversations/{talk}/activate", {"message_id": last}, expect=200)
    again = await http.post(PATH, json=body, headers=key)
    assert (again.status_code, again.json()["conversation_id"]) == (201, talk)
    assert (await active(http, talk))[0] == last


async def _is_so(client: httpx2.AsyncClient, query: str) -> bool:
    page = await call(client, "GET", f"/completions?{query}", expect=200)
    return bool(page["total"])
