"""Conversations over HTTP: made, with a history or without, listed, changed and deleted."""

import asyncio
from secrets import token_hex

import httpx2
import pytest
from llmock.pytest_plugin import LLMock

from tests.api.steps import OPENAI, Json, ask, branch, call, start_talk
from tests.conftest import People

EVERYTHING: Json = {
    "title": "Ferien",
    "system_prompt": "Answer in one sentence.",
    "model": OPENAI,
    "tags": ["b", "a", "b"],
    "metadata": {"from": {"app": "mobile"}, "n": [1, 2.5, None, True]},
    "archived": True,
    "pinned": True,
}


@pytest.mark.parametrize("path", ["/conversations", "/users/me/conversations"])
async def test_it_comes_back_as_it_was_made(http: httpx2.AsyncClient, path: str) -> None:
    reply = await http.post(path, json=EVERYTHING)
    assert reply.status_code == 201
    made = reply.json()
    assert {name: made[name] for name in EVERYTHING} == {**EVERYTHING, "tags": ["a", "b"]}
    assert reply.headers["location"] == f"/conversations/{made['id']}"
    assert await call(http, "GET", f"/conversations/{made['id']}", expect=200) == made
    assert await call(http, "GET", f"{path}/{made['id']}", expect=200) == made
    assert (made["message_count"], made["active_leaf_id"]) == (0, None)


@pytest.mark.usefixtures("llmock")
async def test_what_needs_no_body_is_done_without_one(http: httpx2.AsyncClient) -> None:
    talk = await start_talk(http, "Hello?")
    await ask(http, talk["id"], "Are you there?")
    for path in (f"/conversations/{talk['id']}/regenerate", f"/conversations/{talk['id']}/fork", "/conversations"):
        replies = [await http.post(path, headers={"Idempotency-Key": f'"{path}"'}) for _ in range(2)]
        assert [reply.status_code for reply in replies] == [201, 201], replies[0].text
        assert replies[0].headers["location"] == replies[1].headers["location"]


async def test_a_list_leaves_the_content_out(http: httpx2.AsyncClient) -> None:
    made = await call(http, "POST", "/conversations", EVERYTHING, expect=201)
    [shown] = (await call(http, "GET", "/conversations", expect=200))["items"]
    assert shown == {name: value for name, value in made.items() if name != "system_prompt"}


async def test_a_history_is_stored_whole(http: httpx2.AsyncClient) -> None:
    lines = [("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi!"), ("user", "And?")]
    body = {"messages": [{"role": role, "content": content} for role, content in lines], "title": "Old"}
    made = await call(http, "POST", "/conversation", body, expect=201)
    assert (made["message_count"], made["title"]) == (4, "Old")
    assert await branch(http, made["id"]) == lines


@pytest.mark.parametrize(
    "bad",
    [
        {"role": "robot", "content": "x"},
        {"role": "user", "content": ""},
        {"role": "user"},
        {"role": "user", "content": 7},
        {"role": "user", "content": "x", "name": "y"},
        "x",
        None,
    ],
)
async def test_one_bad_message_and_nothing_is_stored(http: httpx2.AsyncClient, bad: object) -> None:
    body = {"title": "Old", "messages": [{"role": "user", "content": "Hello"}, bad]}
    problem = await call(http, "POST", "/conversation", body, expect=422)
    assert problem["detail"][0]["loc"][:3] == ["body", "messages", 1]
    assert (await call(http, "GET", "/conversations", expect=200))["total"] == 0
    assert (await call(http, "GET", "/users/me/messages", expect=200))["total"] == 0


async def test_an_edit_changes_what_it_names(http: httpx2.AsyncClient) -> None:
    made = await call(http, "POST", "/conversations", EVERYTHING, expect=201)
    path = f"/conversations/{made['id']}"
    changed = await call(http, "PATCH", path, {"title": "Urlaub", "tags": ["c"], "archived": False}, expect=200)
    expected = {**made, "title": "Urlaub", "tags": ["c"], "archived": False}
    assert {**changed, "updated_at": None} == {**expected, "updated_at": None}
    assert changed["updated_at"] > made["updated_at"]
    cleared = await call(http, "PATCH", path, {"title": None, "system_prompt": None, "model": None}, expect=200)
    assert (cleared["title"], cleared["system_prompt"], cleared["model"], cleared["tags"]) == (None, None, None, ["c"])
    assert (await call(http, "PATCH", path, {}, expect=200))["tags"] == ["c"]
    assert (await call(http, "PATCH", path, {"tags": []}, expect=200))["tags"] == []


@pytest.mark.parametrize("name", ["archived", "pinned", "metadata"])
async def test_what_cannot_be_empty_cannot_be_cleared(http: httpx2.AsyncClient, name: str) -> None:
    made = await call(http, "POST", "/conversations", EVERYTHING, expect=201)
    problem = await call(http, "PATCH", f"/conversations/{made['id']}", {name: None}, expect=422)
    assert problem["detail"][0]["loc"] == ["body", name]
    assert (await call(http, "GET", f"/conversations/{made['id']}", expect=200))[name] == EVERYTHING[name]


