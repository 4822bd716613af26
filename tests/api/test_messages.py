"""Messages over HTTP: appended, edited as siblings, read by branch, deleted with what follows."""

import asyncio

import httpx2
import pytest
from llmock.pytest_plugin import LLMock

from tests.api.steps import ask, branch, call, start_talk


async def contents(client: httpx2.AsyncClient, talk: int, query: str = "") -> list[str]:
    page = await call(client, "GET", f"/conversations/{talk}/messages?limit=100{query}", expect=200)
    assert page["total"] == len(page["items"])
    return [one["content"] for one in page["items"]]


async def test_chat_stores_a_message_and_tells_where(http: httpx2.AsyncClient) -> None:
    line = {"role": "user", "content": "Remember the milk — 牛奶 🥛"}
    first = await call(http, "POST", "/chat", line, expect=201)
    assert set(first) == {"received", "id", "conversation_id"}
    assert first["received"] == line
    second = await call(http, "POST", "/chat", {**line, "conversation_id": first["conversation_id"]}, expect=201)
    assert second["conversation_id"] == first["conversation_id"]
    assert await branch(http, first["conversation_id"]) == [("user", line["content"])] * 2
    shown = await call(http, "GET", f"/messages/{second['id']}", expect=200)
    assert (shown["parent_id"], shown["depth"], shown["status"], shown["model"]) == (first["id"], 1, "completed", None)


async def test_appended_messages_follow_the_active_branch(http: httpx2.AsyncClient) -> None:
    talk = (await start_talk(http))["id"]
    path = f"/conversations/{talk}/messages"
    for role, content in (("user", "a"), ("assistant", "b"), ("system", "c")):
        reply = await http.post(path, json={"role": role, "content": content, "metadata": {"n": 1}})
        assert reply.status_code == 201
        assert reply.headers["location"] == f"/messages/{reply.json()['id']}"
        assert reply.json()["metadata"] == {"n": 1}
    assert await contents(http, talk) == ["a", "b", "c"]
    assert await contents(http, talk, "&sort=recent") == ["c", "b", "a"]


async def test_after_a_parent_it_becomes_a_sibling(http: httpx2.AsyncClient) -> None:
    talk = await start_talk(http, "a", "b", "c")
    root = (await call(http, "GET", f"/conversations/{talk['id']}/messages", expect=200))["items"][0]
    line = {"role": "user", "content": "b2", "parent_id": root["id"]}
    made = await call(http, "POST", f"/conversations/{talk['id']}/messages", line, expect=201)
    assert (made["parent_id"], made["depth"]) == (root["id"], 1)
    assert await contents(http, talk["id"]) == ["a", "b2"]
    assert sorted(await contents(http, talk["id"], "&branch=all")) == ["a", "b", "b2", "c"]
    await call(http, "POST", "/chat", {"role": "user", "content": "c2", "conversation_id": talk["id"]}, expect=201)
    assert await contents(http, talk["id"]) == ["a", "b2", "c2"]


