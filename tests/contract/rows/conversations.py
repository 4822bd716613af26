"""Conversations and messages."""

from tests.api.steps import OPENAI, ask, branch, call, start_talk
from tests.contract.desk import Desk, checks


@checks(
    "GET /conversations",
    "POST /conversations",
    "GET /conversations/{id}",
    "PATCH /conversations/{id}",
    "DELETE /conversations/{id}",
)
async def change_conversations(desk: Desk) -> None:
    body = {
        "title": "Holidays", "system_prompt": "Be kind.", "model": OPENAI, "tags": ["a"], "metadata": {"x": 1},
        "archived": False, "pinned": True,
    }  # fmt: skip
    made = await call(desk.owner, "POST", "/conversations", body, expect=201)
    assert {name: made[name] for name in body} == body
    path = f"/conversations/{made['id']}"
    changes = {"title": "Work", "archived": True, "pinned": False, "tags": ["b"], "metadata": {}, "system_prompt": None}
    changed = await call(desk.owner, "PATCH", path, changes, expect=200)
    assert {name: changed[name] for name in changes} == changes
    assert await call(desk.owner, "GET", path, expect=200) == changed
    page = await call(desk.owner, "GET", "/conversations", expect=200)
    assert ([one["id"] for one in page["items"]], page["limit"]) == ([made["id"]], 20)
    await call(desk.people.other, "GET", path, expect=404)
    await call(desk.owner, "DELETE", path, expect=204)
    await call(desk.owner, "GET", path, expect=404)


@checks("POST /conversation")
async def create_with_history(desk: Desk) -> None:
    lines = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
    body = {"model": OPENAI, "system_prompt": "Be kind.", "messages": lines}
    made = await call(desk.owner, "POST", "/conversation", body, expect=201)
    assert (made["message_count"], made["model"], made["system_prompt"]) == (2, OPENAI, "Be kind.")
    assert await branch(desk.owner, made["id"]) == [("user", "Hello"), ("assistant", "Hi!")]
    bad = {**body, "messages": [*lines, {"role": "nobody", "content": "?"}]}
    await call(desk.owner, "POST", "/conversation", bad, expect=422)
    assert (await call(desk.owner, "GET", "/conversations", expect=200))["total"] == 1


@checks("GET /conversations/{id}/messages", "POST /conversations/{id}/messages")
async def append_messages(desk: Desk) -> None:
    talk = await start_talk(desk.owner, "One", "Two")
    path = f"/conversations/{talk['id']}/messages"
    beside = {"role": "user", "content": "Beside.", "parent_id": talk["active_leaf_id"]}
    for content in ("Three", "Beside."):
        made = await call(desk.owner, "POST", path, {**beside, "content": content}, expect=201)
        assert made["content"] == content
    active = await call(desk.owner, "GET", f"{path}?branch=active", expect=200)
    assert [one["content"] for one in active["items"]] == ["One", "Two", "Beside."]
    assert (await call(desk.owner, "GET", path, expect=200)) == active
    everything = await call(desk.owner, "GET", f"{path}?branch=all", expect=200)
    assert sorted(one["content"] for one in everything["items"]) == ["Beside.", "One", "Three", "Two"]
    assert desk.llmock.requests == []


@checks("POST /conversations/{id}/completions")
async def create_turn(desk: Desk) -> None:
    desk.llmock.reply("Hi!").reply("Well.")
    talk = await start_talk(desk.owner, "Hello", "Hi!")
    body = {
        "content": "And now?", "model": OPENAI, "parent_id": talk["active_leaf_id"], "temperature": 0.3,
        "max_tokens": 50, "stream": False, "on_conflict": "reject",
    }  # fmt: skip
    path = f"/conversations/{talk['id']}/completions"
    answer = await call(desk.owner, "POST", path, body, expect=201)
    assert (answer["conversation_id"], answer["content"]) == (talk["id"], "Hi!")
    assert [m["content"] for m in desk.llmock.last_request.body["messages"]] == ["Hello", "Hi!", "And now?"]
    watched = await desk.owner.post(path, json={"content": "So?", "stream": True})
    assert watched.headers["content-type"].startswith("text/event-stream")
    for choice in ("queue", "interrupt", "branch"):
        await call(desk.owner, "POST", path, {"content": "x", "on_conflict": choice}, expect=201)


