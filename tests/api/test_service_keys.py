"""Keys of a frontend's own server: they act for the ordinary user that a path or Everturn-User names."""

from collections.abc import AsyncIterator
from secrets import token_hex

import httpx2
import pytest

from tests.api.steps import ask_anew, call
from tests.conftest import People, Running


@pytest.fixture
async def server(people: People, running_service: Running) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a service key that may make users of unknown external ids."""
    async with httpx2.AsyncClient(base_url=running_service.url, timeout=30, verify=False) as client:
        await _use_key(people, client, kind="service", scopes=["read", "write", "complete", "provision"])
        yield client


@pytest.mark.usefixtures("llmock")
async def test_it_acts_for_the_user_that_a_header_names(people: People, server: httpx2.AsyncClient) -> None:
    server.headers["Everturn-User"] = str(people.owner_id)
    answer = await ask_anew(server, "Hello?")
    shown = await call(people.owner, "GET", f"/completions/{answer['completion_id']}", expect=200)
    assert shown["user_id"] == people.owner_id
    assert (await call(server, "GET", "/users/me", expect=200))["id"] == people.owner_id
    await call(people.other, "GET", f"/conversations/{answer['conversation_id']}", expect=404)


async def test_it_acts_for_the_user_that_a_path_names(people: People, server: httpx2.AsyncClient) -> None:
    made = await call(server, "POST", f"/users/{people.owner_id}/conversations", {"title": "Ours"}, expect=201)
    assert made["user_id"] == people.owner_id
    await call(people.owner, "GET", f"/conversations/{made['id']}", expect=200)


@pytest.mark.parametrize("path", ["/conversations", "/completions", "/users/me", "/users/me/keys"])
async def test_without_a_user_it_is_told_to_name_one(server: httpx2.AsyncClient, path: str) -> None:
    problem = await call(server, "GET", path, expect=400)
    assert problem["code"] == "bad_request"
    assert "Everturn-User" in problem["detail"]


@pytest.mark.parametrize("value", ["", "0", "-1", "abc", "ext:", "9007199254740992", "1 2", "ext:" + "x" * 201])
async def test_a_user_that_cannot_be_is_refused(server: httpx2.AsyncClient, value: str) -> None:
    reply = await server.get("/conversations", headers={"Everturn-User": value})
    assert reply.status_code == 400


async def test_an_unknown_external_id_becomes_one_user_on_first_use(people: People, server: httpx2.AsyncClient) -> None:
    external = f"kunde-ä-{token_hex(4)}"
    named = {b"Everturn-User": f"ext:{external}".encode()}
    made = [(await server.post("/conversations", json={}, headers=named)).json() for _ in range(2)]
    assert made[0]["user_id"] == made[1]["user_id"]
    user = await call(people.admin, "GET", f"/users/{made[0]['user_id']}", expect=200)
    assert (user["external_id"], user["role"]) == (external, "user")


async def test_without_the_scope_an_unknown_external_id_is_not_found(
    people: People, server: httpx2.AsyncClient
) -> None:
    await _use_key(people, server, kind="service", scopes=["read", "write", "complete"])
    reply = await server.get("/conversations", headers={"Everturn-User": f"ext:nobody-{token_hex(4)}"})
    assert reply.status_code == 404


async def test_it_does_not_act_for_admins_nor_for_the_disabled(people: People, server: httpx2.AsyncClient) -> None:
    boss = await call(people.admin, "POST", "/users", {"username": f"boss-{token_hex(4)}", "role": "admin"}, expect=201)
    reply = await server.get("/conversations", headers={"Everturn-User": str(boss["id"])})
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    await call(server, "GET", f"/users/{boss['id']}", expect=404)
    await call(people.admin, "PATCH", f"/users/{people.other_id}", {"disabled": True}, expect=200)
    assert (await server.get("/users/me", headers={"Everturn-User": str(people.other_id)})).status_code == 403


async def test_it_makes_no_stronger_keys(people: People, server: httpx2.AsyncClient) -> None:
    path = f"/users/{people.owner_id}/keys"
    for kind in ("service", "admin"):
        await call(server, "POST", path, {"kind": kind}, expect=403)
    assert (await call(server, "POST", path, {"name": "theirs"}, expect=201))["kind"] == "user"
    await call(server, "GET", "/users", expect=403)


async def test_a_user_key_acts_for_its_owner_only(people: People) -> None:
    own = {"Everturn-User": str(people.owner_id)}
    assert (await people.owner.get("/conversations", headers=own)).status_code == 200
    for value in (str(people.other_id), "ext:x"):
        assert (await people.owner.get("/conversations", headers={"Everturn-User": value})).status_code == 403


@pytest.mark.parametrize(
    ("scopes", "method", "path", "body"),
    [
        (["write", "complete"], "GET", "/conversations", None),
        (["read", "complete"], "POST", "/conversations", {}),
        (["read", "write"], "POST", "/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
    ],
)
async def test_a_key_does_what_its_scopes_say(
    people: People, scopes: list[str], method: str, path: str, body: object
) -> None:
    await _use_key(people, people.owner, kind="user", scopes=scopes)
    problem = await call(people.owner, method, path, body, expect=403)
    assert problem["code"] == "forbidden"


async def test_every_spelling_of_the_key_works(people: People) -> None:
    token = people.owner.headers["Authorization"].removeprefix("Bearer ")
    for name, value in (
        ("authorization", f"bearer {token}"),
        ("AUTHORIZATION", f"Bearer  {token}"),
        ("X-Api-Key", token),
    ):
        assert (await people.anonymous.get("/users/me", headers={name: value})).status_code == 200
    for headers in (
        {"Authorization": token},
        {"Authorization": f"Basic {token}"},
        {"x-api-key": token[:-1]},
        {"x-api-key": ""},
    ):
        reply = await people.anonymous.get("/users/me", headers=headers)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.json()["code"] == "unauthenticated"


async def _use_key(people: People, client: httpx2.AsyncClient, **draft: object) -> None:
    """Give a client another key, which an admin makes for the owner's account."""
    made = await call(people.admin, "POST", f"/users/{people.owner_id}/keys", draft, expect=201)
    client.headers["Authorization"] = f"Bearer {made['key']}"
