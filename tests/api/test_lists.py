"""Every list over HTTP: by number, by cursor in both directions, while rows are inserted, and refused when wrong."""

import re
from dataclasses import dataclass
from secrets import token_hex
from time import time_ns
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.api.steps import Json, ask, call, start_talk
from tests.conftest import People

MANY = 7
# The address of each list, the noun that it holds, and its own default limit.
LISTS = [
    ("/conversations", "conversation", 20),
    ("/conversations?sort=oldest", "conversation", 20),
    ("/conversations?sort=title", "conversation", 20),
    ("/users/me/conversations?tags=x&archived=false&q=talk", "conversation", 20),
    ("/conversations/{talk}/messages", "message", 20),
    ("/conversations/{talk}/messages?sort=recent", "message", 20),
    ("/conversations/{talk}/messages?branch=all", "message", 20),
    ("/conversations/{talk}/messages?branch=all&sort=recent", "message", 20),
    ("/users/me/messages", "message", 20),
    ("/users/me/messages?sort=oldest", "message", 20),
    ("/search?query=more", "message", 20),
    ("/search?query=more+-less&conversation_id={talk}&role=user", "message", 20),
    ("/completions", "completion", 20),
    ("/completions?sort=oldest&provider=openai", "completion", 20),
    ("/users/me/completions", "completion", 20),
    ("/users/me/keys", "key", 20),
    ("/files?prefix=list/", "file", 20),
    ("/users?tags={mark}", "user", 20),
    ("/users?tags={mark}&q={mark}", "user", 20),
    ("/models", "model", 10),
    ("/models/list?provider=anthropic", "model", 10),
]
PATHS = [pytest.param(path, noun, id=path) for path, noun, _ in LISTS]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Somebody with things of every kind, and who may list users."""

    people: People
    talk: int
    mark: str

    def client(self, noun: str) -> httpx2.AsyncClient:
        return self.people.admin if noun == "user" else self.people.owner

    def path(self, path: str) -> str:
        return path.replace("{talk}", str(self.talk)).replace("{mark}", self.mark)

    async def add(self, noun: str) -> None:
        """One more thing of a kind."""
        owner = self.people.owner
        match noun:
            case "conversation":
                body = {"title": f"Talk {token_hex(2)}", "tags": ["x"]}
                await call(owner, "POST", "/conversations", body, expect=201)
            case "message":
                line = {"role": "user", "content": "More.", "conversation_id": self.talk}
                await call(owner, "POST", "/chat", line, expect=201)
            case "completion":
                await ask(owner, self.talk, "Well?")
            case "file":
                made = await owner.put(f"/files/list/{time_ns()}", content=b"x")
                assert made.status_code == 201
            case "key":
                await call(owner, "POST", "/users/me/keys", {}, expect=201)
            case "user":
                body = {"username": f"{self.mark} {token_hex(4)}", "tags": [self.mark]}
                await call(self.people.admin, "POST", "/users", body, expect=201)


@pytest.fixture
async def shelf(people: People) -> Shelf:
    return Shelf(people, (await start_talk(people.owner, title="talk", tags=["x"]))["id"], token_hex(5))


async def pages(client: httpx2.AsyncClient, page: Json, path: str, direction: str) -> list[Json]:
    """This page and those that its cursors lead to."""
    found = [page]
    while cursor := found[-1][direction]:
        found.append(await call(client, "GET", with_query(path, cursor=cursor, limit=3), expect=200))
        assert found[-1]["total"] is None
        assert len(found) < 200
    return found


def with_query(path: str, **query: object) -> str:
    more = "&".join(f"{name}={value}" for name, value in query.items())
    return f"{path}{'&' if '?' in path else '?'}{more}"


def ids(*found: Json) -> list[object]:
    return [item.get("id", item.get("path")) for page in found for item in page["items"]]


@pytest.mark.parametrize(("path", "noun"), PATHS)
@pytest.mark.usefixtures("llmock")
async def test_it_is_read_by_number_and_by_cursor(shelf: Shelf, path: str, noun: str) -> None:
    client, path = shelf.client(noun), shelf.path(path)
    for _ in range(MANY):
        await shelf.add(noun)
    whole = await call(client, "GET", with_query(path, limit=100), expect=200)
    everything = ids(whole)
    assert whole["total"] == len(everything) >= MANY
    assert len(set(everything)) == len(everything)
    assert (whole["skip"], whole["limit"], whole["next_cursor"], whole["prev_cursor"]) == (0, 100, None, None)
    some = await call(client, "GET", with_query(path, skip=2, limit=3), expect=200)
    assert ids(some) == everything[2:5]
    assert (some["skip"], some["limit"], some["total"]) == (2, 3, len(everything))
    first = await call(client, "GET", with_query(path, limit=3), expect=200)
    forward = await pages(client, first, path, "next_cursor")
    assert ids(*forward) == everything
    assert all(len(page["items"]) == 3 for page in forward[:-1])
    back = await pages(client, forward[-1], path, "prev_cursor")
    assert ids(*back[::-1])[-len(everything) :] == everything
    beyond = await call(client, "GET", with_query(path, skip=len(everything) + 5), expect=200)
    assert (beyond["items"], beyond["total"]) == ([], len(everything))


@pytest.mark.parametrize(("path", "noun"), [(path, noun) for path, noun, _ in LISTS if noun != "model"])
@pytest.mark.usefixtures("llmock")
async def test_a_cursor_is_stable_while_rows_are_inserted(shelf: Shelf, path: str, noun: str) -> None:
    client, path = shelf.client(noun), shelf.path(path)
    for _ in range(5):
        await shelf.add(noun)
    before = ids(await call(client, "GET", with_query(path, limit=100), expect=200))
    first = await call(client, "GET", with_query(path, limit=2), expect=200)
    for _ in range(3):
        await shelf.add(noun)
    seen = ids(*await pages(client, first, path, "next_cursor"))
    assert len(set(seen)) == len(seen)
    assert [one for one in seen if one in before] == before


@pytest.mark.parametrize(("path", "limit"), [pytest.param(path, limit, id=path) for path, _, limit in LISTS])
async def test_the_headers_lead_on(shelf: Shelf, path: str, limit: int) -> None:
    noun = next(noun for one, noun, _ in LISTS if one == path)
    client, path = shelf.client(noun), shelf.path(path)
    if noun not in ("model", "completion"):
        for _ in range(3):
            await shelf.add(noun)
    reply = await client.get(path)
    assert reply.json()["limit"] == limit
    assert reply.headers["x-total-count"] == str(reply.json()["total"])
    assert set(links(reply)) >= {"first"}
    if noun == "completion":
        return
    reply = await client.get(with_query(path, limit=1, skip=1))
    found = links(reply)
    assert set(found) == {"first", "prev", "next"}
    assert await shown(client, found["next"]) == await shown(client, with_query(path, limit=1, skip=2))
    assert await shown(client, found["prev"]) == await shown(client, found["first"])
    onward = await client.get(with_query(path, limit=1, cursor=reply.json()["next_cursor"]))
    assert "x-total-count" not in onward.headers
    found = links(onward)
    assert ids(await call(client, "GET", found["prev"], expect=200)) == ids(reply.json())
    assert {name: value for name, value in parse_qs(urlsplit(found["first"]).query).items() if name != "limit"} == (
        parse_qs(urlsplit(path).query)
    )


@pytest.mark.parametrize(("path", "noun"), PATHS)
async def test_a_bad_value_is_a_422_and_a_wrong_cursor_a_400(shelf: Shelf, path: str, noun: str) -> None:
    client, path = shelf.client(noun), shelf.path(path)
    for name, value in (("limit", 0), ("limit", 101), ("limit", "x"), ("skip", -1), ("skip", 2**53), ("skip", "1.5")):
        problem = await call(client, "GET", with_query(path, **{name: value}), expect=422)
        assert problem["detail"][0]["loc"] == ["query", name]
    for cursor in ("x", "AAAA", "%F0%9F%A5%9B", "a" * 4000):
        problem = await call(client, "GET", with_query(path, cursor=cursor), expect=400)
        assert problem["code"] == "bad_cursor"


async def test_a_changed_or_foreign_cursor_is_refused(shelf: Shelf) -> None:
    owner, other = shelf.people.owner, shelf.people.other
    for _ in range(3):
        await shelf.add("conversation")
    cursor = (await call(owner, "GET", "/conversations?limit=1", expect=200))["next_cursor"]
    await call(owner, "GET", f"/conversations?cursor={cursor}", expect=200)
    changed = cursor[:-2] + ("A" if cursor[-2] != "A" else "B") + cursor[-1]
    for client, path in (
        (owner, f"/conversations?cursor={changed}"),
        (other, f"/conversations?cursor={cursor}"),
        (owner, f"/conversations?sort=oldest&cursor={cursor}"),
        (owner, f"/conversations?q=t&cursor={cursor}"),
        (owner, f"/users/me/messages?cursor={cursor}"),
        (owner, f"/completions?cursor={cursor}"),
        (owner, f"/models?cursor={cursor}"),
    ):
        assert (await call(client, "GET", path, expect=400))["code"] == "bad_cursor"
    assert ids(await call(owner, "GET", f"/users/me/conversations?cursor={cursor}", expect=200))


def links(reply: httpx2.Response) -> dict[str, str]:
    return {rel: url for url, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', reply.headers["link"])}


async def shown(client: httpx2.AsyncClient, path: str) -> list[object]:
    return ids(await call(client, "GET", path, expect=200))