@checks("POST /conversations/{id}/regenerate", "POST /conversations/{id}/fork", "POST /conversations/{id}/activate")
async def change_branches(desk: Desk) -> None:
    desk.llmock.reply("First.").reply("Second.")
    talk = (await start_talk(desk.owner))["id"]
    path = f"/conversations/{talk}"
    first = await ask(desk.owner, talk, "Well?")
    again = await call(desk.owner, "POST", f"{path}/regenerate", {}, expect=201)
    assert await branch(desk.owner, talk) == [("user", "Well?"), ("assistant", "Second.")]
    assert again["message_id"] != first["message_id"]
    chosen = {"message_id": first["message_id"]}
    switched = await call(desk.owner, "POST", f"{path}/activate", chosen, expect=200)
    assert switched["active_leaf_id"] == first["message_id"]
    copy = await call(desk.owner, "POST", f"{path}/fork", chosen, expect=201)
    assert await branch(desk.owner, copy["id"]) == [("user", "Well?"), ("assistant", "First.")]


@checks("GET /messages/{message_id}", "PATCH /messages/{message_id}", "DELETE /messages/{message_id}")
async def change_messages(desk: Desk) -> None:
    talk = await start_talk(desk.owner, "One", "Two")
    path = f"/messages/{talk['active_leaf_id']}"
    before = await call(desk.owner, "GET", path, expect=200)
    edited = await call(desk.owner, "PATCH", path, {"content": "Too"}, expect=200)
    assert (edited["parent_id"], edited["id"] != before["id"]) == (before["parent_id"], True)
    assert await call(desk.owner, "GET", path, expect=200) == before
    await call(desk.owner, "GET", "/messages/abc", expect=422)
    assert await call(desk.owner, "DELETE", f"/messages/{edited['id']}", expect=200) == {"deleted": 1}
    await call(desk.owner, "GET", f"/messages/{edited['id']}", expect=404)


@checks("POST /chat")
async def store_message(desk: Desk) -> None:
    line = {"role": "user", "content": "Remember the milk."}
    made = await call(desk.owner, "POST", "/chat", line, expect=201)
    assert made == {"received": line, "id": made["id"], "conversation_id": made["conversation_id"]}
    body = {"role": "assistant", "content": "I will.", "conversation_id": made["conversation_id"]}
    more = await call(desk.owner, "POST", "/chat", body, expect=201)
    assert (await call(desk.owner, "GET", f"/messages/{more['id']}", expect=200))["parent_id"] == made["id"]


@checks("GET /search")
async def search(desk: Desk) -> None:
    desk.llmock.reply("The ferry leaves at nine.")
    talk = (await start_talk(desk.owner))["id"]
    answer = await ask(desk.owner, talk, "When does it leave?")
    query = {
        "query": 'ferry "at nine" -winter', "provider": "openai", "role": "assistant", "conversation_id": str(talk),
        "since": "2000-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z", "skip": "0", "limit": "5",
    }  # fmt: skip
    page = (await desk.owner.get("/search", params=query)).json()
    [hit] = page["items"]
    assert (hit["id"], hit["conversation"]["id"]) == (answer["message_id"], talk)
    assert "<mark>ferry</mark>" in hit["snippet"]
    assert (await call(desk.owner, "GET", "/search?query=ferry%20-nine", expect=200))["items"] == []
    assert (await call(desk.people.other, "GET", "/search?query=ferry", expect=200))["items"] == []
    await call(desk.owner, "GET", "/search", expect=422)
    for odd in ("%22", "-", "(((", "a%20OR", "*", "%22%22%20--", "'%3B"):
        await call(desk.owner, "GET", f"/search?query={odd}", expect=200)
