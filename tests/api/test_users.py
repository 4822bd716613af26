"""Users over HTTP: made, found, changed, governed and erased."""

from secrets import token_hex

import httpx2
import pytest

from tests.api.steps import Json, ask_anew, call, start_talk
from tests.conftest import People


def draft(**fields: object) -> Json:
    return {"username": f"Ada {token_hex(5)}", **fields}


async def test_a_user_comes_back_as_made(people: People) -> None:
    body = draft(email=f"Ada-{token_hex(4)}@example.org", tags=["b", "a"], external_id=f"crm-{token_hex(4)}")
    body["settings"] = {"theme": "dark"}
    reply = await people.admin.post("/users", json=body)
    assert reply.status_code == 201
    made = reply.json()
    assert reply.headers["location"] == f"/users/{made['id']}"
    expected = {**body, "tags": ["a", "b"], "settings": {"notifications_enabled": True, "theme": "dark"}}
    assert {name: made[name] for name in body} == expected
    assert (made["role"], made["disabled"]) == ("user", False)
    assert await call(people.admin, "GET", f"/users/{made['id']}", expect=200) == made


@pytest.mark.parametrize("field", ["username", "email", "external_id"])
async def test_what_is_taken_is_a_409_that_says_so(people: People, field: str) -> None:
    first = draft(email=f"x{token_hex(4)}@example.org", external_id=f"e-{token_hex(4)}")
    await call(people.admin, "POST", "/users", first, expect=201)
    taken = first[field] if field == "external_id" else first[field].upper()
    problem = await call(people.admin, "POST", "/users", draft(**{field: taken}), expect=409)
    assert (problem["code"], problem["field"]) == ("duplicate", field)
    if field != "external_id":
        problem = await call(people.owner, "PUT", "/users/me", {"user": {field: taken}}, expect=409)
        assert problem["field"] == field


async def test_they_are_found_by_tags_and_part_of_the_name(people: People) -> None:
    mark = token_hex(6)
    for name, tags in ((f"{mark} Ada", [mark, "x"]), (f"{mark} 100%", [mark])):
        await call(people.admin, "POST", "/users", {"username": name, "tags": tags}, expect=201)
    for query, expected in (
        (f"tags={mark}", 2),
        (f"tags={mark}&tags=x", 1),
        (f"q={mark.upper()}", 2),
        (f"q={mark} 100%25", 1),
    ):
        page = await call(people.admin, "GET", f"/users?{query}", expect=200)
        assert page["total"] == len(page["items"]) == expected, query


async def test_users_change_their_own_account_and_settings(people: People) -> None:
    name, mail = f"New {token_hex(4)}", f"n{token_hex(4)}@example.org"
    body = {"user": {"username": name, "email": mail}, "settings": {"notifications_enabled": False, "theme": "dark"}}
    changed = await call(people.owner, "PUT", f"/users/{people.owner_id}", body, expect=200)
    assert (changed["username"], changed["email"]) == (name, mail)
    assert changed["settings"] == body["settings"]
    kept = await call(people.owner, "PUT", "/users/me", {"settings": {"theme": "light"}}, expect=200)
    assert (kept["username"], kept["settings"]) == (name, {"notifications_enabled": False, "theme": "light"})
    cleared = await call(people.owner, "PUT", "/users/me", {"user": {"email": None}}, expect=200)
    assert (cleared["email"], cleared["username"]) == (None, name)


@pytest.mark.parametrize("extra", [{"role": "admin"}, {"tags": ["vip"]}, {"budget_usd": "1"}, {"disabled": False}])
async def test_what_an_admin_governs_users_cannot_write(people: People, extra: Json) -> None:
    for body in (extra, {"user": extra}, {"settings": extra}):
        await call(people.owner, "PUT", "/users/me", body, expect=422)
    shown = await call(people.owner, "GET", "/users/me", expect=200)
    assert (shown["role"], shown["tags"], shown["disabled"]) == ("user", [], False)


async def test_a_disabled_users_key_stops_and_starts_again(people: People) -> None:
    path = f"/users/{people.owner_id}"
    assert (await call(people.admin, "PATCH", path, {"disabled": True}, expect=200))["disabled"] is True
    assert (await call(people.owner, "GET", "/users/me", expect=401))["code"] == "unauthenticated"
    changed = await call(people.admin, "PATCH", path, {"disabled": False, "tags": ["vip"]}, expect=200)
    assert changed["tags"] == ["vip"]


async def test_an_admins_key_falls_with_the_role(people: People) -> None:
    await call(people.admin, "PATCH", f"/users/{people.owner_id}", {"role": "admin"}, expect=200)
    path = f"/users/{people.owner_id}/keys"
    key = (await call(people.admin, "POST", path, {"kind": "admin"}, expect=201))["key"]
    people.anonymous.headers["x-api-key"] = key
    await call(people.anonymous, "GET", "/users", expect=200)
    await call(people.admin, "PATCH", f"/users/{people.owner_id}", {"role": "user"}, expect=200)
    await call(people.anonymous, "GET", "/users", expect=403)


@pytest.mark.usefixtures("llmock")
async def test_erasure_gives_a_receipt_and_keeps_the_ledger(people: People) -> None:
    owner = people.owner
    await start_talk(owner, "Hello", "Hi!", tags=["x"])
    answer = await ask_anew(owner, "Do you forget?")
    receipt = await call(owner, "DELETE", "/users/me", expect=200)
    erased = receipt["erased"]
    assert receipt["user_id"] == people.owner_id
    assert {name: erased[name] for name in ("conversations", "messages", "completions", "attempts", "keys")} == {
        "conversations": 2, "messages": 4, "completions": 1, "attempts": 1, "keys": 1,
    }  # fmt: skip
    assert receipt["kept"] == {"ledger_entries": 1}
    await call(owner, "GET", "/users/me", expect=401)
    await call(people.admin, "GET", f"/users/{people.owner_id}", expect=404)
    await call(people.admin, "GET", f"/completions/{answer['completion_id']}", expect=404)
    await call(people.admin, "DELETE", f"/users/{people.owner_id}", expect=404)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", ""),
        ("username", " x"),
        ("username", "x" * 101),
        ("username", "a\nb"),
        ("email", "nobody"),
        ("email", "a b@example.org"),
        ("role", "root"),
        ("tags", [""]),
        ("tags", ["x"] * 33),
        ("external_id", "x" * 201),
        ("settings", {"colour": "red"}),
        ("password", "secret"),
    ],
)
async def test_an_account_that_cannot_be_is_refused(people: People, field: str, value: object) -> None:
    problem = await call(people.admin, "POST", "/users", draft(**{field: value}), expect=422)
    assert problem["detail"][0]["loc"][:2] == ["body", field]


async def test_admins_find_themselves(people: People) -> None:
    me = await call(people.admin, "GET", "/users/me", expect=200)
    assert me["role"] == "admin"
    assert await call(people.admin, "GET", f"/users/{me['id']}", expect=200) == me


async def test_every_answer_has_its_number_and_its_time(http: httpx2.AsyncClient) -> None:
    given = await http.get("/users/me", headers={"X-Request-ID": "front-end.7_a"})
    assert given.headers["x-request-id"] == "front-end.7_a"
    for headers in ({}, {"X-Request-ID": "not sane!"}, {"X-Request-ID": "x" * 65}):
        reply = await http.get("/users/me", headers=headers)
        assert len(reply.headers["x-request-id"]) == 32
        assert reply.headers["server-timing"].startswith("total;dur=")
