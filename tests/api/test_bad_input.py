"""Input that cannot be right, to every endpoint that takes any: a clear 4xx, nothing stored, nothing broken."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.steps import OPENAI, Json, call, start_talk
from tests.conftest import People, Running

LINE = {"role": "user", "content": "Hello?"}
# The endpoints that take a body, each with one that it takes, and the path to a text in it.
BODIES: dict[str, tuple[Json, tuple[str | int, ...]]] = {
    "POST /users": ({"username": "ada"}, ("username",)),
    "PUT /users/me": ({"user": {"username": "ada"}}, ("user", "username")),
    "PATCH /users/{user}": ({"tags": ["a"]}, ("tags", 0)),
    "POST /users/me/keys": ({"name": "a"}, ("name",)),
    "POST /conversations": ({"title": "a"}, ("title",)),
    "POST /users/me/conversations": ({"metadata": {"a": {"b": "c"}}}, ("metadata", "a", "b")),
    "PATCH /conversations/{talk}": ({"system_prompt": "a"}, ("system_prompt",)),
    "POST /conversation": ({"messages": [LINE]}, ("messages", 0, "content")),
    "POST /conversations/{talk}/messages": (LINE, ("content",)),
    "PATCH /messages/{message}": ({"content": "a"}, ("content",)),
    "POST /chat": (LINE, ("content",)),
    "POST /chat/completions": ({"model": OPENAI, "messages": [LINE]}, ("messages", 0, "content")),
    "POST /chat/completions/stream": ({"model": OPENAI, "messages": [LINE]}, ("messages", 0, "content")),
    "POST /chat/stream": ({"model": OPENAI, "prompt": "a"}, ("prompt",)),
    "POST /conversations/{talk}/completions": ({"model": OPENAI, "content": "a"}, ("content",)),
}
REQUIRED = [
    name
    for name, (body, _) in BODIES.items()
    if set(body) & {"username", "content", "prompt", "messages"}
    and name != "POST /conversation"
    and not name.startswith("PATCH")
]
# Where null takes away what is there.
CLEARABLE = {("title",), ("system_prompt",), ("content",)}
FREE = ("metadata", "a", "b")
# What needs no body.
SPARE = {"POST /conversations", "POST /users/me/conversations"}
WITH_ID = [
    "GET /users/{id}",
    "GET /users/{id}/keys",
    "GET /users/{id}/conversations",
    "GET /users/me/conversations/{id}",
    "DELETE /users/me/keys/{id}",
    "POST /users/me/keys/{id}/rotate",
    "GET /conversations/{id}",
    "PATCH /conversations/{id}",
    "DELETE /conversations/{id}",
    "GET /conversations/{id}/messages",
    "POST /conversations/{id}/messages",
    "POST /conversations/{id}/completions",
    "GET /messages/{id}",
    "PATCH /messages/{id}",
    "DELETE /messages/{id}",
    "GET /completions/{id}",
]


@pytest.fixture
async def target(people: People) -> dict[str, object]:
    talk = await start_talk(people.owner, "Hello", "Hi!")
    return {"user": people.owner_id, "talk": talk["id"], "message": talk["active_leaf_id"]}


async def send(people: People, name: str, target: dict[str, object], data: bytes, **headers: str) -> httpx2.Response:
    method, _, path = name.partition(" ")
    client = people.admin if name in ("POST /users", "PATCH /users/{user}") else people.owner
    named = {"Content-Type": "application/json", **headers}
    return await client.request(method, path.format(**target), content=data, headers=named)


def refused(reply: httpx2.Response, status: int, code: str) -> Any:
    """The problem that a reply is; it must be one that a client can read."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == reply.headers["x-request-id"]
    return problem


@pytest.mark.parametrize("name", BODIES)
async def test_what_is_no_body_of_its_is_a_422_that_says_where(
    people: People, target: dict[str, object], name: str
) -> None:
    body, place = BODIES[name]
    for data, expected in malformed(body, place):
        if name in SPARE and data in (b"", b"null"):
            continue
        problem = refused(await send(people, name, target, data), 422, "unprocessable")
        assert problem["detail"][0]["loc"][: len(expected)] == list(expected), (data[:80], problem)
    await untouched(people, target)


