"""Calls that give nothing: made again, then made to another model, or cancelled; each with a row and an entry."""

import asyncio
import time

from tests.api.steps import call
from tests.servers.provider import Failure
from tests.servers.workers import MODEL, OTHER, Two
from tests.workers.steps import chat, resume


async def test_retry_waits_as_long_as_the_provider_says(two: Two) -> None:
    plan = two.plan(failures=(Failure(429, retry_after="1"), Failure(0)))
    answer = await call(two.here, "POST", "/chat/completions", chat(plan), expect=201)
    assert answer["content"] == plan.answer
    first, second, _third = plan.calls
    assert second.at - first.at >= 1
    record = await call(two.there, "GET", f"/completions/{answer['completion_id']}", expect=200)
    kinds = [(one["number"], one["status"], one["error_kind"]) for one in record["attempts"]]
    assert kinds == [(1, "failed", "rate_limited"), (2, "failed", "unreachable"), (3, "completed", None)]
    assert [entry["attempt"] for entry in record["entries"]] == [1, 2, 3]


async def test_retry_after_that_is_too_long_is_the_callers(two: Two) -> None:
    plan = two.plan(failures=(Failure(503, retry_after="300"),))
    began = time.monotonic()
    reply = await two.here.post("/chat/completions", json=chat(plan))
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "300")
    assert time.monotonic() - began < 5
    assert len(plan.calls) == 1


async def test_fallback_answers_and_the_stream_stays_the_same(two: Two) -> None:
    plan = two.plan(down=frozenset({MODEL}))
    body = chat(plan, fallbacks=[OTHER])
    reply = await two.here.post("/chat/completions/stream", json=body)
    completion_id = int(reply.headers["Everturn-Completion-Id"])
    assert [one.model for one in plan.calls] == [MODEL] * 3 + [OTHER]
    assert await resume(two.there, completion_id) == reply.content.replace(b": still here\n\n", b"")
    record = await call(two.there, "GET", f"/completions/{completion_id}", expect=200)
    assert (record["model"], record["content"], record["attempt_count"]) == (MODEL, plan.answer, 4)
    assert [entry["model"] for entry in record["entries"]] == [MODEL] * 3 + [OTHER]
    message = await call(two.there, "GET", f"/messages/{record['message_id']}", expect=200)
    assert message["model"] == OTHER


async def test_unknown_fallback_is_refused_before_anything_is_stored(two: Two) -> None:
    plan = two.plan()
    problem = await call(two.here, "POST", "/chat/completions", chat(plan, fallbacks=["nobody"]), expect=404)
    assert problem["code"] == "model_not_found"
    assert (await call(two.here, "GET", "/conversations", expect=200))["total"] == 0


async def test_cancelled_before_its_first_word_the_prompt_is_charged(two: Two) -> None:
    plan = two.plan(hold_after=0)
    asking = asyncio.create_task(two.here.post("/chat/completions", json=chat(plan)))
    await plan.asked()
    [running] = (await call(two.there, "GET", "/completions?status=in_progress", expect=200))["items"]
    record = await call(two.there, "POST", f"/completions/{running['id']}/cancel", expect=200)
    assert (await asking).json()["status"] == record["status"] == "cancelled"
    [entry] = record["entries"]
    assert (entry["provenance"], entry["output_tokens"]) == ("estimated", 0)
    assert entry["input_tokens"] > 0
    assert record["usage"]["input_tokens"] == entry["input_tokens"]


async def test_cancelled_between_two_tries_nothing_is_charged(two: Two) -> None:
    plan = two.plan(failures=(Failure(503, retry_after="20"),))
    asking = asyncio.create_task(two.here.post("/chat/completions", json=chat(plan)))
    await plan.asked()
    await asyncio.sleep(0.3)  # the failure has come, and the next try is waited for
    [running] = (await call(two.there, "GET", "/completions?status=in_progress", expect=200))["items"]
    record = await call(two.there, "POST", f"/completions/{running['id']}/cancel", expect=200)
    assert (await asking).json()["status"] == record["status"] == "cancelled"
    [entry] = record["entries"]
    assert (entry["input_tokens"], entry["output_tokens"]) == (0, 0)
    assert [(one["status"], one["error_kind"]) for one in record["attempts"]] == [("failed", "overloaded")]
