"""Budgets and limits over two workers: nothing passes over them, whatever is killed, changed or wrong meanwhile."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from tests.api.steps import Json, call
from tests.patience import until
from tests.servers.provider import Plan
from tests.servers.service import Service
from tests.servers.workers import Two
from tests.workers.conftest import bearer
from tests.workers.steps import chat, opened, resume

STREAM, CHAT = "/chat/completions/stream", "/chat/completions"
# A prompt of 10 bytes is estimated at 3 + 4 tokens, the provider counts one: with 93 for the answer a turn holds 100
# tokens at 1,000 nano-dollars each, and uses as many where it says 99 words.
HELD, WORDS = 93, 99
TOKENS, NANO = 100, 100_000
TEN = "0.001"
AN_HOUR = 3600.0


@pytest.fixture
async def admin(two: Two) -> AsyncIterator[httpx2.AsyncClient]:
    key = bearer(two.pair.admin_key)
    async with httpx2.AsyncClient(base_url=two.two.url, headers=key, timeout=30, verify=False) as client:
        yield client


@pytest.fixture
async def astray(two: Two, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """The user at a third worker, whose clock is an hour fast."""
    command = (sys.executable, "-m", "tests.servers.astray", str(AN_HOUR), "serve")
    environment = {name: value for name, value in two.one.environment.items() if name.startswith("EVERTURN_")}
    own = {name: value for name, value in environment.items() if name not in ("EVERTURN_PORT", "EVERTURN_DATA_DIR")}
    service = Service(own, tmp_path, command=command)
    await asyncio.to_thread(service.start)
    try:
        headers = {"Authorization": two.here.headers["Authorization"]}
        async with httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=30, verify=False) as client:
            yield client
    finally:
        await asyncio.to_thread(service.kill)


async def limit(admin: httpx2.AsyncClient, two: Two, **body: Json) -> Json:
    made: Json = await call(admin, "PATCH", f"/users/{two.user_id}/limits", body, expect=200)
    return made


async def send(
    clients: Sequence[httpx2.AsyncClient], plan: Plan, times: int, **fields: object
) -> list[httpx2.Response]:
    """The same question so many times at once, turn and turn about at these workers."""
    body = chat(plan, max_tokens=HELD, **fields)
    return await asyncio.gather(*(clients[n % len(clients)].post(CHAT, json=body) for n in range(times)))


def refused(replies: Sequence[httpx2.Response], name: str) -> list[httpx2.Response]:
    """Those over a limit, each of which says which and until when; all others were answered."""
    over = [one for one in replies if one.status_code == 429]
    assert {one.status_code for one in replies if one not in over} <= {201}
    for one in over:
        problem, headers = one.json(), one.headers
        assert (problem["code"], problem["quota"]["name"]) == ("limit_exceeded", name)
        assert int(headers["retry-after"]) == problem["quota"]["reset"] >= 1
        assert ";r=0" in headers["ratelimit"]
        assert headers["ratelimit-policy"].startswith('"user-')
    return over


async def spent(two: Two) -> int:
    rows = await two.rows("SELECT coalesce(sum(cost_nano), 0) FROM ledger_entries WHERE user_id = :user")
    return int(rows[0][0])


async def unsettled(two: Two) -> int:
    rows = await two.rows("SELECT count(*) FROM holds WHERE user_id = :user AND settled_at IS NULL")
    return int(rows[0][0])


async def test_two_hundred_at_once_spend_no_dollar_more_than_the_budget_for_ten(
    two: Two, admin: httpx2.AsyncClient
) -> None:
    await limit(admin, two, budgets={"day": TEN})
    plan = two.plan(words=WORDS)
    replies = await send(two.clients, plan, 200)
    over = refused(replies, "a day")
    assert len(over) == 190
    # Each answer that came is a turn, a call and an entry; of those that did not there is nothing.
    assert len(plan.calls) == 10
    assert await spent(two) == 10 * NANO
    entries = await call(two.here, "GET", "/usage/entries", expect=200)
    assert {entry["cost_usd"] for entry in entries["items"]} == {"0.0001"}
    totals = [
        (await call(two.there, "GET", path, expect=200))["total"]
        for path in ("/completions", "/conversations", "/usage/entries")
    ]
    assert totals == [10, 10, 10]
    assert await unsettled(two) == 0
    left = (await call(two.there, "GET", "/users/me/limits", expect=200))["budgets"]["day"]
    assert (left["used"], left["held"], left["remaining"]) == (TEN, "0", "0")
    # Now that nothing is held any more the day has to end; its end is the same for both workers.
    later = refused(await send(two.clients, plan, 2), "a day")
    midnight = 86_400 - (datetime.now(UTC).timestamp() % 86_400)
    assert [abs(int(one.headers["retry-after"]) - midnight) <= 10 for one in later] == [True, True]


async def test_what_a_killed_worker_held_is_settled_once_with_what_was_used(
    two: Two, admin: httpx2.AsyncClient
) -> None:
    await limit(admin, two, budgets={"month": "0.0001"}, limits={"streams": 1})
    plan = two.plan(words=20, hold_after=5)
    async with opened(two.here, STREAM, chat(plan, max_tokens=HELD), words=5) as stream:
        assert len(refused(await send((two.there,), plan, 1), "a month")) == 1
        assert len(refused(await send((two.there,), plan, 1, model="free"), "turns at once")) == 1
        await asyncio.to_thread(two.one.kill)
    # The hold outlives its worker: until the turn is settled nobody else may spend what it may still cost.
    assert await unsettled(two) == 1
    await resume(two.there, stream.completion_id)
    assert await unsettled(two) == 0
    record = await call(two.there, "GET", f"/completions/{stream.completion_id}", expect=200)
    assert (record["status"], len(record["entries"])) == ("incomplete", 1)
    cost = await spent(two)
    assert 0 < cost < NANO
    left = (await call(two.there, "GET", "/users/me/limits", expect=200))["budgets"]["month"]
    assert (left["held"], left["used"]) == ("0", record["cost_usd"])
    assert len(refused(await send((two.there,), plan, 1), "a month")) == 1
    await limit(admin, two, budgets={"month": "0.0002"})
    plan.go()
    assert (await send((two.there,), plan, 1))[0].status_code == 201


async def test_a_turn_that_is_run_again_holds_once(two: Two, admin: httpx2.AsyncClient) -> None:
    await limit(admin, two, budgets={"day": TEN}, limits={"requests_per_minute": 2})
    plan = two.plan(words=WORDS, hold_after=0)
    async with opened(two.here, STREAM, chat(plan, max_tokens=HELD)) as stream:
        await plan.asked()
        await asyncio.to_thread(two.one.kill)
    await plan.asked(2)
    left = (await call(two.there, "GET", "/users/me/limits", expect=200))["budgets"]["day"]
    assert (left["held"], left["used"]) == ("0.0001", "0")
    plan.go()
    await resume(two.there, stream.completion_id)
    assert (await unsettled(two), await spent(two)) == (0, NANO)
    found = await call(two.there, "GET", "/users/me/limits", expect=200)
    assert found["limits"]["requests_per_minute"]["used"] == 1


async def test_requests_a_minute(two: Two, admin: httpx2.AsyncClient) -> None:
    await limit(admin, two, limits={"requests_per_minute": 7})
    plan = two.plan(words=1)
    replies = await send(two.clients, plan, 40)
    assert len(refused(replies, "requests a minute")) == 33
    assert {int(one.headers["retry-after"]) > 30 for one in replies if one.status_code == 429} == {True}
    lefts = sorted(one.headers["ratelimit-remaining"] for one in replies if one.status_code == 201)
    assert lefts == ["0", "1", "2", "3", "4", "5", "6"]


async def test_tokens_a_minute(two: Two, admin: httpx2.AsyncClient) -> None:
    await limit(admin, two, limits={"tokens_per_minute": 10 * TOKENS})
    plan = two.plan(words=WORDS)
    assert len(refused(await send(two.clients, plan, 40), "tokens a minute")) == 30
    # All is charged now: there is room once the oldest charge is a minute old.
    (late,) = refused(await send((two.there,), plan, 1), "tokens a minute")
    assert 30 < int(late.headers["retry-after"]) <= 60


async def test_turns_at_once(two: Two, admin: httpx2.AsyncClient) -> None:
    await limit(admin, two, limits={"streams": 3})
    plan = two.plan(words=1, hold_after=0)
    sent = [asyncio.create_task(one) for one in (_one(client, plan) for client in [*two.clients] * 10)]

    async def others_are_refused() -> bool:
        return sum(task.done() for task in sent) == 17

    await until(others_are_refused, "all but three to be answered")
    await plan.asked(3)
    assert [task.result().status_code for task in sent if task.done()] == [429] * 17
    plan.go()
    replies = await asyncio.gather(*sent)
    assert len(refused(replies, "turns at once")) == 17
    assert len(plan.calls) == 3
    assert (await _one(two.there, plan)).status_code == 201


async def _one(client: httpx2.AsyncClient, plan: Plan) -> httpx2.Response:
    return await client.post(CHAT, json=chat(plan, max_tokens=HELD))


async def test_one_key_at_two_workers_takes_the_last_of_a_limit_once(two: Two, admin: httpx2.AsyncClient) -> None:
    await limit(admin, two, limits={"requests_per_minute": 1})
    plan = two.plan(words=3)
    headers = {"Idempotency-Key": plan.question}
    sent = (client.post(CHAT, json=chat(plan), headers=headers) for client in [*two.clients] * 5)
    replies = await asyncio.gather(*sent)
    assert {(one.status_code, one.json()["content"]) for one in replies} == {(201, plan.answer)}
    assert len(plan.calls) == 1


async def test_what_costs_nothing_passes_an_empty_budget(two: Two, admin: httpx2.AsyncClient) -> None:
    """So does what nobody knows the price of, as the documentation says; a limit of tokens binds both."""
    await limit(admin, two, budgets={"day": "0"})
    plan = two.plan(words=2)
    assert len(refused(await send(two.clients, plan, 2), "a day")) == 2
    for model in ("free", "unpriced"):
        assert [one.status_code for one in await send(two.clients, plan, 4, model=model)] == [201] * 4
    assert await spent(two) == 0
    await limit(admin, two, limits={"tokens_per_minute": 30})
    for model in ("free", "unpriced"):
        assert len(refused(await send(two.clients, plan, 2, model=model), "tokens a minute")) == 2
    # A fallback that costs something makes the turn cost something.
    await limit(admin, two, limits={"tokens_per_minute": None})
    assert len(refused(await send(two.clients, plan, 2, model="free", fallbacks=["slow"]), "a day")) == 2


async def test_limits_change_while_turns_run(two: Two, admin: httpx2.AsyncClient) -> None:
    await limit(admin, two, limits={"streams": 1})
    plan = two.plan(words=3, hold_after=1)
    async with opened(two.here, STREAM, chat(plan), words=1) as first:
        assert len(refused(await send(two.clients, plan, 2), "turns at once")) == 2
        await limit(admin, two, limits={"streams": 2})
        async with opened(two.there, STREAM, chat(plan), words=1) as second:
            await limit(admin, two, limits={"streams": 0})
            assert len(refused(await send(two.clients, plan, 2), "turns at once")) == 2
            await call(admin, "DELETE", f"/users/{two.user_id}/limits", expect=204)
            plan.go()
            for stream in (first, second):
                assert (await stream.rest()).endswith(b"data: [DONE]\n\n")
    assert await unsettled(two) == 0


async def test_a_key_that_is_deleted_while_it_holds(two: Two, admin: httpx2.AsyncClient) -> None:
    key = await call(two.here, "POST", "/users/me/keys", {"name": "short-lived"}, expect=201)
    path = f"/users/{two.user_id}/keys/{key['id']}"
    await call(admin, "PATCH", f"{path}/limits", {"limits": {"streams": 1}}, expect=200)
    await limit(admin, two, budgets={"day": "0.0001"})
    plan = two.plan(words=WORDS, hold_after=1)
    holder = {"Authorization": f"Bearer {key['key']}"}
    async with opened(two.here, STREAM, chat(plan, max_tokens=HELD), words=1, headers=holder) as stream:
        await call(two.here, "DELETE", path, expect=204)
        # What it holds still counts for its owner.
        assert len(refused(await send(two.clients, plan, 2), "a day")) == 2
        plan.go()
        assert (await stream.rest()).endswith(b"data: [DONE]\n\n")
    assert (await unsettled(two), await spent(two)) == (0, NANO)
    assert await two.rows("SELECT 1 FROM limits WHERE scope = 'key' AND subject_id = :key", key=key["id"]) == []


async def test_a_workers_wrong_clock_counts_for_nothing(
    two: Two, admin: httpx2.AsyncClient, astray: httpx2.AsyncClient
) -> None:
    await limit(admin, two, limits={"requests_per_minute": 3}, budgets={"day": "1"})
    plan = two.plan(words=1)
    clients = (two.here, astray, two.there)
    assert [one.status_code for one in await send(clients, plan, 3)] == [201] * 3
    # An hour later all would be free again.
    late = refused(await send(clients, plan, 3), "requests a minute")
    assert len(late) == 3
    assert {30 < int(one.headers["retry-after"]) <= 60 for one in late} == {True}
    resets = {one.headers["ratelimit"].rpartition(";t=")[2] for one in late}
    assert max(map(int, resets)) - min(map(int, resets)) <= 5
    found = [await call(one, "GET", "/users/me/limits", expect=200) for one in clients]
    assert [one["budgets"]["day"]["used"] for one in found] == ["0.000006"] * 3
    assert max(one["budgets"]["day"]["resets_in"] for one in found) - AN_HOUR < found[0]["budgets"]["day"]["resets_in"]
