"""Requests that create something, sent again: the same Idempotency-Key makes it once, whoever asks how often."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import httpx2
import pytest

from tests.api.steps import OPENAI, Json, call, start_talk
from tests.conftest import People

LINE: Json = {"role": "user", "content": "Hello?"}


@dataclass(frozen=True, slots=True)
class Making:
    """A request that makes something, another body for it, and where what it makes is counted."""

    path: str
    body: Json
    other: Json
    count: str
    admin: bool = False


MAKINGS = {
    "user": Making("/users", {"username": "{mark}"}, {"username": "{mark}2"}, "/users?q={mark}", True),
    "model": Making(
        "/models",
        {"id": "once-{mark}", "provider": "openai"},
        {"id": "once-{mark}", "provider": "anthropic"},
        "/models?limit=100&provider=openai",
        True,
    ),
    "conversation": Making("/conversations", {"title": "One"}, {"title": "Two"}, "/conversations"),
    "below-user": Making("/users/me/conversations", {"title": "One"}, {"title": "Two"}, "/conversations"),
    "history": Making("/conversation", {"messages": [LINE]}, {"messages": [LINE, LINE]}, "/users/me/messages"),
    "message": Making("/conversations/{talk}/messages", LINE, {**LINE, "content": "No."}, "/users/me/messages"),
    "chat": Making("/chat", LINE, {**LINE, "content": "No."}, "/conversations"),
    "chat-there": Making(
        "/chat",
        {**LINE, "conversation_id": "{talk}"},
        {**LINE, "content": "No.", "conversation_id": "{talk}"},
        "/users/me/messages",
    ),
    "fork": Making("/conversations/{talk}/fork", {}, {"title": "Other"}, "/conversations"),
}
SECRETS = {
    "key": Making("/users/me/keys", {"name": "one"}, {"name": "two"}, "/users/me/keys"),
    "rotated": Making("/users/me/keys/{key}/rotate", {}, {"overlap_seconds": 5}, "/users/me/keys"),
}


@dataclass(frozen=True, slots=True)
class Shelf:
    """Somebody with a conversation and a key, and a making whose placeholders are filled."""

    client: httpx2.AsyncClient
    making: Making

    async def send(self, body: Json, key: str | None) -> httpx2.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return await self.client.post(self.making.path, json=body, headers=headers)

    async def total(self) -> int:
        """How many there are, of names that other tests do not use."""
        page = await call(self.client, "GET", self.making.count, expect=200)
        return len([one for one in page["items"] if "provider" not in one or one["id"].startswith("once-")])


async def shelf(people: People, making: Making) -> Shelf:
    talk = (await start_talk(people.owner, "Hello", "Hi!"))["id"]
    spare = (await call(people.owner, "POST", "/users/me/keys", {}, expect=201))["id"]
    names = {"{mark}": token_hex(5), "{talk}": talk, "{key}": spare}
    client = people.admin if making.admin else people.owner
    filled = Making(*(_filled(getattr(making, name), names) for name in Making.__slots__))
    return Shelf(client, filled)


def _filled(part: Any, names: dict[str, Any]) -> Any:
    if isinstance(part, dict):
        return {name: _filled(value, names) for name, value in part.items()}
    if isinstance(part, str):
        if part in names:
            return names[part]
        for name, value in names.items():
            part = part.replace(name, str(value))
    return part


@pytest.mark.parametrize("name", MAKINGS)
async def test_sent_again_it_gets_the_same_answer(people: People, name: str) -> None:
    here = await shelf(people, MAKINGS[name])
    key, before = token_hex(8), await here.total()
    first, again = [await here.send(here.making.body, spelled) for spelled in (key, f'"{key}"')]
    assert (first.status_code, again.status_code) == (201, 201), first.text + again.text
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    refused = await here.send(here.making.other, key)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_mismatch")
    assert await here.total() == before + 1


@pytest.mark.parametrize("name", [*MAKINGS, *SECRETS])
async def test_twenty_at_once_make_one(people: People, name: str) -> None:
    here = await shelf(people, {**MAKINGS, **SECRETS}[name])
    key, before = token_hex(8), await here.total()
    replies = await asyncio.gather(*(here.send(here.making.body, key) for _ in range(20)))
    statuses = Counter(reply.status_code for reply in replies)
    if name in SECRETS:
        assert statuses == {201: 1, 409: 19}
    else:
        assert statuses == {201: 20}, [reply.text for reply in replies if reply.status_code != 201][:3]
        assert len({reply.text for reply in replies}) == 1
        assert Counter(reply.headers.get("idempotency-replayed") for reply in replies) == {"true": 19, None: 1}
    assert await here.total() == before + 1


@pytest.mark.parametrize("name", SECRETS)
async def test_a_secret_is_neither_kept_nor_said_again(people: People, name: str) -> None:
    here = await shelf(people, SECRETS[name])
    key = token_hex(8)
    first, again = await here.send(here.making.body, key), await here.send(here.making.body, key)
    assert first.json()["key"].startswith("evt_")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert "evt_" not in again.text
    assert (await here.send(here.making.other, key)).status_code == 422
    assert (await here.send(here.making.body, None)).status_code == (409 if name == "rotated" else 201)


async def test_a_key_is_its_users_own(people: People) -> None:
    key = {"Idempotency-Key": token_hex(8)}
    made = [await client.post("/conversations", json={}, headers=key) for client in (people.owner, people.other)]
    assert [reply.status_code for reply in made] == [201, 201]
    assert made[0].json()["id"] != made[1].json()["id"]
    acting = {**key, "Everturn-User": str(people.owner_id)}
    again = await people.admin.post("/conversations", json={}, headers=acting)
    assert (again.json(), again.headers["idempotency-replayed"]) == (made[0].json(), "true")


async def test_without_a_key_everything_is_made_again(people: People) -> None:
    here = await shelf(people, MAKINGS["chat"])
    assert len({(await here.send(here.making.body, None)).json()["id"] for _ in range(2)}) == 2


async def test_a_request_that_failed_may_be_sent_again(people: People) -> None:
    key = {"Idempotency-Key": token_hex(8)}
    name = token_hex(5)
    taken = await call(people.admin, "POST", "/users", {"username": name}, expect=201)
    for _ in range(2):
        assert (await people.admin.post("/users", json={"username": name}, headers=key)).status_code == 409
    await call(people.admin, "DELETE", f"/users/{taken['id']}", expect=200)
    made = await people.admin.post("/users", json={"username": name}, headers=key)
    assert (made.status_code, made.json()["username"]) == (201, name)
    for path, body in (("/conversations/9007199254740991/messages", LINE), ("/chat", {**LINE, "role": "x"})):
        assert (await people.owner.post(path, json=body, headers=key)).status_code in (404, 422)
    assert (await people.owner.post("/chat", json=LINE, headers=key)).status_code == 201


@pytest.mark.parametrize("key", ["", '" "', '""', "a\tb", "x" * 256])
async def test_what_is_no_key_is_refused(people: People, key: str) -> None:
    reply = await people.owner.post("/conversations", json={}, headers={"Idempotency-Key": key})
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_request")


async def test_a_turn_and_a_creation_do_not_share_a_key(people: People) -> None:
    key = {"Idempotency-Key": token_hex(8)}
    body = {"model": OPENAI, "prompt": "Hello?"}
    assert (await people.owner.post("/completions", json=body, headers=key)).status_code == 201
    assert (await people.owner.post("/conversations", json={}, headers=key)).status_code == 422
    other = {"Idempotency-Key": token_hex(8)}
    assert (await people.owner.post("/conversations", json={}, headers=other)).status_code == 201
    assert (await people.owner.post("/completions", json=body, headers=other)).status_code == 422


async def test_a_fork_is_told_again_when_its_source_is_gone(people: People) -> None:
    talk = (await start_talk(people.owner, "Hello?", "Hi!"))["id"]
    named = {"Idempotency-Key": token_hex(8)}
    made = await people.owner.post(f"/conversations/{talk}/fork", json={}, headers=named)
    await call(people.owner, "DELETE", f"/conversations/{talk}", expect=204)
    again = await people.owner.post(f"/conversations/{talk}/fork", json={}, headers=named)
    assert (again.status_code, again.json()) == (201, made.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await people.owner.post(f"/conversations/{talk}/fork", json={"title": "Other"}, headers=named)
    assert other.status_code == 422
    assert (await people.owner.post(f"/conversations/{talk}/fork", json={})).status_code == 404
