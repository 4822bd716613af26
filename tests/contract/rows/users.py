"""Users, their keys, and what lies below them."""

from secrets import token_hex
from typing import Any

from tests.api.steps import OPENAI, ask_anew, call, start_talk
from tests.contract.desk import Desk, checks


@checks("GET /users")
async def list_users(desk: Desk) -> None:
    mark = token_hex(5)
    tags = [[f"a{mark}"], [f"a{mark}", f"b{mark}"]]
    made = [
        await call(desk.admin, "POST", "/users", {"username": f"{mark}-{n}", "tags": given}, expect=201)
        for n, given in enumerate(tags)
    ]
    page = await call(desk.admin, "GET", f"/users?tags=a{mark}&tags=b{mark}&q={mark}&skip=0&limit=5", expect=200)
    assert [one["id"] for one in page["items"]] == [made[1]["id"]]
    assert (await call(desk.admin, "GET", f"/users?tags=a{mark}", expect=200))["total"] == 2


@checks("POST /users")
async def create_user(desk: Desk) -> None:
    mark = token_hex(5)
    body = {
        "username": mark, "email": f"{mark}@example.org", "role": "user", "tags": ["x"], "external_id": f"crm-{mark}",
        "settings": {"theme": "dark"},
    }  # fmt: skip
    made = await call(desk.admin, "POST", "/users", body, expect=201)
    assert {name: made[name] for name in body} == {**body, "settings": made["settings"]}
    assert made["settings"]["theme"] == "dark"
    await call(desk.admin, "POST", "/users", {"username": mark}, expect=409)


@checks("GET /users/{user_id}")
async def get_user(desk: Desk) -> None:
    mine = await call(desk.owner, "GET", "/users/me", expect=200)
    assert await call(desk.owner, "GET", f"/users/{desk.people.owner_id}", expect=200) == mine
    await call(desk.owner, "GET", f"/users/{desk.people.other_id}", expect=404)


@checks("PUT /users/{user_id}")
async def put_user(desk: Desk) -> None:
    mark = token_hex(5)
    body: dict[str, Any] = {
        "user": {"username": mark, "email": f"{mark}@example.org"},
        "settings": {"notifications_enabled": False, "theme": "dark"},
    }
    changed = await call(desk.owner, "PUT", "/users/me", body, expect=200)
    assert (changed["username"], changed["email"]) == (mark, f"{mark}@example.org")
    assert changed["settings"] == body["settings"]
    for field in ("role", "tags", "budget"):
        await call(desk.owner, "PUT", "/users/me", {"user": {field: "admin"}}, expect=422)


@checks("PATCH /users/{user_id}")
async def patch_user(desk: Desk) -> None:
    path = f"/users/{desk.people.other_id}"
    changed = await call(desk.admin, "PATCH", path, {"role": "user", "tags": ["vip"], "disabled": True}, expect=200)
    assert (changed["role"], changed["tags"], changed["disabled"]) == ("user", ["vip"], True)
    limits = {"budgets": {"month": "0"}, "limits": {"streams": 5}, "disabled": False}
    await call(desk.admin, "PATCH", path, limits, expect=200)
    asked = {"model": OPENAI, "prompt": "Hello?"}
    refused = await call(desk.people.other, "POST", "/completions", asked, expect=429)
    assert refused["code"] == "limit_exceeded"


@checks("DELETE /users/{user_id}")
async def erase_user(desk: Desk) -> None:
    await ask_anew(desk.people.other, "Hello?")
    receipt = await call(desk.admin, "DELETE", f"/users/{desk.people.other_id}", expect=200)
    assert (receipt["erased"]["messages"], receipt["kept"]["ledger_entries"]) == (2, 1)
    await call(desk.admin, "GET", f"/users/{desk.people.other_id}", expect=404)


@checks(
    "GET /users/{user_id}/keys",
    "POST /users/{user_id}/keys",
    "POST /users/{user_id}/keys/{key_id}/rotate",
    "DELETE /users/{user_id}/keys/{key_id}",
)
async def change_keys(desk: Desk) -> None:
    made = await call(desk.owner, "POST", "/users/me/keys", {"name": "spare"}, expect=201)
    assert made["key"].startswith("evt_")
    path = f"/users/me/keys/{made['id']}"
    rotated = await call(desk.owner, "POST", f"{path}/rotate", {"overlap_seconds": 60}, expect=201)
    assert rotated["key"] != made["key"]
    old = {"Authorization": f"Bearer {made['key']}"}
    assert (await desk.people.anonymous.get("/users/me", headers=old)).status_code == 200
    page = await call(desk.owner, "GET", "/users/me/keys", expect=200)
    assert page["total"] == 3
    assert not [one for one in page["items"] if "key" in one or "hash" in one]
    await call(desk.owner, "DELETE", path, expect=204)
    assert (await desk.people.anonymous.get("/users/me", headers=old)).status_code == 401


