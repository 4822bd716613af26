"""Content that files and messages share: nobody loses any, and it goes with the last of them, rows, disk and quota."""

import asyncio
import hashlib
import random
from collections.abc import Iterator

import httpx2
import pytest
from sqlalchemy import text

from service.db.engine import Database
from tests.api.images import messages, put, sent, shown
from tests.api.steps import OPENAI, Json, call
from tests.files.shelves import Shelf, audit, sweep
from tests.pictures import png

ROOM = 400_000
LIMITS = {"EVERTURN_USER_FILE_BYTES": str(ROOM)}
PNG = {"content-type": "image/png"}


@pytest.fixture
def own(place: Shelf) -> Iterator[Shelf]:
    """A user who has nothing yet; what was begun for them is over at the end."""
    yield place.another()
    asyncio.run(expire(place))
    sweep(place)
    assert audit(place) == []


async def expire(shelf: Shelf) -> None:
    """Five minutes later."""
    database = Database(shelf.database_url)
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE blobs SET held_until = NULL"))
    await database.close()


async def say(client: httpx2.AsyncClient, *images: Json, expect: int = 201) -> Json:
    body = {"role": "user", "content": [{"type": "text", "text": "Look."}, *images]}
    made: Json = await call(client, "POST", "/chat", body, expect=expect)
    return made


async def test_content_goes_with_the_last_that_needs_it(own: Shelf) -> None:
    async with own.client() as client:
        before = own.on_disk()
        one, two = await say(client, sent(png(200, 200))), await say(client, shown(await put(client, "a.png", png())))
        assert len(own.on_disk()) == len(before) + 2
        pasted = (await messages(client, one["conversation_id"]))[0]["parts"][1]["file"]
        for path in (pasted, "a.png"):
            assert (await client.delete(f"/files/{path}")).status_code == 204
        await expire(own)
        await asyncio.to_thread(sweep, own)
        assert len(own.on_disk()) == len(before) + 2
        await call(client, "DELETE", f"/messages/{one['id']}", expect=200)
        assert len(own.on_disk()) == len(before) + 1
        assert (await client.delete(f"/conversations/{two['conversation_id']}")).status_code == 204
        assert own.on_disk() == before


async def test_what_a_message_keeps_counts_and_makes_room_again(own: Shelf) -> None:
    large = png(700, 500)
    async with own.client() as client:
        made = await say(client, sent(large))
        [file] = (await call(client, "GET", "/files", expect=200))["items"]
        assert (await client.delete(f"/files/{file['path']}")).status_code == 204
        refused = await client.put("/files/more", content=bytes(ROOM - len(large) + 1))
        assert (refused.status_code, refused.json()["code"]) == (413, "quota_exceeded")
        body = {"role": "user", "content": [sent(png(700, 500))]}
        assert (await client.post("/chat", json=body)).json()["code"] == "quota_exceeded"
        turn = {"model": OPENAI, "messages": [body]}
        assert (await client.post("/chat/completions", json=turn)).json()["code"] == "quota_exceeded"
        await expire(own)
        await call(client, "DELETE", f"/messages/{made['id']}", expect=200)
        assert (await client.put("/files/more", content=bytes(ROOM))).status_code == 201


async def test_the_same_image_sent_again_and_again_is_one_file(own: Shelf) -> None:
    image = sent(png())
    async with own.client() as client:
        before = len(own.on_disk())
        said = await asyncio.gather(*(say(client, image, image) for _ in range(10)))
        assert len(own.on_disk()) == before + 1
        assert (await call(client, "GET", "/files", expect=200))["total"] == 1
        assert len({one["id"] for one in said}) == 10


async def test_of_senders_and_deleters_at_once_none_loses_an_image(own: Shelf) -> None:
    contents = [png(20, height) for height in range(5, 9)]
    names = {hashlib.sha256(one).hexdigest(): one for one in contents}

    few = asyncio.Semaphore(8)

    async def one(client: httpx2.AsyncClient, number: int) -> int:
        async with few:
            return await do(client, number, f"{number % 3}.png")

    async def do(client: httpx2.AsyncClient, number: int, path: str) -> int:
        if number % 8 == 0:
            return (await client.delete(f"/files/{path}")).status_code
        if number % 8 < 4:
            return (await client.put(f"/files/{path}", content=contents[number % 4], headers=PNG)).status_code
        body = {"role": "user", "content": [shown(path)]}
        return (await client.post("/chat", json=body)).status_code

    async with own.client() as client:
        for number in range(3):
            await put(client, f"{number}.png", contents[number])
        order = list(range(160))
        random.Random(7).shuffle(order)
        codes = await asyncio.gather(*(one(client, number) for number in order))
        assert set(codes) <= {200, 201, 204, 404}
        assert codes.count(201) > 10
        await expire(own)
        for number in range(3):
            await client.delete(f"/files/{number}.png")
        await asyncio.to_thread(sweep, own)
        # What is shown is there, to the last byte: as files of the same content are, once they name it again.
        page = await call(client, "GET", "/users/me/messages?limit=100", expect=200)
        shas = {part["sha256"] for item in page["items"] for part in item["parts"]}
        assert shas
        lying = {path.name[:64]: path.read_bytes() for path in own.on_disk()}
        assert {sha: lying.get(sha) for sha in shas} == {sha: names[sha] for sha in shas}


async def test_forks_and_deletes_at_once_keep_the_content_or_lose_the_talk(own: Shelf) -> None:
    async with own.client() as client:
        for _ in range(5):
            made = await say(client, sent(png()))
            path = f"/conversations/{made['conversation_id']}"
            [file] = (await call(client, "GET", "/files", expect=200))["items"]
            await client.delete(f"/files/{file['path']}")
            await expire(own)
            forks = [client.post(f"{path}/fork", json={}) for _ in range(6)]
            *forked, gone = await asyncio.gather(*forks[:3], *forks[3:], client.delete(path))
            assert gone.status_code == 204
            assert {reply.status_code for reply in forked} <= {201, 404, 409}
            shas = {path.name[:64] for path in own.on_disk()}
            for reply in forked:
                if reply.status_code == 201:
                    [copy] = await messages(client, reply.json()["id"])
                    assert copy["parts"][1]["sha256"] in shas


async def test_an_erased_user_leaves_no_image(own: Shelf) -> None:
    async with own.client() as client:
        before = own.on_disk()
        await say(client, sent(png()))
        await say(client, shown(await put(client, "a.png", png())))
        headers = {"x-api-key": own.admin_key}
        assert (await client.delete(f"/users/{own.user_id}", headers=headers)).status_code == 200
        assert own.on_disk() == before