def malformed(body: Json, place: tuple[str | int, ...]) -> Iterator[tuple[bytes, tuple[str | int, ...]]]:
    """Bodies that are none, and where the mistake is."""
    here = ("body", *place)
    whole = json.dumps(body).encode()
    for data in (b"[]", b'"x"', b"7", b"null", b"", b"{", whole[:-1], whole + b"}", b"\xff\xfe", b"{'a': 1}"):
        yield data, ("body",)
    yield json.dumps({**body, "nonsense": 1}).encode(), ("body", "nonsense")
    for value in (7, None, [1], {"a": 1}, True):
        if place != FREE and not (value is None and place in CLEARABLE):
            yield json.dumps(replaced(body, place, value)).encode(), here
    yield json.dumps(replaced(body, place, "nul \x00")).encode(), here
    yield raw(body, place, b'"\\ud800"'), ("body",)
    yield raw(body, place, b"NaN"), ("body",)
    yield raw(body, place, b"1e999"), ("body",)
    yield raw(body, place, b"[" * 100_000), ("body",)
    yield raw(body, place, b"[" * 5_000 + b"]" * 5_000), ("body",)


def replaced(value: Any, place: tuple[str | int, ...], new: object) -> Any:
    """A copy of a JSON value with something else at a place."""
    if not place:
        return new
    head, *rest = place
    copied: Any = list(value) if isinstance(value, list) else dict(value)
    copied[head] = replaced(value[head], tuple(rest), new)
    return copied


def raw(body: Json, place: tuple[str | int, ...], text: bytes) -> bytes:
    return json.dumps(replaced(body, place, "@@")).encode().replace(b'"@@"', text)


@pytest.mark.parametrize("name", REQUIRED)
async def test_what_is_missing_is_named(people: People, target: dict[str, object], name: str) -> None:
    body, place = BODIES[name]
    field = place[0]
    less = {key: value for key, value in body.items() if key != field}
    problem = refused(await send(people, name, target, json.dumps(less).encode()), 422, "unprocessable")
    assert (problem["detail"][0]["loc"], problem["detail"][0]["type"]) == (["body", field], "missing")


@pytest.mark.parametrize("name", BODIES)
async def test_what_is_too_large_or_no_json_is_refused(people: People, target: dict[str, object], name: str) -> None:
    body, place = BODIES[name]
    huge = json.dumps(replaced(body, place, "x" * 2_000_001)).encode()
    refused(await send(people, name, target, huge), 413, "body_too_large")
    long = json.dumps(replaced(body, place, "x" * 1_900_000)).encode()
    assert (await send(people, name, target, long)).status_code == (201 if place == FREE else 422)
    whole = json.dumps(body).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data; boundary=x"):
        reply = await send(people, name, target, whole, **{"Content-Type": kind})
        refused(reply, 415, "unsupported_media_type")


async def test_a_body_that_grows_too_large_is_cut_off(people: People) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 100_000

    reply = await people.owner.post("/chat", content=endless(), headers={"Content-Type": "application/json"})
    refused(reply, 413, "body_too_large")


@pytest.mark.parametrize("name", WITH_ID)
async def test_an_id_that_cannot_be_is_a_422_and_one_that_is_not_a_404(people: People, name: str) -> None:
    method, _, path = name.partition(" ")
    body = None if method in ("GET", "DELETE") else LINE
    if "PATCH" in name or "rotate" in name:
        body = {}
    if name.endswith("completions"):
        body = {"content": "Hello?", "model": OPENAI}
    for value in (0, -1, 2**53, "abc", "1.5", "1e3", "%20", "%EF%BC%91", "0x1", "9" * 400):
        reply = await people.owner.request(method, path.format(id=value), json=body)
        problem = refused(reply, 422, "unprocessable")
        assert problem["detail"][0]["loc"][0] == "path", (value, problem)
    refused(await people.owner.request(method, path.format(id="1%00"), json=body), 422, "unprocessable")
    refused(await people.owner.request(method, path.format(id=2**53 - 1), json=body), 404, "not_found")