@checks("GET /users/{user_id}/conversations")
async def list_conversations(desk: Desk) -> None:
    for title in ("b", "a", "c"):
        await start_talk(desk.owner, "Hello", title=title, tags=["x"])
    path = "/users/me/conversations"
    found = {}
    for sort in ("recent", "oldest", "title"):
        page = await call(desk.owner, "GET", f"{path}?skip=0&limit=5&sort={sort}", expect=200)
        found[sort] = [one["title"] for one in page["items"]]
    assert found == {"recent": ["c", "a", "b"], "oldest": ["b", "a", "c"], "title": ["a", "b", "c"]}
    chosen = await call(desk.owner, "GET", f"{path}?q=A&tags=x&archived=false", expect=200)
    [one] = chosen["items"]
    assert (one["title"], one["message_count"], "content" in one) == ("a", 1, False)
    assert {"active_at", "model"} <= one.keys()
    assert (await call(desk.owner, "GET", f"{path}?q=&tags=&archived=", expect=200))["total"] == 3


@checks(
    "POST /users/{user_id}/conversations",
    "GET /users/{user_id}/conversations/{conversation_id}",
    "PATCH /users/{user_id}/conversations/{conversation_id}",
    "DELETE /users/{user_id}/conversations/{conversation_id}",
)
async def change_conversations(desk: Desk) -> None:
    made = await call(desk.owner, "POST", "/users/me/conversations", {"title": "Ours"}, expect=201)
    path, same = f"/users/me/conversations/{made['id']}", f"/conversations/{made['id']}"
    assert await call(desk.owner, "GET", path, expect=200) == await call(desk.owner, "GET", same, expect=200)
    assert (await call(desk.owner, "PATCH", path, {"title": "Mine"}, expect=200))["title"] == "Mine"
    await call(desk.people.other, "GET", f"/users/{desk.people.owner_id}{same}", expect=404)
    await call(desk.owner, "DELETE", path, expect=204)
    await call(desk.owner, "GET", same, expect=404)


@checks("GET /users/{user_id}/messages")
async def list_messages(desk: Desk) -> None:
    await start_talk(desk.owner, "One", "Two")
    found = []
    for sort in ("recent", "oldest"):
        page = await call(desk.owner, "GET", f"/users/me/messages?skip=0&limit=5&sort={sort}", expect=200)
        found.append([one["content"] for one in page["items"]])
    assert found[0] == found[1][::-1]
    assert sorted(found[0]) == ["One", "Two"]


@checks("GET /users/{user_id}/completions")
async def list_completions(desk: Desk) -> None:
    await ask_anew(desk.owner, "Hello?", temperature=0.5)
    path = f"/users/{desk.people.owner_id}/completions"
    mine = await call(desk.admin, "GET", f"{path}?temperature=0.5&status=completed", expect=200)
    assert mine == await call(desk.owner, "GET", "/completions?temperature=0.5&status=completed", expect=200)
    assert mine["total"] == 1


@checks("GET /users/{user_id}/usage")
async def get_usage(desk: Desk) -> None:
    await ask_anew(desk.owner, "Hello?")
    path = f"/users/{desk.people.owner_id}/usage?group_by=model&bucket=day"
    mine = await call(desk.admin, "GET", path, expect=200)
    assert mine == await call(desk.owner, "GET", "/usage?group_by=model&bucket=day", expect=200)


@checks("GET /users/{user_id}/export")
async def export(desk: Desk) -> None:
    await start_talk(desk.owner, "Take me along", "Yes.")
    for form in ("ndjson", "chatgpt"):
        reply = await desk.owner.get(f"/users/me/export?format={form}")
        assert reply.status_code == 200
        assert "Take me along" in reply.text
        assert "content-length" not in reply.headers, "it is streamed"
    lines = await desk.owner.get("/users/me/export?format=ndjson")
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert all(line.startswith("{") and line.endswith("}") for line in lines.text.splitlines())
