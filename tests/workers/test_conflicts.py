"""Several turns on one conversation, over two workers: refused, queued, interrupting or beside each other."""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx2
import pytest

from tests.api.steps import Json, branch, call, ended, start_talk
from tests.patience import until
from tests.servers.provider import Failure, Plan
from tests.servers.workers import Two
from tests.workers.steps import chat, opened

SENDERS = 10


def turn(plan: Plan, **fields: object) -> Json:
    return {"content": plan.question, **fields}


async def talk_of(two: Two) -> tuple[int, str]:
    """A conversation with one answered question, and the path of its turns."""
    talk = (await start_talk(two.here, "Hello", "Hi!"))["id"]
    return talk, f"/conversations/{talk}/completions"


def send(client: httpx2.AsyncClient, path: str, body: Json) -> "asyncio.Task[httpx2.Response]":
    return asyncio.create_task(client.post(path, json=body))


async def queued(two: Two, number: int) -> None:
    """Return when so many turns wait."""

    async def so() -> bool:
        return bool((await call(two.there, "GET", "/completions?status=queued", expect=200))["total"] == number)

    await until(so, f"{number} queued turns")


async def nodes_of(two: Two, talk: int) -> dict[int, Json]:
    page = await call(two.here, "GET", f"/conversations/{talk}/messages?branch=all&limit=100", expect=200)
    return {one["id"]: one for one in page["items"]}


def history(nodes: dict[int, Json], answer_id: int) -> list[tuple[str, str]]:
    """What stands before an answer, without answers that said nothing: what its model ought to have read."""
    line: list[tuple[str, str]] = []
    at = nodes[answer_id]["parent_id"]
    while at is not None:
        line.insert(0, (nodes[at]["role"], nodes[at]["content"]))
        at = nodes[at]["parent_id"]
    return [one for one in line if one[1]]


async def test_second_question_is_refused_while_the_first_is_answered(two: Two) -> None:
    first, second = two.plan(hold_after=1), two.plan()
    talk, path = await talk_of(two)
    async with opened(two.here, path, turn(first, stream=True), words=1) as stream:
        for client in two.clients:
            for fields in ({}, {"on_conflict": "reject"}):
                problem = await call(client, "POST", path, turn(second, **fields), expect=409)
                assert problem["code"] == "conversation_busy"
        first.go()
        await stream.rest()
    assert len(await nodes_of(two, talk)) == 4
    await call(two.there, "POST", path, turn(second), expect=201)
    assert not first.calls[0].left


async def test_on_conflict_is_one_of_four_words(two: Two) -> None:
    _, path = await talk_of(two)
    await call(two.here, "POST", path, turn(two.plan(), on_conflict="wait"), expect=422)


async def test_ten_queued_questions_are_asked_one_after_the_other(two: Two) -> None:
    """Each prompt that the provider got is exactly the history before it, and no two were answered at once."""
    talk, path = await talk_of(two)
    plans = [two.plan(words=8, pace=0.005) for _ in range(SENDERS)]
    sending = [send(two.clients[n % 2], path, turn(plan, on_conflict="queue")) for n, plan in enumerate(plans)]
    replies = [(await one) for one in sending]
    assert Counter(reply.status_code for reply in replies) == {201: SENDERS}
    nodes = await nodes_of(two, talk)
    assert len(nodes) == 2 + 2 * SENDERS
    for plan, reply in zip(plans, replies, strict=True):
        assert reply.json()["content"] == plan.answer
        [asked] = plan.calls
        assert asked.messages == history(nodes, reply.json()["message_id"])
    said = await branch(two.here, talk)
    assert len(said) == 2 + 2 * SENDERS, "one line, no branches"
    order = sorted(plans, key=lambda plan: plan.calls[0].at)
    assert [content for role, content in said[2:] if role == "user"] == [plan.question for plan in order]
    assert [len(plan.calls[0].messages) for plan in order] == list(range(3, 3 + 2 * SENDERS, 2))


async def test_queue_outlives_the_worker_that_holds_it(two: Two) -> None:
    """Ten wait behind a running turn, half on a worker that is killed: each is asked, in its place, once."""
    before = two.plan(hold_after=2)
    plans = [two.plan() for _ in range(SENDERS)]
    talk, path = await talk_of(two)
    async with opened(two.there, path, turn(before, stream=True), words=2) as stream:
        sending = [send(two.clients[n % 2], path, turn(plan, on_conflict="queue")) for n, plan in enumerate(plans)]
        await queued(two, SENDERS)
        await asyncio.to_thread(two.one.kill)
        before.go()
        await stream.rest()
    await asyncio.gather(*sending, return_exceptions=True)
    await two.pair.start()
    page = await call(two.there, "GET", f"/completions?conversation_id={talk}&limit=100", expect=200)
    records = [await ended(two.there, f"/completions/{one['id']}") for one in page["items"]]
    assert Counter(record["status"] for record in records) == {"completed": SENDERS + 1}
    nodes, calls = await nodes_of(two, talk), [plan.calls for plan in plans]
    assert [len(one) for one in calls] == [1] * SENDERS
    answers = {node["content"]: node for node in nodes.values() if node["role"] == "assistant"}
    for plan in plans:
        assert plan.calls[0].messages == history(nodes, answers[plan.answer]["id"])
    assert len(await branch(two.here, talk)) == len(nodes) == 2 + 2 * (SENDERS + 1)


