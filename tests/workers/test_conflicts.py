"""Several who send to one conversation, over two workers: each prompt is the history before it, and nothing else."""

import asyncio
import time

import httpx2

from tests.api.steps import branch, call, start_talk
from tests.servers.workers import Two
from tests.workers.steps import opened

SENDERS = 10


async def test_ten_at_once_are_asked_one_after_the_other(two: Two) -> None:
    talk = (await start_talk(two.here, "Hello", "Hi!"))["id"]
    plans = [two.plan(words=3) for _ in range(SENDERS)]
    path = f"/conversations/{talk}/completions"

    async def send(number: int) -> httpx2.Response:
        body = {"content": plans[number].question, "on_conflict": "queue", "stream": number % 3 == 0}
        return await two.clients[number % 2].post(path, json=body)

    replies = await asyncio.gather(*map(send, range(SENDERS)))
    assert {reply.status_code for reply in replies} <= {200, 201}
    lines = await branch(two.there, talk)
    assert len(lines) == 2 + 2 * SENDERS
    for plan in plans:
        [asked] = plan.calls
        assert asked.messages == lines[: len(asked.messages)]
        assert lines[len(asked.messages)] == ("assistant", plan.answer)


async def test_interrupting_keeps_what_came_and_asks_next(two: Two) -> None:
    talk = (await start_talk(two.here))["id"]
    first, second = two.plan(words=20, hold_after=4), two.plan()
    path = f"/conversations/{talk}/completions"
    async with opened(two.here, path, {"content": first.question, "stream": True}, words=4) as stream:
        body = {"content": second.question, "on_conflict": "interrupt"}
        answer = await call(two.there, "POST", path, body, expect=201)
        whole = await stream.rest()
    said = "".join(first.word(number) for number in range(4))
    assert b'"finish_reason":"cancelled"' in whole
    assert answer["content"] == second.answer
    assert second.calls[0].messages == [("user", first.question), ("assistant", said), ("user", second.question)]
    record = await call(two.there, "GET", f"/completions/{stream.completion_id}", expect=200)
    assert (record["status"], record["content"], len(record["entries"])) == ("cancelled", said, 1)


async def test_a_branch_goes_beside_the_running_question(two: Two) -> None:
    talk = (await start_talk(two.here, "Hello", "Hi!"))["id"]
    first, second = two.plan(hold_after=2), two.plan()
    path = f"/conversations/{talk}/completions"
    async with opened(two.here, path, {"content": first.question, "stream": True}, words=2) as stream:
        answer = await call(two.there, "POST", path, {"content": second.question, "on_conflict": "branch"}, expect=201)
        assert answer["content"] == second.answer
        first.go()
        await stream.rest()
    before = [("user", "Hello"), ("assistant", "Hi!")]
    assert second.calls[0].messages == [*before, ("user", second.question)]
    assert first.calls[0].messages == [*before, ("user", first.question)]


async def test_cancelling_reaches_the_other_worker_within_a_second(two: Two) -> None:
    plan = two.plan(words=20, hold_after=3)
    body = {"messages": [{"role": "user", "content": plan.question}]}
    async with opened(two.here, "/chat/completions/stream", body, words=3) as stream:
        began = time.monotonic()
        record = await call(two.there, "POST", f"/completions/{stream.completion_id}/cancel", expect=200)
        assert time.monotonic() - began < 1.5
        assert (await stream.rest()).endswith(b"data: [DONE]\n\n")
    assert (record["status"], record["finish_reason"]) == ("cancelled", "cancelled")
    assert record["content"] == "".join(plan.word(number) for number in range(3))
    assert [entry["provenance"] for entry in record["entries"]] == ["estimated"]
    again = await call(two.there, "POST", f"/completions/{stream.completion_id}/cancel", expect=200)
    assert again == record