async def test_an_edit_makes_a_sibling_and_keeps_history(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("Yes.").reply("No.")
    talk = (await start_talk(http))["id"]
    answer = await ask(http, talk, "Is it?")
    question = (await call(http, "GET", f"/messages/{answer['message_id']}", expect=200))["parent_id"]
    edited = await call(http, "PATCH", f"/messages/{question}", {"content": "Is it not?"}, expect=200)
    assert edited["id"] != question
    assert (edited["depth"], edited["parent_id"], edited["role"]) == (0, None, "user")
    assert (await call(http, "GET", f"/messages/{question}", expect=200))["content"] == "Is it?"
    assert await branch(http, talk) == [("user", "Is it not?")]
    assert (await call(http, "GET", f"/conversations/{talk}", expect=200))["active_leaf_id"] == edited["id"]
    await ask(http, talk, "Well?")
    assert [m["content"] for m in llmock.last_request.body["messages"]] == ["Is it not?", "Well?"]
    assert await contents(http, talk) == ["Is it not?", "Well?", "No."]


async def test_metadata_alone_is_changed_in_place(http: httpx2.AsyncClient) -> None:
    talk = await start_talk(http, "a")
    path = f"/messages/{talk['active_leaf_id']}"
    changed = await call(http, "PATCH", path, {"metadata": {"rating": 5}}, expect=200)
    assert (changed["id"], changed["metadata"], changed["content"]) == (talk["active_leaf_id"], {"rating": 5}, "a")
    same = await call(http, "PATCH", path, {"content": "a"}, expect=200)
    assert same["id"] == talk["active_leaf_id"]
    assert (await call(http, "GET", f"/conversations/{talk['id']}", expect=200))["message_count"] == 1


async def test_a_message_is_deleted_with_all_that_follows(http: httpx2.AsyncClient) -> None:
    talk = await start_talk(http, "a", "b", "c", "d")
    items = (await call(http, "GET", f"/conversations/{talk['id']}/messages", expect=200))["items"]
    line = {"role": "user", "content": "c2", "parent_id": items[1]["id"]}
    await call(http, "POST", f"/conversations/{talk['id']}/messages", line, expect=201)
    assert await call(http, "DELETE", f"/messages/{items[1]['id']}", expect=200) == {"deleted": 4}
    for item in items[1:]:
        await call(http, "GET", f"/messages/{item['id']}", expect=404)
    shown = await call(http, "GET", f"/conversations/{talk['id']}", expect=200)
    assert (shown["active_leaf_id"], shown["message_count"]) == (items[0]["id"], 1)
    assert await contents(http, talk["id"]) == ["a"]
    assert await call(http, "DELETE", f"/messages/{items[0]['id']}", expect=200) == {"deleted": 1}
    assert await contents(http, talk["id"]) == []
    await call(http, "POST", "/chat", {"role": "user", "content": "new", "conversation_id": talk["id"]}, expect=201)
    assert await contents(http, talk["id"]) == ["new"]


async def test_after_a_deletion_the_place_can_be_filled_again(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply("One.").reply("Two.")
    talk = (await start_talk(http, "Hello", "Hi!"))["id"]
    first = await ask(http, talk, "Say a number.")
    assert await call(http, "DELETE", f"/messages/{first['message_id']}", expect=200) == {"deleted": 1}
    await ask(http, talk, "Another.")
    assert await contents(http, talk) == ["Hello", "Hi!", "Say a number.", "Another.", "Two."]


async def test_a_deep_talk_is_read_and_deleted_whole(http: httpx2.AsyncClient) -> None:
    talk = await start_talk(http, *(f"line {n}" for n in range(1000)))
    page = await call(http, "GET", f"/conversations/{talk['id']}/messages?skip=990&limit=20", expect=200)
    assert [one["content"] for one in page["items"]] == [f"line {n}" for n in range(990, 1000)]
    assert page["total"] == 1000
    root = (await call(http, "GET", f"/conversations/{talk['id']}/messages?limit=1", expect=200))["items"][0]
    assert await call(http, "DELETE", f"/messages/{root['id']}", expect=200) == {"deleted": 1000}


async def test_messages_sent_at_once_all_find_a_place(http: httpx2.AsyncClient) -> None:
    talk = (await start_talk(http, "a"))["id"]
    path = f"/conversations/{talk}/messages"
    sent = [http.post(path, json={"role": "user", "content": f"m{n}"}) for n in range(10)]
    replies = await asyncio.gather(*sent)
    stored = [reply.json()["content"] for reply in replies if reply.status_code == 201]
    assert {reply.status_code for reply in replies} <= {201, 409}
    assert stored
    assert sorted(await contents(http, talk, "&branch=all")) == sorted(["a", *stored])
    assert (await call(http, "GET", f"/conversations/{talk}", expect=200))["message_count"] == 1 + len(stored)


@pytest.mark.parametrize("query", ["branch=other", "sort=newest", "limit=0", "limit=101", "skip=-1", "limit=x"])
async def test_a_bad_view_is_refused(http: httpx2.AsyncClient, query: str) -> None:
    talk = (await start_talk(http, "a"))["id"]
    problem = await call(http, "GET", f"/conversations/{talk}/messages?{query}", expect=422)
    assert problem["detail"][0]["loc"] == ["query", query.partition("=")[0]]