async def test_queue_goes_on_behind_a_turn_that_fails(two: Two) -> None:
    first, second = two.plan(failures=(Failure(400),)), two.plan()
    before = two.plan(hold_after=1)
    talk, path = await talk_of(two)
    async with opened(two.here, path, turn(before, stream=True), words=1) as stream:
        failing = send(two.here, path, turn(first, on_conflict="queue"))
        await queued(two, 1)
        following = send(two.there, path, turn(second, on_conflict="queue"))
        await queued(two, 2)
        before.go()
        await stream.rest()
    assert ((await failing).status_code, (await following).status_code) == (422, 201)
    told = [content for _, content in second.calls[0].messages]
    assert told == ["Hello", "Hi!", before.question, before.answer, first.question, second.question]
    assert len(await branch(two.here, talk)) == 8


async def test_cancelled_turn_leaves_the_queue(two: Two) -> None:
    first, second, third = two.plan(hold_after=1), two.plan(), two.plan()
    _, path = await talk_of(two)
    async with opened(two.here, path, turn(first, stream=True), words=1) as stream:
        leaving = send(two.here, path, turn(second, on_conflict="queue"))
        await queued(two, 1)
        number = (await call(two.there, "GET", "/completions?status=queued", expect=200))["items"][0]["id"]
        staying = send(two.there, path, turn(third, on_conflict="queue"))
        await queued(two, 2)
        record = await call(two.there, "POST", f"/completions/{number}/cancel", expect=200)
        assert (record["status"], record["attempts"], record["entries"]) == ("cancelled", [], [])
        assert (await leaving).json()["status"] == "cancelled"
        assert not third.calls, "the first runs still"
        first.go()
        await stream.rest()
    assert (await staying).json()["content"] == third.answer
    assert second.calls == []
    told = [content for _, content in third.calls[0].messages]
    assert told == ["Hello", "Hi!", first.question, first.answer, second.question, third.question]


async def test_interrupt_keeps_what_was_said_and_asks_with_it(two: Two) -> None:
    first, second = two.plan(words=9, hold_after=3), two.plan()
    talk, path = await talk_of(two)
    async with opened(two.here, path, turn(first, stream=True), words=3) as stream:
        answer = await call(two.there, "POST", path, turn(second, on_conflict="interrupt"), expect=201)
        await stream.rest()
    partial = "".join(first.word(number) for number in range(3))
    assert second.calls[0].messages[2:] == [("user", first.question), ("assistant", partial), ("user", second.question)]
    assert answer["content"] == second.answer
    record = await call(two.here, "GET", f"/completions/{stream.completion_id}", expect=200)
    assert (record["status"], record["content"], record["finish_reason"]) == ("cancelled", partial, "cancelled")
    [entry] = record["entries"]
    assert (entry["provenance"], entry["output_tokens"] > 0) == ("estimated", True)
    assert b'"finish_reason":"cancelled"' in stream.got
    assert [role for role, _ in await branch(two.here, talk)] == ["user", "assistant"] * 3
    await until(lambda: _left(first), "the provider's connection to be closed")


async def test_interrupt_ends_those_that_wait_too(two: Two) -> None:
    first, second, third = two.plan(hold_after=1), two.plan(), two.plan()
    _, path = await talk_of(two)
    async with opened(two.here, path, turn(first, stream=True), words=1) as stream:
        waiting = send(two.there, path, turn(second, on_conflict="queue"))
        await queued(two, 1)
        answer = await call(two.here, "POST", path, turn(third, on_conflict="interrupt"), expect=201)
        await stream.rest()
    assert (answer["content"], (await waiting).json()["status"]) == (third.answer, "cancelled")
    assert second.calls == []


async def test_branch_answers_beside_the_running_turn(two: Two) -> None:
    first, second = two.plan(hold_after=1), two.plan()
    talk, path = await talk_of(two)
    async with opened(two.here, path, turn(first, stream=True), words=1) as stream:
        answer = await call(two.there, "POST", path, turn(second, on_conflict="branch"), expect=201)
        assert [content for _, content in second.calls[0].messages] == ["Hello", "Hi!", second.question]
        first.go()
        await stream.rest()
    nodes = await nodes_of(two, talk)
    questions = [node for node in nodes.values() if node["content"] in (first.question, second.question)]
    assert len({node["parent_id"] for node in questions}) == 1
    assert (await branch(two.here, talk))[-1] == ("assistant", second.answer)
    assert answer["conversation_id"] == talk