@pytest.mark.parametrize(
    "query",
    ["temperature=nan", "temperature=inf", "temperature=3", "max_tokens=0", "status=done", "since=yesterday",
     "since=2027-01-01", "since=2027-01-01T00:00:00", "conversation_id=0", "user_id=x", "sort=best", "skip=%00"],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_named(http: httpx2.AsyncClient, query: str) -> None:
    problem = refused(await http.get(f"/completions?{query}"), 422, "unprocessable")
    assert problem["detail"][0]["loc"][0] == "query"
    if "2027" in query:
        assert "as in 2026-11-26T00:00:00Z" in problem["detail"][0]["msg"]


async def test_a_plus_is_taken_for_one_where_only_that_makes_sense(http: httpx2.AsyncClient) -> None:
    for moment in ("2027-01-01T00:00:00+02:00", "2027-01-01T00:00:00.5+0200", "2027-01-01T00:00:00%2B02:00"):
        for path in ("/completions", "/usage/entries"):
            assert (await http.get(f"{path}?since={moment}")).status_code == 200
    refused(await http.get("/completions?since=2027-01-01T00:00:00+and+so+on"), 422, "unprocessable")


async def test_what_is_refused_says_what_would_do(people: People) -> None:
    for path, body, said in (
        ("/users", {"username": " "}, "single spaces between words"),
        ("/users", {"username": "ada\n"}, "printable characters"),
        ("/users", {"username": "ada", "email": "nonsense"}, "An address has one @"),
        ("/users", {"username": "ada", "external_id": "a\tb"}, "printable characters"),
        ("/models", {"id": "a b", "provider": "openai"}, "words between slashes"),
    ):
        problem = refused(await people.admin.post(path, json=body), 422, "unprocessable")
        assert said in problem["detail"][0]["msg"]


async def test_a_mistake_is_placed_once_and_where_it_is(people: People) -> None:
    for content in ({"text": "x"}, {"type": "text", "text": "x"}, 5, None):
        problem = refused(
            await people.owner.post("/chat", json={"role": "user", "content": content}), 422, "unprocessable"
        )
        assert [one["loc"] for one in problem["detail"]] == [["body", "content"]]
    for name in ("abc", "0", "-1", "9" * 20, "ext:ada"):
        problem = refused(await people.admin.get(f"/users/{name}"), 422, "unprocessable")
        assert [one["loc"] for one in problem["detail"]] == [["path", "user_id"]]


async def test_an_encoded_body_is_refused(http: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = gzip.compress(b'{"role": "user", "content": "Hello"}')
    problem = refused(await http.post("/chat", content=body, headers=headers), 415, "unsupported_media_type")
    assert "Content-Encoding" in problem["detail"]


@pytest.mark.parametrize(
    "field",
    [{"temperature": 2.1}, {"temperature": -1}, {"temperature": "hot"}, {"max_tokens": 0}, {"max_tokens": 1.5},
     {"top_p": 0}, {"stop": ["a"] * 5}, {"stop": "a"}, {"seed": -1}, {"stream": "maybe"}, {"model": ""},
     {"conversation_id": 0}, {"conversation_id": "1.5"}, {"messages": []}, {"on_conflict": "wait"},
     {"temperature": True}, {"max_tokens": True}, {"top_p": True}, {"seed": True}, {"conversation_id": True},
     {"fallbacks": ["free", "free"]}, {"fallbacks": [OPENAI]}],
)  # fmt: skip
async def test_a_parameter_out_of_range_is_named(people: People, llmock: Any, field: Json) -> None:
    body = {"model": OPENAI, "messages": [LINE], **field}
    problem = refused(await people.owner.post("/chat/completions", json=body), 422, "unprocessable")
    assert problem["detail"][0]["loc"][:2] == ["body", next(iter(field))]
    assert llmock.requests == []


async def test_a_body_that_is_cut_off_stores_nothing(people: People, running_service: Running) -> None:
    head = (
        "POST /chat HTTP/1.1\r\nHost: everturn\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        f"Authorization: {people.owner.headers['Authorization']}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", running_service.service.port)
    writer.write(head.encode() + b'{"role": "user", ')
    await writer.drain()
    writer.write_eof()
    assert b" 500 " not in await reader.read()
    writer.close()
    assert (await call(people.owner, "GET", "/conversations", expect=200))["total"] == 0


async def test_there_is_no_other_way_in(http: httpx2.AsyncClient) -> None:
    refused(await http.get("/nothing/here"), 404, "not_found")
    reply = await http.put("/conversations", json={})
    refused(reply, 405, "method_not_allowed")
    assert "GET" in reply.headers["allow"]


async def test_any_text_comes_back_as_it_was_sent(http: httpx2.AsyncClient) -> None:
    for text in (
        "\u0001\u001f\u007f",
        "\u2028\u2029\ufeff",
        "e\u0301 é",
        "👩‍👩‍👧‍👦",
        "'; DROP TABLE users; --",
        "\r\n\t",
        "\ud83e\udd5b",
    ):
        sent = text.encode("utf-16", "surrogatepass").decode("utf-16")
        made = await call(http, "POST", "/chat", {"role": "user", "content": sent}, expect=201)
        assert (await call(http, "GET", f"/messages/{made['id']}", expect=200))["content"] == sent


async def untouched(people: People, target: dict[str, object]) -> None:
    """Nothing was stored beside what the test began with."""
    assert (await call(people.owner, "GET", "/conversations", expect=200))["total"] == 1
    assert (await call(people.owner, "GET", "/users/me/messages", expect=200))["total"] == 2
    assert (await call(people.owner, "GET", "/completions", expect=200))["total"] == 0
    shown = await call(people.owner, "GET", f"/conversations/{target['talk']}", expect=200)
    assert (shown["system_prompt"], shown["active_leaf_id"]) == (None, target["message"])
