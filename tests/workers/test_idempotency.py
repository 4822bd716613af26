"""A turn that is asked for again with its Idempotency-Key: begun once, and answered alike, on whichever worker."""

import asyncio
from collections import Counter
from secrets import token_hex

import httpx2
import pytest

from tests.api.steps import Json, call, start_talk
from tests.servers.provider import Failure
from tests.servers.workers import Two
from tests.workers.steps import DONE, chat, events_of, opened, resume, text_of

CHAT, STREAM = "/chat/completions", "/chat/completions/stream"
REPLAYED = "Idempotency-Replayed"
SENDERS = 20


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or token_hex(8)}


async def send(client: httpx2.AsyncClient, path: str, body: Json, headers: dict[str, str]) -> httpx2.Response:
    return await client.post(path, json=body, headers=headers)


def said(reply: httpx2.Response) -> object:
    """What an answer says, but for the number of its request."""
    if reply.headers["content-type"].startswith("text/event-stream"):
        return reply.content.replace(b": still here\n\n", b"")
    return {name: value for name, value in reply.json().items() if name != "request_id"}


async def turns_of(two: Two) -> int:
    return int((await call(two.there, "GET", "/completions", expect=200))["total"])


@pytest.mark.parametrize("path", [CHAT, STREAM, "/chat/stream", "/conversations/{talk}/completions"])
async def test_same_key_gets_the_same_answer_on_each_worker(two: Two, path: str) -> None:
    plan, headers = two.plan(), keyed()
    talk = (await start_talk(two.here))["id"]
    fields = {"/chat/stream": {"prompt": plan.question}, CHAT: chat(plan), STREAM: chat(plan)}
    body = fields.get(path, {"content": plan.question})
    first = await send(two.here, path.format(talk=talk), body, headers)
    assert first.status_code in (200, 201), first.text
    assert REPLAYED not in first.headers
    for client in two.clients:
        again = await send(client, path.format(talk=talk), body, headers)
        assert (again.status_code, again.headers[REPLAYED]) == (first.status_code, "true")
        assert again.content.replace(b": still here\n\n", b"") == first.content
        assert again.headers.get("location") == first.headers.get("location")
    assert len(plan.calls) == await turns_of(two) == 1


async def test_same_turn_may_be_asked_for_with_the_key_in_quotes(two: Two) -> None:
    plan, key = two.plan(), token_hex(8)
    first = await send(two.here, CHAT, chat(plan), keyed(key))
    again = await send(two.there, CHAT, chat(plan), keyed(f'"{key}"'))
    assert again.content == first.content
    assert len(plan.calls) == 1


@pytest.mark.parametrize("path", [CHAT, STREAM])
@pytest.mark.parametrize("status", [400, 500])
async def test_failed_turn_fails_again_alike_and_asks_nobody(two: Two, path: str, status: int) -> None:
    # A time to wait that is too long for another try.
    plan, headers = two.plan(failures=(Failure(status, retry_after="70"),)), keyed()
    first = await send(two.here, path, chat(plan), headers)
    for client in two.clients:
        again = await send(client, path, chat(plan), headers)
        assert (again.status_code, again.headers[REPLAYED]) == (first.status_code, "true")
        assert said(again) == said(first)
    assert len(plan.calls) == 1


@pytest.mark.parametrize("path", [CHAT, STREAM])
async def test_cancelled_turn_is_told_again_as_cancelled(two: Two, path: str) -> None:
    plan, headers = two.plan(hold_after=2), keyed()
    sending = asyncio.create_task(send(two.here, path, chat(plan, stream=True), headers))
    await plan.asked()
    number = (await call(two.there, "GET", "/completions", expect=200))["items"][0]["id"]
    await call(two.there, "POST", f"/completions/{number}/cancel", expect=200)
    first = await sending
    assert b"cancelled" in first.content
    again = await send(two.there, path, chat(plan, stream=True), headers)
    assert said(again) == said(first)
    assert len(plan.calls) == 1


async def test_another_request_with_the_key_is_a_422(two: Two) -> None:
    plan, headers = two.plan(), keyed()
    await send(two.here, CHAT, chat(plan), headers)
    others: list[tuple[str, Json]] = [
        (CHAT, chat(two.plan())),
        (CHAT, chat(plan, temperature=0.5)),
        (STREAM, chat(plan)),
        ("/chat", {"role": "user", "content": plan.question}),
    ]
    for path, body in others:
        for client in two.clients:
            reply = await send(client, path, body, headers)
            assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_mismatch"), path
    assert await turns_of(two) == 1


