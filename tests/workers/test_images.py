"""Images in turns that are tried again, wait, or change their worker: each attempt shows the very bytes."""

import asyncio

import pytest

from tests.api.images import put, sent, shown
from tests.api.steps import Json, call, ended, start_talk
from tests.patience import until
from tests.pictures import data_url, png
from tests.servers.provider import Failure, Plan
from tests.servers.workers import OTHER, Two
from tests.workers.steps import opened, resume, text_of

STREAM = "/chat/completions/stream"


def about(plan: Plan, *images: Json, **fields: object) -> Json:
    """A plan's question about some images."""
    content = [{"type": "text", "text": plan.question}, *images]
    return {"messages": [{"role": "user", "content": content}], **fields}


def wired(plan: Plan, data: bytes) -> tuple[str, list[Json]]:
    url = {"type": "image_url", "image_url": {"url": data_url(data)}}
    return "user", [{"type": "text", "text": plan.question}, url]


async def test_a_turn_that_lost_its_worker_shows_its_image_again(two: Two) -> None:
    plan, data = two.plan(hold_after=0), png()
    path = await put(two.here, "shared.png", data)
    async with opened(two.here, STREAM, about(plan, shown(path))) as stream:
        await plan.asked()
        assert (await two.there.delete(f"/files/{path}")).status_code == 204
        await asyncio.to_thread(two.one.kill)
    following = asyncio.create_task(resume(two.there, stream.completion_id))
    first, second = await plan.asked(2)
    plan.go()
    assert text_of(await following) == plan.answer
    assert first.messages == second.messages == [wired(plan, data)]


async def test_every_attempt_shows_the_image_the_fallbacks_too(two: Two) -> None:
    data = png()
    tried = two.plan(failures=(Failure(),) * 2)
    await call(two.here, "POST", "/chat/completions", about(tried, sent(data)), expect=201)
    assert [one.messages for one in tried.calls] == [[wired(tried, data)]] * 3
    backed = two.plan(failures=(Failure(),) * 3)
    answer = await call(two.here, "POST", "/chat/completions", about(backed, sent(data), model="backed"), expect=201)
    assert answer["model"] == OTHER
    assert [one.messages for one in backed.calls] == [[wired(backed, data)]] * 4


async def test_a_question_that_waits_shows_what_is_before_it_and_its_own(two: Two) -> None:
    first, second, one, other = two.plan(hold_after=1), two.plan(), png(), png()
    async with opened(two.here, STREAM, about(first, sent(one)), words=1) as stream:
        record = await call(two.here, "GET", f"/completions/{stream.completion_id}", expect=200)
        path = f"/conversations/{record['conversation_id']}/completions"
        turn = {"content": about(second, sent(other))["messages"][0]["content"], "on_conflict": "queue"}
        waiting = asyncio.create_task(call(two.there, "POST", path, turn, expect=201))

        async def queued() -> bool:
            return bool((await call(two.there, "GET", "/completions?status=queued", expect=200))["total"])

        await until(queued, "the second question to wait")
        first.go()
        await stream.rest()
    assert (await waiting)["content"] == second.answer
    [asked] = second.calls
    assert asked.messages == [wired(first, one), ("assistant", first.answer), wired(second, other)]


async def test_an_image_that_cannot_be_read_fails_the_turn_and_not_the_provider(two: Two) -> None:
    plan, data = two.plan(), png()
    await call(two.here, "POST", "/chat/completions", about(plan, sent(data)), expect=201)
    [row] = await two.rows("SELECT sha256, token FROM blobs WHERE user_id = :user")
    [file] = two.pair.folder.glob(f"??/{row.sha256}.*")
    moved = file.rename(two.pair.folder / "aside")
    again = about(plan, shown(f"pasted/{row.sha256}.png"))
    refused = await two.here.post("/chat/completions", json=again)
    assert (refused.status_code, "missing on the service's disk" in refused.text) == (503, True)
    [talk] = (await call(two.here, "GET", "/conversations", expect=200))["items"]
    for _ in range(2):
        reply = await two.here.post(f"/conversations/{talk['id']}/regenerate", json={})
        assert (reply.status_code, "missing on the service's disk" in reply.text) == (503, True)
    record = await ended(two.here, f"/completions/{reply.json()['completion_id']}")
    assert [one["error_kind"] for one in record["attempts"]] == ["unreadable"] * 3
    assert record["cost_usd"] == "0"
    moved.rename(file)
    answer = await call(two.here, "POST", f"/conversations/{talk['id']}/regenerate", {}, expect=201)
    assert answer["content"] == plan.answer
    assert [one.messages for one in plan.calls] == [[wired(plan, data)]] * 2


@pytest.mark.slow
@pytest.mark.other
async def test_a_question_with_an_image_finds_its_place_in_a_talk_that_grows(two: Two) -> None:
    path = await put(two.here, "shared.png", png())
    talk = (await start_talk(two.here, "Hello", "Hi!"))["id"]
    line = {"role": "user", "content": "m"}
    for _ in range(60):
        plan = two.plan()
        body = {"content": about(plan, shown(path))["messages"][0]["content"], "on_conflict": "queue"}
        writing = [client.post(f"/conversations/{talk}/messages", json=line) for client in (*two.clients, *two.clients)]
        asking = two.here.post(f"/conversations/{talk}/completions", json=body)
        *_, reply = await asyncio.gather(*writing, asking)
        assert reply.status_code == 201, reply.text
