"""Images that no file has any more go round as well: they are carried for the messages that show them."""

import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock

from service.db.engine import Database
from tests.api.images import messages, put, sent, shown
from tests.api.images import send as ask_about
from tests.api.steps import OPENAI, Json, ask, call
from tests.api.test_images import blobs, expire
from tests.api.test_porting import fetch, send
from tests.conftest import People, Running
from tests.pictures import png

pytestmark = pytest.mark.usefixtures("llmock")
RESTORED = ("file", "image", "file_data", "conversation", "message")


@pytest.fixture
async def database(running_service: Running) -> AsyncIterator[Database]:
    made = Database(running_service.database_url)
    yield made
    await made.close()


def restored(export: bytes) -> list[bytes]:
    return [one for one in export.splitlines() if json.loads(one)["type"] in RESTORED]


def kinds(export: bytes) -> list[str]:
    return [json.loads(one)["type"] for one in export.splitlines()]


async def talk_without_files(people: People, *pictures: bytes) -> bytes:
    """The export of a talk about images whose files are gone."""
    for number, data in enumerate(pictures[1:]):
        await put(people.owner, f"{number}.png", data)
    await ask_about(people.owner, sent(pictures[0]), *(shown(f"{number}.png") for number in range(len(pictures) - 1)))
    for file in (await call(people.owner, "GET", "/files", expect=200))["items"]:
        assert (await people.owner.delete(f"/files/{file['path']}")).status_code == 204
    return await fetch(people.owner)


async def images_of(client: Any, talk: int) -> list[bytes | int]:
    """What the images of a talk's first message are, or with which status they are not there."""
    message = (await messages(client, talk))[0]
    found = []
    for part in message["parts"]:
        reply = await client.get(f"/messages/{message['id']}/images/{part['sha256']}")
        found.append(reply.content if reply.status_code == 200 else reply.status_code)
    return found


async def test_images_without_a_file_go_round(people: People, database: Database, llmock: LLMock) -> None:
    pictures = [png(), png()]
    export = await talk_without_files(people, *pictures)
    assert kinds(export)[3:6] == ["image", "file_data", "image"]
    assert json.loads(export.splitlines()[-1])["images"] == 2
    report = await send(people.other, export)
    assert [one["item"]["outcome"] for one in report[:-1]] == ["imported", "imported", "imported", "skipped"]
    talk = report[2]["item"]["conversation_id"]
    await expire(database, people.other_id)
    assert await images_of(people.other, talk) == pictures
    assert restored(await fetch(people.other)) == restored(export)
    assert (await call(people.other, "GET", "/files", expect=200))["total"] == 0
    for client in (people.owner, people.other):
        assert (await send(client, export))[-1]["summary"]["outcomes"] == {"unchanged": 3, "skipped": 1}
    await ask(people.other, talk, "Still there?")
    assert len(llmock.requests[-1].body["messages"][0]["content"]) == 2


async def test_another_file_at_the_path_takes_nothing_from_the_message(people: People, database: Database) -> None:
    data = png()
    await put(people.owner, "a.png", data)
    await ask_about(people.owner, shown("a.png"))
    await put(people.other, "a.png", png())
    report = await send(people.other, await fetch(people.owner))
    assert [one["item"]["outcome"] for one in report[:-1]] == ["skipped", "imported", "skipped"]
    await expire(database, people.other_id)
    assert await images_of(people.other, report[1]["item"]["conversation_id"]) == [data]


async def test_an_image_that_came_late_is_kept_by_its_message(people: People, database: Database) -> None:
    data = png()
    export = await talk_without_files(people, data)
    half = b"".join(one + b"\n" for one in export.splitlines() if json.loads(one)["type"] not in ("image", "file_data"))
    talk = (await send(people.other, half))[0]["item"]["conversation_id"]
    assert await images_of(people.other, talk) == [404]
    assert (await send(people.other, export))[-1]["summary"]["outcomes"] == {
        "imported": 1,
        "unchanged": 1,
        "skipped": 1,
    }
    await expire(database, people.other_id)
    assert await images_of(people.other, talk) == [data]


def carried(data: bytes, **fields: object) -> bytes:
    head: Json = {"type": "image", "size": len(data), "sha256": sha256(data).hexdigest(), **fields}
    lines = (head, {"type": "file_data", "data": "eHk="}, {"type": "end"})
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


@pytest.mark.parametrize("fields", [{"size": 3}, {"size": -1}, {"size": "2"}, {"sha256": "0" * 64}, {"sha256": None}])
async def test_a_broken_image_is_told_and_not_kept(people: People, database: Database, fields: Json) -> None:
    report = await send(people.owner, carried(b"xy", **fields) + carried(b"xy"))
    assert [one["item"]["outcome"] for one in report[:-1]] == ["failed", "imported"]
    assert await blobs(database, people.owner_id) == {sha256(b"xy").hexdigest()}


async def test_what_no_message_shows_goes_again(people: People, database: Database) -> None:
    [line, _] = await send(people.owner, carried(b"xy"))
    assert line["item"]["outcome"] == "imported"
    await put(people.owner, "a.txt", b"xy", "text/plain")
    assert (await people.owner.delete("/files/a.txt")).status_code == 204
    assert len(await blobs(database, people.owner_id)) == 1, "held for the messages that may follow"
    await expire(database, people.owner_id)
    await put(people.owner, "a.txt", b"xy", "text/plain")
    assert (await people.owner.delete("/files/a.txt")).status_code == 204
    assert await blobs(database, people.owner_id) == set()


async def test_the_model_is_shown_what_was_carried(people: People, llmock: LLMock) -> None:
    export = await talk_without_files(people, png())
    talk = (await send(people.other, export))[1]["item"]["conversation_id"]
    answer = await ask(people.other, talk, "Still there?", model=OPENAI)
    assert answer["warnings"] == []
    assert llmock.requests[-1].body["messages"][0]["content"][0]["type"] == "image_url"
