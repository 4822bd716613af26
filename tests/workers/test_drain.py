"""A worker that is told to stop: it says so, lets turns end, hands over what has said nothing, and ends with 0."""

import asyncio
import time

from tests.api.steps import call
from tests.patience import until
from tests.servers.workers import LEASE, Two
from tests.workers.steps import chat, opened, resume, text_of

STREAM = "/chat/completions/stream"


async def test_stopping_worker_hands_over_what_has_said_nothing(two: Two) -> None:
    silent, spoken = two.plan(hold_after=0), two.plan(words=20, hold_after=3)
    async with (
        opened(two.here, STREAM, chat(silent)) as waiting,
        opened(two.here, STREAM, chat(spoken), words=3) as speaking,
    ):
        await silent.asked()
        two.one.terminate()

        async def unready() -> bool:
            return await asyncio.to_thread(two.one.status_of, "/health/ready") == 503

        await until(unready, "readiness to say that it drains")
        refused = await two.here.post("/chat/completions", json=chat(two.plan()))
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert b'"code":"worker_lost"' in await speaking.rest()
        assert (await waiting.rest()).endswith(b'"starting_after":0}\n\n')
        assert b"event: reconnect\nretry: 200\ndata: " in waiting.got
        gone = time.monotonic()
        await silent.asked(2)
        assert time.monotonic() - gone < LEASE, "handed over, not left to its lease"
        silent.go()
        whole = await resume(two.there, waiting.completion_id)
    assert text_of(whole) == silent.answer
    assert await asyncio.to_thread(two.one.wait) == 0
    record = await call(two.there, "GET", f"/completions/{waiting.completion_id}", expect=200)
    assert [one["error_kind"] for one in record["attempts"]] == ["handed_over", None]
    record = await call(two.there, "GET", f"/completions/{speaking.completion_id}", expect=200)
    assert (record["status"], record["content"]) == ("incomplete", "".join(spoken.word(n) for n in range(3)))


async def test_rolling_restart_loses_no_turn(two: Two) -> None:
    plans = [two.plan(words=30, pace=0.05) for _ in range(12)]
    begun = []
    for number, plan in enumerate(plans):
        async with opened(two.clients[number % 2], STREAM, chat(plan)) as stream:
            begun.append(stream.completion_id)
    for service in (two.one, two.two):
        assert await asyncio.to_thread(service.stop) == 0
        await asyncio.to_thread(service.start)
    for completion_id, plan in zip(begun, plans, strict=True):
        assert text_of(await resume(two.there, completion_id)) == plan.answer
