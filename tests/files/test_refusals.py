"""Nothing stays of a request that is refused: no file, no byte, no path of the quota."""

import asyncio
from collections.abc import Iterator

import httpx2
import pytest

from tests.api.images import put, sent, shown
from tests.api.steps import OPENAI, Json, call
from tests.files.shelves import Shelf, audit
from tests.pictures import png

LIMITS = {"EVERTURN_USER_FILE_BYTES": "1200000", "EVERTURN_USER_FILES": "3"}


@pytest.fixture
def own(place: Shelf) -> Iterator[Shelf]:
    """A user who has nothing yet."""
    yield place.another()
    assert audit(place) == []


def turn(*content: Json, **fields: object) -> Json:
    return {"model": OPENAI, "messages": [{"role": "user", "content": list(content)}], **fields}


async def paths(client: httpx2.AsyncClient) -> list[str]:
    return [one["path"] for one in (await call(client, "GET", "/files", expect=200))["items"]]


async def limit(own: Shelf, requests: int | None) -> None:
    async with httpx2.AsyncClient(base_url=own.service.url, headers={"x-api-key": own.admin_key}, verify=False) as http:
        limits = {"limits": {"requests_per_minute": requests}}
        await call(http, "PATCH", f"/users/{own.user_id}", limits, expect=200)


@pytest.mark.parametrize("store", [True, False])
async def test_a_turn_over_a_limit_leaves_no_image(own: Shelf, store: bool) -> None:
    before = own.on_disk()
    await limit(own, 0)
    async with own.client() as client:
        mine = await put(client, "mine.png", png())
        for path in ("/chat/completions", "/chat/completions/stream"):
            refused = await client.post(path, json=turn(sent(png()), shown(mine), store=store))
            assert refused.status_code == 429, refused.text
        assert await paths(client) == [mine]
        assert len(own.on_disk()) == len(before) + 1
        await limit(own, None)
        if store:
            await call(client, "POST", "/chat/completions", turn(sent(png())), expect=201)
            assert len(await paths(client)) == 2


async def test_images_without_room_for_all_leave_none(own: Shelf) -> None:
    before = own.on_disk()
    four = [sent(png()) for _ in range(4)]
    wide = [sent(png(1000, 650)), sent(png(1000, 650))]
    async with own.client() as client:
        for content in (four, wide):
            said = {"role": "user", "content": content}
            asks: dict[str, Json] = {
                "/chat": said,
                "/conversation": {"messages": [said]},
                "/chat/completions": turn(*content),
                "/compare-providers": {"models": [OPENAI], "messages": [said]},
            }
            for path, body in asks.items():
                reply = await client.post(path, json=body)
                assert (reply.status_code, reply.json()["code"]) == (413, "quota_exceeded"), path
        assert await paths(client) == []
        assert own.on_disk() == before
        await call(client, "POST", "/chat", {"role": "user", "content": four[:3]}, expect=201)
        assert len(await paths(client)) == 3
        # The same ones need no more room.
        await call(client, "POST", "/chat", {"role": "user", "content": four[:3]}, expect=201)


async def test_a_refusal_takes_nothing_that_another_request_brought_too(own: Shelf) -> None:
    """Of many at once with one image some are refused; those that were not show it."""
    image = sent(png())
    await limit(own, 4)
    async with own.client() as client:
        replies = await asyncio.gather(*(client.post("/chat/completions", json=turn(image)) for _ in range(12)))
        assert sorted(reply.status_code for reply in replies) == [201] * 4 + [429] * 8
        [path] = await paths(client)
        for reply in replies:
            if reply.status_code == 201:
                page = await call(
                    client, "GET", f"/conversations/{reply.json()['conversation_id']}/messages", expect=200
                )
                part = page["items"][0]["parts"][0]
                kept = await client.get(f"/messages/{page['items'][0]['id']}/images/{part['sha256']}")
                assert (part["file"], kept.status_code) == (path, 200)


async def test_a_message_after_nobodys_leaves_no_image(own: Shelf) -> None:
    before = own.on_disk()
    async with own.client() as client:
        talk = (await call(client, "POST", "/conversation", {}, expect=201))["id"]
        said = {"role": "user", "content": [sent(png())], "parent_id": 4711}
        await call(client, "POST", f"/conversations/{talk}/messages", said, expect=404)
        await call(client, "PATCH", "/messages/4711", {"content": said["content"]}, expect=404)
        assert await paths(client) == []
    assert own.on_disk() == before


async def test_the_sum_is_known_before_anything_is_read(own: Shelf) -> None:
    """What is too large together is refused although it could not even be read."""
    before = own.on_disk()
    data = png(1100, 1000)
    async with own.client() as client:
        await put(client, "large.png", data)
        [lying] = set(own.on_disk()) - set(before)
        lying.unlink()
        for count, status in ((20, 422), (1, 503)):
            reply = await client.post("/chat", json={"role": "user", "content": [shown("large.png")] * count})
            assert reply.status_code == status, reply.text
        await put(client, "large.png", data)
