"""Keys over HTTP: shown once, listed, rotated with overlap, revoked."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.api.steps import Json, call
from tests.conftest import People

PATH = "/users/me/keys"


async def use(people: People, key: str) -> int:
    """The status of a request with this key."""
    return (await people.anonymous.get("/users/me", headers={"x-api-key": key})).status_code


async def test_the_secret_is_shown_once(people: People) -> None:
    ends = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    body = {"name": "laptop", "scopes": ["read", "write"], "expires_at": ends}
    reply = await people.owner.post(PATH, json=body)
    made = reply.json()
    assert reply.status_code == 201
    assert reply.headers["cache-control"] == "no-store"
    assert made["key"].startswith(f"evt_{made['id']}_")
    assert (made["name"], made["kind"], made["scopes"]) == ("laptop", "user", ["read", "write"])
    assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(ends)
    page = await people.owner.get(PATH)
    secret = made.pop("key")
    assert secret not in page.text
    assert made in page.json()["items"]
    assert await use(people, secret) == 200


async def test_a_key_gives_no_more_than_it_has(people: People) -> None:
    narrow = await call(people.owner, "POST", PATH, {"scopes": ["read", "write"]}, expect=201)
    people.owner.headers["Authorization"] = f"Bearer {narrow['key']}"
    await call(people.owner, "POST", PATH, {"scopes": ["complete"]}, expect=403)
    await call(people.owner, "POST", PATH, {"scopes": ["read"], "kind": "service"}, expect=403)
    await call(people.owner, "POST", PATH, {"scopes": ["read"], "kind": "admin"}, expect=403)
    assert (await call(people.owner, "POST", PATH, {"scopes": ["read"]}, expect=201))["scopes"] == ["read"]


async def test_an_admin_key_belongs_to_an_admin(people: People) -> None:
    problem = await call(people.admin, "POST", f"/users/{people.owner_id}/keys", {"kind": "admin"}, expect=422)
    assert problem["detail"][0]["loc"] == ["body", "kind"]
    await call(people.admin, "POST", f"/users/{2**53 - 1}/keys", {}, expect=404)


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "root"},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"scopes": ["provision"]},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00Z"},
        {"expires_at": "2027-01-01T00:00:00"},
        {"name": "x" * 101},
        {"secret": "mine"},
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(people: People, body: Json) -> None:
    await call(people.admin, "POST", f"/users/{people.owner_id}/keys", body, expect=422)


async def test_revoking_twice_is_no_error(people: People) -> None:
    made = await call(people.owner, "POST", PATH, {}, expect=201)
    assert await use(people, made["key"]) == 200
    await call(people.owner, "DELETE", f"{PATH}/{made['id']}", expect=204)
    assert await use(people, made["key"]) == 401
    first = next(key for key in (await call(people.owner, "GET", PATH, expect=200))["items"] if key["id"] == made["id"])
    assert first["revoked_at"]
    await call(people.owner, "DELETE", f"{PATH}/{made['id']}", expect=204)
    assert first in (await call(people.owner, "GET", PATH, expect=200))["items"]
    await call(people.owner, "DELETE", f"{PATH}/{2**53 - 1}", expect=404)


async def test_a_rotated_key_stays_for_the_overlap(people: People) -> None:
    old = await call(people.owner, "POST", PATH, {"name": "laptop", "scopes": ["read", "write"]}, expect=201)
    new = await call(people.owner, "POST", f"{PATH}/{old['id']}/rotate", {"overlap_seconds": 3600}, expect=201)
    assert (new["name"], new["scopes"]) == (old["name"], old["scopes"])
    assert [await use(people, key["key"]) for key in (old, new)] == [200, 200]
    items = (await call(people.owner, "GET", PATH, expect=200))["items"]
    kept = next(key for key in items if key["id"] == old["id"])
    assert kept["rotated_to"] == new["id"]
    left = datetime.fromisoformat(kept["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=58) < left < timedelta(minutes=61)
    await call(people.owner, "POST", f"{PATH}/{old['id']}/rotate", {}, expect=409)
    last = await call(people.owner, "POST", f"{PATH}/{new['id']}/rotate", {"overlap_seconds": 0}, expect=201)
    assert [await use(people, key["key"]) for key in (old, new, last)] == [200, 401, 200]


async def test_rotation_without_a_body_overlaps_a_day(people: People) -> None:
    old = await call(people.owner, "POST", PATH, {}, expect=201)
    reply = await people.owner.post(f"{PATH}/{old['id']}/rotate")
    assert reply.status_code == 201
    items = (await call(people.owner, "GET", PATH, expect=200))["items"]
    kept = next(key for key in items if key["id"] == old["id"])
    assert datetime.fromisoformat(kept["expires_at"]) - datetime.now(UTC) > timedelta(hours=23)
    await call(people.owner, "POST", f"{PATH}/{2**53 - 1}/rotate", {}, expect=404)
    await call(people.owner, "POST", f"{PATH}/{old['id']}/rotate", {"overlap_seconds": -1}, expect=422)