async def test_same_request_spelt_otherwise_is_the_same(two: Two) -> None:
    plan, headers = two.plan(), keyed() | {"Content-Type": "application/json"}
    spelt = '{ "messages" : [ {"content": "?", "role": "\\u0075ser"} ] }'.replace("?", plan.question)
    first = await two.here.post(CHAT, json=chat(plan), headers=headers)
    again = await two.there.post(CHAT, content=spelt, headers=headers)
    assert (first.status_code, again.content) == (201, first.content)


@pytest.mark.parametrize("path", [CHAT, STREAM])
async def test_twenty_senders_of_one_key_make_one_turn(two: Two, path: str) -> None:
    plan, headers = two.plan(words=30, hold_after=3), keyed()
    sending = [asyncio.create_task(send(two.clients[n % 2], path, chat(plan), headers)) for n in range(SENDERS)]
    await plan.asked()
    plan.go()
    replies = await asyncio.gather(*sending)
    assert len({reply.content.replace(b": still here\n\n", b"") for reply in replies}) == 1
    assert Counter(REPLAYED in reply.headers for reply in replies) == {True: SENDERS - 1, False: 1}
    assert {reply.status_code for reply in replies} == {200 if path == STREAM else 201}
    whole = said(replies[0])
    assert (text_of(whole) if isinstance(whole, bytes) else replies[0].json()["content"]) == plan.answer
    assert len(plan.calls) == await turns_of(two) == 1
    rows = await two.rows("SELECT count(*) FROM ledger_entries WHERE user_id = :user")
    assert rows[0][0] == 1


@pytest.mark.parametrize("on_conflict", ["reject", "queue", "interrupt", "branch"])
async def test_many_senders_of_one_key_to_one_conversation_make_one_turn(two: Two, on_conflict: str) -> None:
    plan, headers = two.plan(hold_after=3), keyed()
    talk = (await start_talk(two.here, "Hello", "Hi!"))["id"]
    path, body = f"/conversations/{talk}/completions", {"content": plan.question, "on_conflict": on_conflict}
    sending = [asyncio.create_task(send(two.clients[n % 2], path, body, headers)) for n in range(10)]
    await plan.asked()
    plan.go()
    replies = await asyncio.gather(*sending)
    assert {(reply.status_code, reply.json()["content"]) for reply in replies} == {(201, plan.answer)}
    assert len(plan.calls) == await turns_of(two) == 1
    assert (await call(two.here, "GET", f"/conversations/{talk}", expect=200))["message_count"] == 4


@pytest.mark.parametrize("on_conflict", ["reject", "queue", "interrupt", "branch"])
async def test_many_senders_of_one_key_regenerate_once(two: Two, on_conflict: str) -> None:
    plan, headers = two.plan(), keyed()
    first = await call(two.here, "POST", CHAT, chat(plan), expect=201)
    path = f"/conversations/{first['conversation_id']}/regenerate"
    plan.hold_after = 3
    body = {"on_conflict": on_conflict}
    sending = [asyncio.create_task(send(two.clients[n % 2], path, body, headers)) for n in range(10)]
    await plan.asked(2)
    # Those who come while it runs are the same sender too.
    sending += [asyncio.create_task(send(client, path, body, headers)) for client in two.clients]
    plan.go()
    replies = await asyncio.gather(*sending)
    assert {reply.status_code for reply in replies} == {201}, [reply.text for reply in replies]
    assert {reply.json()["status"] for reply in replies} == {"completed"}
    assert len({reply.content for reply in replies}) == 1
    assert (len(plan.calls), await turns_of(two)) == (2, 2)


async def test_keys_are_their_users_own(two: Two, stranger: httpx2.AsyncClient) -> None:
    plan, headers = two.plan(), keyed()
    mine = await send(two.here, CHAT, chat(plan), headers)
    theirs = await send(stranger, CHAT, chat(plan), headers)
    assert REPLAYED not in theirs.headers
    assert theirs.json()["completion_id"] != mine.json()["completion_id"]
    assert (await send(stranger, CHAT, chat(two.plan()), headers)).status_code == 422