async def test_branch_beside_the_very_first_question(two: Two) -> None:
    first, second = two.plan(hold_after=1), two.plan()
    async with opened(two.here, "/chat/completions/stream", chat(first), words=1) as stream:
        record = await call(two.there, "GET", f"/completions/{stream.completion_id}", expect=200)
        path = f"/conversations/{record['conversation_id']}/completions"
        await call(two.there, "POST", path, turn(second, on_conflict="branch"), expect=201)
        assert second.calls[0].messages == [("user", second.question)]
        first.go()
        await stream.rest()
    nodes = await nodes_of(two, record["conversation_id"])
    assert [node["parent_id"] for node in nodes.values()].count(None) == 2


async def test_ten_branches_at_once_do_not_mix(two: Two) -> None:
    talk, path = await talk_of(two)
    plans = [two.plan() for _ in range(SENDERS)]
    sending = [send(two.clients[n % 2], path, turn(plan, on_conflict="branch")) for n, plan in enumerate(plans)]
    replies = [await one for one in sending]
    assert Counter(reply.status_code for reply in replies) == {201: SENDERS}, [reply.text for reply in replies]
    nodes = await nodes_of(two, talk)
    for plan, reply in zip(plans, replies, strict=True):
        assert plan.calls[0].messages == history(nodes, reply.json()["message_id"])
        assert nodes[reply.json()["message_id"]]["content"] == plan.answer


async def test_stale_parent_makes_a_branch_and_overwrites_nothing(two: Two) -> None:
    first, stale = two.plan(), two.plan()
    talk, path = await talk_of(two)
    leaf = (await call(two.here, "GET", f"/conversations/{talk}", expect=200))["active_leaf_id"]
    await call(two.here, "POST", path, turn(first, parent_id=leaf), expect=201)
    await call(two.there, "POST", path, turn(stale, parent_id=leaf), expect=201)
    assert [content for _, content in stale.calls[0].messages] == ["Hello", "Hi!", stale.question]
    contents = Counter(node["content"] for node in (await nodes_of(two, talk)).values())
    assert contents == Counter(["Hello", "Hi!", first.question, first.answer, stale.question, stale.answer])


@pytest.mark.parametrize("on_conflict", ["queue", "interrupt", "reject", "branch"])
async def test_deletion_of_the_conversation_ends_what_runs_and_what_waits(two: Two, on_conflict: str) -> None:
    first = two.plan(hold_after=1)
    plans = [two.plan() for _ in range(4)]
    talk, path = await talk_of(two)
    async with opened(two.here, path, turn(first, stream=True), words=1) as stream:
        sending = [send(two.clients[n % 2], path, turn(plan, on_conflict="queue")) for n, plan in enumerate(plans)]
        await queued(two, 4)
        await call(two.there, "DELETE", f"/conversations/{talk}", expect=204)
        late = await two.there.post(path, json=turn(two.plan(), on_conflict=on_conflict))
        assert late.status_code == 404
        replies = await asyncio.gather(*sending)
        assert {reply.status_code for reply in replies} == {404}, [reply.text for reply in replies]
        await stream.rest()
    assert [plan.calls for plan in plans] == [[]] * 4
    assert (await call(two.here, "GET", "/completions", expect=200))["total"] == 0
    assert [row[0] for row in await two.rows("SELECT completion_id FROM ledger_entries WHERE user_id = :user")] == [
        stream.completion_id
    ]


async def test_turn_whose_question_is_deleted_while_it_waits_asks_nobody(two: Two) -> None:
    first, second = two.plan(hold_after=1), two.plan()
    talk, path = await talk_of(two)
    calls = len(two.pair.provider.calls)
    async with opened(two.here, path, turn(first, stream=True), words=1) as stream:
        waiting = send(two.there, path, turn(second, on_conflict="queue"))
        await queued(two, 1)
        question = next(n for n in (await nodes_of(two, talk)).values() if n["content"] == second.question)
        await call(two.here, "DELETE", f"/messages/{question['id']}", expect=200)
        first.go()
        await stream.rest()
    reply = await waiting
    assert (reply.status_code, reply.json().get("status")) == (201, "cancelled"), reply.text
    assert len(two.pair.provider.calls) == calls + 1
    assert await branch(two.here, talk) == [
        ("user", "Hello"),
        ("assistant", "Hi!"),
        ("user", first.question),
        ("assistant", first.answer),
    ]


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


async def _left(plan: Plan) -> Any:
    return plan.calls[0].left
