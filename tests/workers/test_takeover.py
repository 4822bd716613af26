"""Turns whose worker is gone: finished with what they have, or run again, and always told to the end."""

import asyncio
import time
from contextlib import suppress

import httpx2

from tests.api.steps import call
from tests.patience import until
from tests.servers.workers import LEASE, MODEL, OTHER, Two
from tests.workers.steps import DONE, chat, last_seq, opened, resume, text_of

STREAM = "/chat/completions/stream"
# A lease, the time until the next sweep, and a busy machine.
TAKEN = 2 * LEASE + 2


async def test_turn_that_had_said_something_is_finished_with_it_elsewhere(two: Two) -> None:
    plan = two.plan(words=20, hold_after=5)
    async with opened(two.here, STREAM, chat(plan), words=5) as stream:
        await asyncio.to_thread(two.one.kill)
    began = time.monotonic()
    more = await resume(two.there, stream.completion_id, last_seq(stream.got))
    assert time.monotonic() - began < TAKEN
    assert b"event: error" in more
    assert b'"code":"worker_lost"' in more
    record = await call(two.there, "GET", f"/completions/{stream.completion_id}", expect=200)
    assert (record["status"], record["error_code"]) == ("incomplete", "worker_lost")
    assert record["content"] == text_of(stream.got + more) == "".join(plan.word(number) for number in range(5))
    assert [(entry["attempt"], entry["provenance"]) for entry in record["entries"]] == [(1, "estimated")]
    await two.pair.start()
    for client in two.clients:
        assert await resume(client, stream.completion_id) == stream.got + more
    assert await two.rows("SELECT id FROM completions WHERE user_id = :user AND finished_at IS NULL") == []
    assert len(plan.calls) == 1


async def test_turn_that_had_said_nothing_is_run_again_elsewhere(two: Two) -> None:
    plan = two.plan(hold_after=0)
    async with opened(two.here, STREAM, chat(plan)) as stream:
        await plan.asked()
        await asyncio.to_thread(two.one.kill)
    began = time.monotonic()
    following = asyncio.create_task(resume(two.there, stream.completion_id))
    await plan.asked(2)
    assert time.monotonic() - began < TAKEN
    plan.go()
    whole = await following
    assert whole.startswith(stream.got)
    assert text_of(whole) == plan.answer
    assert whole.endswith(DONE)
    first, second = plan.calls
    assert first.messages == second.messages == [("user", plan.question)]
    record = await call(two.there, "GET", f"/completions/{stream.completion_id}", expect=200)
    assert (record["status"], record["attempt_count"]) == ("completed", 2)
    assert [(one["status"], one["error_kind"]) for one in record["attempts"]] == [
        ("failed", "worker_lost"),
        ("completed", None),
    ]
    assert [entry["attempt"] for entry in record["entries"]] == [1, 2]


async def test_comparison_goes_on_elsewhere_with_the_first_that_answers(two: Two) -> None:
    plan = two.plan(hold_after=0)
    body = {**chat(plan), "models": [MODEL, OTHER]}
    asking = asyncio.create_task(two.here.post("/compare-providers", json=body))
    await plan.asked(2)
    await asyncio.to_thread(two.one.kill)
    with suppress(httpx2.HTTPError):
        await asking
    plan.down = frozenset({MODEL})
    plan.go()

    async def both_ended() -> bool:
        page = await call(two.there, "GET", "/completions?status=in_progress", expect=200)
        return bool(page["total"] == 0)

    await until(both_ended, "the comparison to end")
    page = await call(two.there, "GET", "/completions?sort=oldest", expect=200)
    assert [(one["model"], one["status"]) for one in page["items"]] == [(MODEL, "failed"), (OTHER, "completed")]
    talk = await call(two.there, "GET", f"/conversations/{page['items'][0]['conversation_id']}", expect=200)
    assert (talk["active_leaf_id"], talk["model"]) == (page["items"][1]["message_id"], OTHER)
