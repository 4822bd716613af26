"""Budgets and limits over HTTP: an admin sets them, and who is over them gets a 429 that says until when."""

import pytest
from llmock.pytest_plugin import LLMock

from tests.api.steps import OPENAI, ask_anew, call
from tests.conftest import People

pytestmark = pytest.mark.usefixtures("llmock")
ASK = {"model": OPENAI, "messages": [{"role": "user", "content": "Hello?"}]}


async def test_a_limit_of_requests(people: People) -> None:
    path = f"/users/{people.owner_id}"
    await call(people.admin, "PATCH", path, {"limits": {"requests_per_minute": 1}}, expect=200)
    await call(people.owner, "PATCH", path, {"limits": {}}, expect=403)
    answer = await people.owner.post("/chat/completions", json=ASK)
    assert answer.status_code == 201
    assert answer.headers["ratelimit-policy"] == '"user-requests";q=1;w=60'
    assert answer.headers["ratelimit"] == '"user-requests";r=0;t=60'
    assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("1", "0")
    refused = await people.owner.post("/chat/completions", json=ASK)
    assert refused.status_code == 429
    body = refused.json()
    assert (body["code"], body["quota"]["name"]) == ("limit_exceeded", "requests a minute")
    assert (refused.headers["ratelimit-limit"], refused.headers["ratelimit-remaining"]) == ("1", "0")
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["ratelimit-reset"] == refused.headers["retry-after"]
    assert refused.headers["ratelimit"] == f'"user-requests";r=0;t={refused.headers["retry-after"]}'
    streamed = await people.owner.post("/chat/completions/stream", json=ASK)
    assert streamed.status_code == 429
    # Nothing was stored of it, and another user is not touched.
    assert (await call(people.owner, "GET", "/completions", expect=200))["total"] == 1
    await ask_anew(people.other, "Two?")
    await call(people.admin, "PATCH", path, {"limits": {"requests_per_minute": None}}, expect=200)
    await ask_anew(people.owner, "Three?")


async def test_each_answer_of_a_limited_turn_has_the_headers(people: People, llmock: LLMock) -> None:
    path = f"/users/{people.owner_id}"
    limits = {"limits": {"requests_per_minute": 9, "streams": 5}, "budgets": {"day": "2.5"}}
    await call(people.admin, "PATCH", path, limits, expect=200)
    policy = (
        '"user-requests";q=9;w=60, "user-streams";q=5;qu="concurrent-requests", '
        '"user-usd-per-day";q=2500000;qu="micro-usd";w=86400'
    )

    async def left(path: str, body: object, expect: int, **headers: str) -> str:
        reply = await people.owner.post(path, json=body, headers=headers)
        assert (reply.status_code, reply.headers["ratelimit-policy"]) == (expect, policy), reply.text
        return str(reply.headers["ratelimit"].partition(";t")[0])

    assert await left("/chat/completions", ASK, 201) == '"user-requests";r=8'
    named = {"Idempotency-Key": "once"}
    assert await left("/chat/completions/stream", ASK, 200, **named) == '"user-requests";r=7'
    # A replay takes nothing more.
    assert await left("/chat/completions/stream", ASK, 200, **named) == '"user-requests";r=7'
    assert await left("/models/small/completions", {"prompt": "Hi", "max_tokens": 5}, 201) == '"user-requests";r=6'
    compared = {"models": [OPENAI, "small"], "messages": ASK["messages"], "max_tokens": 5}
    assert await left("/compare-providers", compared, 201) == '"user-requests";r=4'
    llmock.fail(500)
    assert await left("/chat/completions", ASK, 503) == '"user-requests";r=3'
    reply = await people.owner.get("/conversations")
    assert "ratelimit" not in reply.headers
    assert "ratelimit" not in (await people.other.post("/chat/completions", json=ASK)).headers


async def test_an_empty_budget_lets_free_models_pass(people: People) -> None:
    await call(people.admin, "PATCH", f"/users/{people.owner_id}", {"budgets": {"month": "0"}}, expect=200)
    refused = await people.owner.post("/chat/completions", json=ASK)
    assert (refused.status_code, refused.json()["quota"]["limit"]) == (429, "0")
    await ask_anew(people.owner, "Free?", model="small", max_tokens=20)


@pytest.mark.parametrize(
    "body",
    [
        {"budgets": {"day": -1}},
        {"budgets": {"year": 1}},
        {"budgets": {"day": "much"}},
        {"budgets": {"day": "0.0000000001"}},
        {"limits": {"streams": -1}},
        {"limits": {"streams": 2**40}},
        {"limits": {"requests_per_minute": 1.5}},
    ],
)
async def test_a_limit_that_cannot_be(people: People, body: object) -> None:
    await call(people.admin, "PATCH", f"/users/{people.owner_id}", body, expect=422)
