"""Budgets and limits over HTTP: an admin sets them, and who is over them gets a 429 that says until when."""

from decimal import Decimal

import pytest
from llmock.pytest_plugin import LLMock
from sqlalchemy import text

from service.db.engine import Database
from tests.api.steps import OPENAI, Json, ask_anew, call
from tests.conftest import People, Running

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


async def test_a_turn_that_does_not_fit_is_told_what_would(people: People) -> None:
    """A thousand tokens may cost 0.002 dollars: what is left is not used up, only too little for that."""
    path, ask = f"/users/{people.owner_id}", {**ASK, "max_tokens": 1000}

    async def refused() -> Json:
        problem: Json = await call(people.owner, "POST", "/chat/completions", ask, expect=429)
        return problem

    await call(people.admin, "PATCH", path, {"budgets": {"day": "0.001"}}, expect=200)
    problem = await refused()
    assert "0.001 dollars a day is too small: this turn may use 0.002" in problem["detail"]
    assert (problem["quota"]["limit"], problem["quota"]["remaining"]) == ("0.001", "0.001")
    used = Decimal((await ask_anew(people.owner, "Hello?", max_tokens=20))["cost_usd"])
    await call(people.admin, "PATCH", path, {"budgets": {"day": "0.00201"}}, expect=200)
    problem = await refused()
    left = Decimal("0.00201") - used
    assert Decimal(problem["quota"]["remaining"]) == left
    assert f"has {left} dollars left: this turn may use 0.002" in problem["detail"]
    await call(people.admin, "PATCH", path, {"budgets": {"day": str(used)}}, expect=200)
    problem = await refused()
    assert "too small" in problem["detail"]
    await call(
        people.admin, "PATCH", path, {"budgets": {"day": None}, "limits": {"tokens_per_minute": 500}}, expect=200
    )
    problem = await refused()
    assert "500 tokens a minute is too small: this turn may use 1,0" in problem["detail"]
    await call(people.admin, "PATCH", path, {"limits": {"tokens_per_minute": None, "streams": 0}}, expect=200)
    problem = await refused()
    assert (problem["detail"], problem["quota"]["remaining"]) == ("This user's limit of 0 turns at once is used up.", 0)


NOTHING = {
    "budgets": {"day": None, "week": None, "month": None},
    "limits": {"requests_per_minute": None, "tokens_per_minute": None, "streams": None},
}


async def test_reading_what_is_left(people: People) -> None:
    path = f"/users/{people.owner_id}/limits"
    assert await call(people.owner, "GET", "/users/me/limits", expect=200) == NOTHING
    body = {"limits": {"requests_per_minute": 5, "tokens_per_minute": 9000, "streams": 2}, "budgets": {"week": "1.5"}}
    made = await call(people.admin, "PATCH", path, body, expect=200)
    assert made["limits"]["streams"] == {"limit": 2, "used": 0, "held": 0, "remaining": 2, "resets_in": None}
    answer = await ask_anew(people.owner, "One?")
    found = await call(people.owner, "GET", path, expect=200)
    assert found["limits"]["requests_per_minute"] | {"resets_in": 0} == {
        "limit": 5, "used": 1, "held": 0, "remaining": 4, "resets_in": 0,
    }  # fmt: skip
    assert 1 <= found["limits"]["requests_per_minute"]["resets_in"] <= 60
    used = answer["usage"]["input_tokens"] + answer["usage"]["output_tokens"]
    assert (found["limits"]["tokens_per_minute"]["used"], found["limits"]["tokens_per_minute"]["held"]) == (used, 0)
    week = found["budgets"]["week"]
    assert (week["limit"], week["used"], week["held"]) == ("1.5", answer["cost_usd"], "0")
    assert Decimal(week["remaining"]) == Decimal("1.5") - Decimal(answer["cost_usd"])
    assert 1 <= week["resets_in"] <= 7 * 86_400
    assert found["budgets"]["day"] is None
    await call(people.admin, "DELETE", path, expect=204)
    await call(people.admin, "DELETE", path, expect=204)
    assert await call(people.owner, "GET", path, expect=200) == NOTHING


async def test_a_keys_limits_go_to_its_heir_and_end_with_it(people: People) -> None:
    spare = await call(people.owner, "POST", "/users/me/keys", {"name": "spare"}, expect=201)
    path = f"/users/{people.owner_id}/keys/{spare['id']}/limits"
    await call(people.admin, "PATCH", path, {"limits": {"requests_per_minute": 0}}, expect=200)
    holder = {"Authorization": f"Bearer {spare['key']}"}
    refused = await people.owner.post("/chat/completions", json=ASK, headers=holder)
    assert (refused.status_code, refused.json()["quota"]["scope"]) == (429, "key")
    await ask_anew(people.owner, "With another key?")
    heir = await call(people.owner, "POST", f"/users/me/keys/{spare['id']}/rotate", {"overlap_seconds": 60}, expect=201)
    heirs = f"/users/{people.owner_id}/keys/{heir['id']}/limits"
    assert (await call(people.owner, "GET", heirs, expect=200))["limits"]["requests_per_minute"]["limit"] == 0
    await call(people.owner, "DELETE", f"/users/me/keys/{heir['id']}", expect=204)
    assert await call(people.owner, "GET", heirs, expect=200) == NOTHING
    assert (await call(people.owner, "GET", path, expect=200)) != NOTHING
    await call(people.admin, "GET", f"/users/{people.other_id}/keys/{spare['id']}/limits", expect=404)
    await call(people.admin, "PATCH", f"/users/{people.other_id}/keys/{spare['id']}/limits", {}, expect=404)


async def test_limits_of_nobody(people: People) -> None:
    for path in (f"/users/{2**53 - 1}/limits", f"/users/{people.owner_id}/keys/{2**53 - 1}/limits"):
        await call(people.admin, "GET", path, expect=404)
        await call(people.admin, "PATCH", path, {"limits": {"streams": 1}}, expect=404)
        await call(people.admin, "DELETE", path, expect=404)
    await call(people.admin, "PATCH", f"/users/{people.owner_id}/limits", {"limits": {"hour": 1}}, expect=422)
    await call(people.admin, "PATCH", "/limits", {"role": "admin"}, expect=422)


async def test_with_a_user_go_their_limits(people: People, running_service: Running) -> None:
    key = await call(people.owner, "POST", "/users/me/keys", {"name": "spare"}, expect=201)
    for path in ("/limits", f"/keys/{key['id']}/limits"):
        path = f"/users/{people.owner_id}{path}"
        await call(people.admin, "PATCH", path, {"limits": {"streams": 1}}, expect=200)
    await call(people.admin, "DELETE", f"/users/{people.owner_id}", expect=200)
    database = Database(running_service.database_url)
    async with database.reading() as connection:
        query = text("SELECT scope FROM limits WHERE (scope, subject_id) IN (('user', :user), ('key', :key))")
        found = (await connection.execute(query, {"user": people.owner_id, "key": key["id"]})).all()
    await database.close()
    assert found == []


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