async def test_a_deleted_one_is_gone_with_its_messages_and_its_cost_stays(people: People, llmock: LLMock) -> None:
    owner = people.owner
    llmock.reply("Yes.")
    talk = (await start_talk(owner, "Hello"))["id"]
    answer = await ask(owner, talk, "Really?")
    await call(owner, "DELETE", f"/conversations/{talk}", expect=204)
    for path in (f"/conversations/{talk}", f"/messages/{answer['message_id']}", f"/conversations/{talk}/messages"):
        await call(owner, "GET", path, expect=404)
    await call(owner, "DELETE", f"/conversations/{talk}", expect=404)
    assert (await call(owner, "GET", "/users/me/messages", expect=200))["total"] == 0
    receipt = await call(people.admin, "DELETE", f"/users/{people.owner_id}", expect=200)
    assert receipt["kept"] == {"ledger_entries": 1}


async def test_a_deletion_during_the_answer_loses_no_cost(people: People, llmock: LLMock) -> None:
    llmock.pace(20).reply("One two three four five six seven eight.")
    talk = (await start_talk(people.owner))["id"]
    body = {"model": OPENAI, "content": "Count!", "stream": True}
    async with people.owner.stream("POST", f"/conversations/{talk}/completions", json=body) as reply:
        lines = reply.aiter_lines()
        async for line in lines:
            if '"token"' in line:
                break
        await call(people.owner, "DELETE", f"/conversations/{talk}", expect=204)
        async with asyncio.timeout(20):
            assert [line async for line in lines][-1] == ""
    receipt = await call(people.admin, "DELETE", f"/users/{people.owner_id}", expect=200)
    assert receipt["kept"] == {"ledger_entries": 1}


async def test_they_are_found_by_title_tags_and_archive(http: httpx2.AsyncClient) -> None:
    rows: list[tuple[str, list[str], bool]] = [
        ("Äpfel & Birnen", ["obst", "2027"], False),
        ("100% Saft", ["obst"], False),
        ("birnen", ["obst"], True),
    ]
    for title, tags, archived in rows:
        body = {"title": title, "tags": tags, "archived": archived}
        await call(http, "POST", "/conversations", body, expect=201)

    async def titles(**query: str | list[str]) -> set[str]:
        reply = await http.get("/conversations", params=query)
        assert reply.status_code == 200, reply.text
        body = reply.json()
        assert body["total"] == len(body["items"])
        return {one["title"] for one in body["items"]}

    assert await titles(q="BIRNEN") == {"Äpfel & Birnen", "birnen"}
    assert await titles(q="äPFEL") == {"Äpfel & Birnen"}
    assert await titles(q="%") == {"100% Saft"}
    assert await titles(q="_") == set()
    assert await titles(tags=["obst", "2027"]) == {"Äpfel & Birnen"}
    assert await titles(archived="false", tags="obst") == {"Äpfel & Birnen", "100% Saft"}
    assert await titles(archived="true") == {"birnen"}
    assert await titles(tags="none") == set()


async def test_they_are_sorted_by_activity_or_title(http: httpx2.AsyncClient) -> None:
    made = {}
    for title in ("beta", "Alpha", "gamma"):
        made[title] = (await call(http, "POST", "/conversations", {"title": title}, expect=201))["id"]
    line = {"role": "user", "content": "again", "conversation_id": made["beta"]}
    await call(http, "POST", "/chat", line, expect=201)
    orders = {"recent": "beta gamma Alpha", "oldest": "Alpha gamma beta", "title": "Alpha beta gamma"}
    for sort, titles in orders.items():
        page = await call(http, "GET", f"/conversations?sort={sort}", expect=200)
        assert " ".join(one["title"] for one in page["items"]) == titles


async def test_the_first_question_is_the_title_of_a_new_one(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("Yes.")
    question = "Is it true,\n that  the moon is " + "very " * 30 + "far?"
    body = {"model": OPENAI, "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": question}]}
    made = await call(http, "POST", "/chat/completions", body, expect=201)
    title = (await call(http, "GET", f"/conversations/{made['conversation_id']}", expect=200))["title"]
    assert title.startswith("Is it true, that the moon is very very")
    assert title.endswith("very…")
    assert len(title) <= 61


async def test_a_conversation_outlives_its_model(people: People, llmock: LLMock) -> None:
    name = f"team/{token_hex(5)}"
    await call(people.admin, "POST", "/models", {"id": name, "provider": "openai", "upstream": OPENAI}, expect=201)
    headers = {"Idempotency-Key": name}
    first = await people.owner.post("/conversation", json={"model": name}, headers=headers)
    talk = first.json()
    await call(people.admin, "DELETE", f"/models/{name}", expect=204)
    path = f"/conversations/{talk['id']}"
    assert (await call(people.owner, "GET", path, expect=200))["model"] == name
    # What is sent back as it was read is no new choice; another unknown one is.
    assert (await call(people.owner, "PATCH", path, {"model": name, "pinned": True}, expect=200))["pinned"]
    await call(people.owner, "PATCH", path, {"model": "no-such-model"}, expect=404)
    await call(people.other, "PATCH", path, {"model": name}, expect=404)
    again = await people.owner.post("/conversation", json={"model": name}, headers=headers)
    assert (again.status_code, again.json()) == (201, talk)
    assert again.headers["idempotency-replayed"] == "true"
    problem = await call(people.owner, "POST", f"{path}/completions", {"content": "x"}, expect=404)
    assert (problem["code"], llmock.requests) == ("model_not_found", [])
    assert (await call(people.owner, "PATCH", path, {"model": None}, expect=200))["model"] is None