@pytest.mark.parametrize("key", [b"", b'""', b"a" * 256, b"a" * 1000, b"tab\there", b'" "', b"k\xe4se"])
async def test_what_is_no_key_is_a_400(two: Two, key: bytes) -> None:
    plan = two.plan()
    reply = await two.here.post(CHAT, json=chat(plan), headers=[(b"Idempotency-Key", key)])
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request"), reply.text
    assert plan.calls == []


@pytest.mark.parametrize("key", ["a", "a" * 255, "with space", "~!@#$%^&*()", '"""', '"'])
async def test_odd_keys_are_keys(two: Two, key: str) -> None:
    plan = two.plan()
    first, again = [await send(client, CHAT, chat(plan), keyed(key)) for client in two.clients]
    assert (first.status_code, again.content) == (201, first.content)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b'{"messages": []}', b"\xff"])
async def test_bad_body_with_a_key_is_no_500_and_leaves_the_key_free(two: Two, body: bytes) -> None:
    headers = keyed() | {"Content-Type": "application/json"}
    reply = await two.here.post(CHAT, content=body, headers=headers)
    assert reply.status_code == 422, reply.text
    assert (await send(two.there, CHAT, chat(two.plan()), headers)).status_code == 201


async def test_key_of_a_refused_request_is_free_again(two: Two) -> None:
    headers, plan, before = keyed(), two.plan(), two.plan(hold_after=1)
    talk = (await start_talk(two.here))["id"]
    path = f"/conversations/{talk}/completions"
    assert (await send(two.here, CHAT, chat(plan, model="nobody"), headers)).status_code == 404
    assert (await send(two.here, "/conversations/999999999/completions", {"content": "x"}, headers)).status_code == 404
    async with opened(two.here, path, {"content": before.question, "stream": True}, words=1) as stream:
        busy = await send(two.there, path, {"content": plan.question}, headers)
        assert (busy.status_code, busy.json()["code"]) == (409, "conversation_busy")
        before.go()
        await stream.rest()
    assert (await send(two.there, path, {"content": plan.question}, headers)).status_code == 201
    assert len(plan.calls) == 1


@pytest.mark.parametrize("path", [CHAT, STREAM])
async def test_unstored_turn_is_not_said_again(two: Two, path: str) -> None:
    plan, headers = two.plan(), keyed()
    first = await send(two.here, path, chat(plan, store=False), headers)
    assert plan.answer == (text_of(first.content) if path == STREAM else first.json()["content"])
    for client in two.clients:
        again = await send(client, path, chat(plan, store=False), headers)
        assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert len(plan.calls) == 1


async def test_unstored_turn_is_joined_while_it_runs(two: Two) -> None:
    plan, headers = two.plan(words=20, hold_after=2), keyed()
    body = chat(plan, store=False)
    async with (
        opened(two.here, STREAM, body, words=2, headers=headers) as stream,
        opened(two.there, STREAM, body, words=2, headers=headers) as beside,
    ):
        plan.go()
        assert await stream.rest() == await beside.rest()
    assert text_of(stream.got) == plan.answer


async def test_worker_killed_right_after_accepting_makes_no_second_turn(two: Two) -> None:
    """The client saw its connection break, and asks again at the other worker: it joins the turn that it had begun."""
    plan, headers = two.plan(hold_after=0), keyed()
    async with opened(two.here, STREAM, chat(plan), headers=headers) as stream:
        await plan.asked()
        await asyncio.to_thread(two.one.kill)
    async with opened(two.there, STREAM, chat(plan), headers=headers) as again:
        assert again.completion_id == stream.completion_id
        assert again.got == stream.got
        await plan.asked(2)
        plan.go()
        whole = await again.rest()
    assert text_of(whole) == plan.answer
    assert whole.endswith(DONE)
    await two.pair.start()
    for client in two.clients:
        last = await send(client, STREAM, chat(plan), headers)
        assert (last.content, last.headers[REPLAYED]) == (whole, "true")
    assert await turns_of(two) == 1
    assert len(events_of(await resume(two.here, stream.completion_id))) == len(events_of(whole))


async def test_erased_turn_is_not_begun_again_by_its_key(two: Two) -> None:
    plan, headers = two.plan(), keyed()
    first = (await send(two.here, CHAT, chat(plan), headers)).json()
    await call(two.here, "DELETE", f"/conversations/{first['conversation_id']}", expect=204)
    again = await send(two.there, CHAT, chat(plan), headers)
    assert again.status_code == 404
    assert len(plan.calls) == 1
