"""The contract's paragraphs: lists, whose data, and every answer."""

import json
from typing import Any

import httpx2
import pytest

from tests.api.steps import OPENAI, Json, ask_anew, call
from tests.conftest import People
from tests.contract.page import PAGE
from tests.servers.service import ROOT

DESCRIBED: Json = json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))
TEXT = PAGE.read_text("utf-8")
ENVELOPE = {"items", "total", "skip", "limit", "next_cursor"}


def _is_list(operation: Json) -> bool:
    schema = (
        operation.get("responses", {}).get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    )
    return "PageOf" in schema.get("$ref", "")


LISTS = [path for path, operations in DESCRIBED["paths"].items() if _is_list(operations.get("get", {}))]
BODIES = [
    (method, path, operation)
    for path, operations in DESCRIBED["paths"].items()
    for method, operation in operations.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
]


def test_the_paragraphs_are_those_that_are_tried_here() -> None:
    assert [title for title in ("Lists", "Whose data", "Every answer") if f"## {title}\n" not in TEXT] == []
    assert len(LISTS) >= 10


async def things(people: People) -> dict[str, str]:
    """One of each kind of thing of the owner's, by the name that it has in paths."""
    made = await ask_anew(people.owner, "Hello?", model=OPENAI)
    return {
        "{user_id}": "me",
        "{conversation_id}": str(made["conversation_id"]),
        "{completion_id}": str(made["completion_id"]),
        "{message_id}": str(made["message_id"]),
        "{model_id}": OPENAI,
    }


@pytest.mark.parametrize("template", LISTS)
@pytest.mark.usefixtures("llmock")
async def test_a_list_answers_as_every_list_does(people: People, template: str) -> None:
    path = template
    for name, value in (await things(people)).items():
        path = path.replace(name, value)
    client = people.admin if template == "/users" else people.owner
    needed = {"query": "Hello"} if template == "/search" else {}
    reply = await client.get(path, params=needed)
    page = reply.json()
    assert reply.status_code == 200, reply.text
    assert page.keys() >= ENVELOPE
    assert (page["skip"], page["limit"]) == (0, 10 if template.startswith("/models") else 20)
    assert reply.headers["x-total-count"] == str(page["total"])
    assert 'rel="first"' in reply.headers["link"]
    second = await client.get(path, params={**needed, "skip": 1, "limit": 1})
    assert 'rel="prev"' in second.headers["link"]
    assert len(second.json()["items"]) <= 1
    await _check_bad_values(client, path, needed)
    await _check_cursors(client, path, needed)


async def _check_bad_values(client: httpx2.AsyncClient, path: str, needed: dict[str, Any]) -> None:
    for wrong in ({"skip": -1}, {"skip": "x"}, {"limit": 0}, {"limit": 101}):
        reply = await client.get(path, params={**needed, **wrong})
        assert reply.status_code == 422, f"{path} {wrong}"
    assert (await client.get(path, params={**needed, "limit": 100})).status_code == 200
    assert (await client.get(path, params={**needed, "cursor": "AAAA"})).status_code == 400


async def _check_cursors(client: httpx2.AsyncClient, path: str, needed: dict[str, Any]) -> None:
    first = (await client.get(path, params={**needed, "limit": 1})).json()
    if first["total"] < 2:
        assert first["next_cursor"] is None
        return
    cursor = first["next_cursor"]
    following = await client.get(path, params={**needed, "limit": 1, "cursor": cursor})
    assert following.json()["total"] is None
    assert (
        following.json()["items"] == (await client.get(path, params={**needed, "limit": 1, "skip": 1})).json()["items"]
    )
    assert "x-total-count" not in following.headers
    back = await client.get(path, params={**needed, "limit": 1, "cursor": following.json()["prev_cursor"]})
    assert back.json()["items"] == first["items"]
    tampered = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    assert (await client.get(path, params={**needed, "cursor": tampered})).status_code == 400


@pytest.mark.parametrize(("method", "path", "operation"), BODIES, ids=[f"{m.upper()} {p}" for m, p, _ in BODIES])
def test_unknown_body_fields_are_refused(method: str, path: str, operation: Json) -> None:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    for choice in schema.get("anyOf", [schema]):
        if "$ref" in choice:
            known = DESCRIBED["components"]["schemas"][choice["$ref"].rpartition("/")[2]]
            assert known.get("additionalProperties") is False, f"{method} {path} takes any field"


@pytest.mark.usefixtures("llmock")
async def test_whose_data_a_key_reaches(people: People) -> None:
    made = await ask_anew(people.owner, "Mine?", model=OPENAI)
    path = f"/conversations/{made['conversation_id']}"
    await call(people.owner, "GET", path, expect=200)
    await call(people.other, "GET", path, expect=404)
    key = await call(
        people.admin,
        "POST",
        "/users/me/keys",
        {"kind": "service", "scopes": ["read", "write", "provision"]},
        expect=201,
    )
    service = {"Authorization": f"Bearer {key['key']}"}
    for header, status in (
        (str(people.owner_id), 200),
        (str(people.other_id), 404),
        ("ext:nobody-yet", 404),
        ("", 400),
    ):
        named = {"Everturn-User": header} if header else {}
        assert (await people.anonymous.get(path, headers=service | named)).status_code == status, header
    # The unknown external id has become a user by being named.
    found = await call(people.admin, "GET", "/users?q=nobody-yet", expect=200)
    assert "nobody-yet" in {one["external_id"] for one in found["items"]}
    below = f"/users/{people.owner_id}/conversations/{made['conversation_id']}"
    assert (await people.anonymous.get(below, headers=service)).status_code == 200
    assert (await people.admin.get(path, headers={"Everturn-User": str(people.owner_id)})).status_code == 200


async def test_every_answer_has_its_headers(people: People) -> None:
    for path in ("/", "/conversations", "/conversations/abc", "/nowhere", "/users"):
        reply = await people.owner.get(path, headers={"X-Request-ID": "mine-1", "Origin": "https://elsewhere.example"})
        assert (reply.headers["x-request-id"], "server-timing" in reply.headers) == ("mine-1", True)
        assert "access-control-allow-origin" not in reply.headers
        insane = await people.owner.get(path, headers={"X-Request-ID": "not sane!"})
        assert insane.headers["x-request-id"] != "not sane!"
    await call(people.owner, "POST", "/conversations", {"colour": "red"}, expect=422)


async def test_who_is_over_a_limit_is_told_when_to_come_back(people: People) -> None:
    path = f"/users/{people.owner_id}"
    await call(people.admin, "PATCH", path, {"limits": {"requests_per_minute": 0}}, expect=200)
    reply = await people.owner.post("/completions", json={"model": OPENAI, "prompt": "Hello?"})
    assert reply.status_code == 429
    assert int(reply.headers["retry-after"]) > 0
    assert [name for name in reply.headers if name.startswith("ratelimit-")]
