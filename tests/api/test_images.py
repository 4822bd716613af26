"""Images in messages over HTTP: what the provider gets, what the rows keep, and what keeps an image alive."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from sqlalchemy import select, text

from service.db import file_tables as tables
from service.db.engine import Database
from tests.api.images import TEXT, messages, put, send, sent, shown, wired
from tests.api.steps import ANTHROPIC, OPENAI, WIRES, Json, ask, call, start_talk
from tests.conftest import People, Running
from tests.pictures import data_url, gif, jpeg, png, webp


def asked(llmock: LLMock) -> list[Any]:
    """The content of every message of the last request."""
    return [one["content"] for one in llmock.requests[-1].body["messages"]]


@pytest.fixture
async def database(running_service: Running) -> AsyncIterator[Database]:
    made = Database(running_service.database_url)
    yield made
    await made.close()


async def expire(database: Database, user_id: int) -> None:
    """What holds images between the look and the message is over."""
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE blobs SET held_until = NULL WHERE user_id = :user"), {"user": user_id})


async def blobs(database: Database, user_id: int) -> set[str]:
    async with database.reading() as connection:
        rows = await connection.execute(text("SELECT sha256 FROM blobs WHERE user_id = :user"), {"user": user_id})
        return {row.sha256 for row in rows}


@pytest.mark.parametrize("model", WIRES)
async def test_the_provider_gets_the_very_bytes(http: httpx2.AsyncClient, llmock: LLMock, model: str) -> None:
    one, two = png(), jpeg()
    await put(http, "beach.png", one)
    answer = await send(http, TEXT, shown("beach.png"), sent(two, "image/jpeg"), model=model)
    assert answer["warnings"] == []
    assert asked(llmock) == [[TEXT, wired(model, one), wired(model, two, "image/jpeg")]]
    question, _ = await messages(http, answer["conversation_id"])
    name = hashlib.sha256(two).hexdigest()
    assert question["content"] == TEXT["text"]
    size = {"width": 30, "height": 20}
    assert question["parts"] == [
        TEXT,
        {
            **shown("beach.png"),
            "sha256": hashlib.sha256(one).hexdigest(),
            "media_type": "image/png",
            "size": len(one),
            **size,
        },
        {**shown(f"pasted/{name}.jpeg"), "sha256": name, "media_type": "image/jpeg", "size": len(two), **size},
    ]
    kept = await http.get(f"/files/{question['parts'][2]['file']}")
    assert (kept.content, kept.headers["content-type"]) == (two, "image/jpeg")


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (gif(), "image/gif"),
        (jpeg(before=65_000), "image/jpeg"),
        *((webp(kind), "image/webp") for kind in (b"VP8 ", b"VP8L", b"VP8X")),
    ],
    ids=("gif", "jpeg", "lossy", "lossless", "extended"),
)
async def test_images_of_every_kind_are_measured(http: httpx2.AsyncClient, data: bytes, media_type: str) -> None:
    body = {"role": "user", "content": [sent(data, media_type)]}
    made = await call(http, "POST", "/chat", body, expect=201)
    [part] = made["received"]["content"]
    assert (part["media_type"], part["width"], part["height"], part["size"]) == (media_type, 30, 20, len(data))


async def test_no_row_holds_the_bytes(people: People, database: Database) -> None:
    data = png(200, 200)
    await send(people.owner, TEXT, sent(data))
    inside = data_url(data).partition(",")[2][1000:1100]
    async with database.reading() as connection:
        tables = {"messages": "content || coalesce(CAST(parts AS TEXT), '')", "events": "data"}
        for table, column in tables.items():
            where = {"user": people.owner_id, "inside": f"%{inside}%"}
            found = f"SELECT count(*) FROM {table} WHERE user_id = :user AND {column} LIKE :inside"
            assert (await connection.execute(text(found), where)).scalar() == 0
            rows = await connection.execute(text(f"SELECT count(*) FROM {table} WHERE user_id = :user"), where)
            assert rows.scalar()


async def test_a_talk_about_an_image_shows_it_each_time(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    data = png()
    answer = await send(http, TEXT, sent(data))
    talk = answer["conversation_id"]
    await ask(http, talk, "And what is behind it?")
    assert asked(llmock)[0] == [TEXT, wired(OPENAI, data)]
    again = await call(http, "POST", f"/conversations/{talk}/regenerate", {"model": ANTHROPIC}, expect=201)
    assert asked(llmock)[0] == [TEXT, wired(ANTHROPIC, data)]
    fork = await call(http, "POST", f"/conversations/{talk}/fork", {"message_id": again["message_id"]}, expect=201)
    await ask(http, fork["id"], "And here?")
    assert asked(llmock)[0] == [TEXT, wired(OPENAI, data)]
    turn = {"content": [shown((await messages(http, talk))[0]["parts"][1]["file"])], "model": OPENAI}
    await call(http, "POST", f"/conversations/{talk}/completions", turn, expect=201)
    assert asked(llmock)[-1] == [wired(OPENAI, data)]


async def test_a_fallback_of_another_wire_sees_it_too(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    data = png()
    llmock.fail(503, provider="openai")
    answer = await send(http, TEXT, sent(data), fallbacks=[ANTHROPIC])
    assert answer["model"] == ANTHROPIC
    assert asked(llmock) == [[TEXT, wired(ANTHROPIC, data)]]


async def test_every_way_to_store_a_message_takes_images(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    data = png()
    path = await put(http, "a/b.png", data)
    said = {"role": "user", "content": [shown(path), TEXT]}
    talk = await call(http, "POST", "/conversation", {"messages": [said]}, expect=201)
    at = f"/conversations/{talk['id']}/messages"
    added = await call(http, "POST", at, said, expect=201)
    chat = await call(http, "POST", "/chat", {**said, "conversation_id": talk["id"]}, expect=201)
    parts = [{**added["parts"][0]}, TEXT]
    assert added["parts"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert chat["received"] == {"role": "user", "content": parts}
    plain = await call(http, "POST", at, {"role": "user", "content": "Only text."}, expect=201)
    edit = await call(http, "PATCH", f"/messages/{plain['id']}", {"content": said["content"]}, expect=200)
    assert (edit["parts"], edit["parent_id"]) == (parts, chat["id"])
    assert edit["id"] != plain["id"]
    same = await call(http, "PATCH", f"/messages/{edit['id']}", {"content": said["content"]}, expect=200)
    assert same["id"] == edit["id"]
    text_only = await call(http, "PATCH", f"/messages/{edit['id']}", {"content": TEXT["text"]}, expect=200)
    assert (text_only["parts"], text_only["content"]) == (None, TEXT["text"])
    assert [one["parts"] for one in await messages(http, talk["id"])] == [parts, parts, parts, None]
    compared = {"models": [OPENAI, ANTHROPIC], "messages": [said]}
    results = (await call(http, "POST", "/compare-providers", compared, expect=201))["results"]
    assert [one["status"] for one in results] == ["completed", "completed"]
    by_model = {request.body["model"]: request.body["messages"][0]["content"] for request in llmock.requests}
    assert by_model == {model: [wired(model, data), TEXT] for model in WIRES}


async def test_a_list_of_texts_is_a_text(http: httpx2.AsyncClient, llmock: LLMock) -> None:
    answer = await send(http, TEXT, {"type": "text", "text": "Say it."})
    question = (await messages(http, answer["conversation_id"]))[0]
    assert (question["content"], question["parts"]) == ("What is this?\n\nSay it.", None)
    assert asked(llmock) == ["What is this?\n\nSay it."]


async def test_a_deleted_file_stays_with_its_message(people: People, llmock: LLMock, database: Database) -> None:
    http, data = people.owner, png()
    await put(http, "gone.png", data)
    answer = await send(http, TEXT, shown("gone.png"))
    await expire(database, people.owner_id)
    assert (await http.delete("/files/gone.png")).status_code == 204
    await put(http, "gone.png", png())
    await ask(http, answer["conversation_id"], "Still there?")
    assert asked(llmock)[0] == [TEXT, wired(OPENAI, data)]
    fork = await call(http, "POST", f"/conversations/{answer['conversation_id']}/fork", {}, expect=201)
    await check_reading(people, (await messages(http, fork["id"]))[0], data)
    name = hashlib.sha256(data).hexdigest()
    assert (await http.delete(f"/conversations/{answer['conversation_id']}")).status_code == 204
    assert name in await blobs(database, people.owner_id)
    question = (await messages(http, fork["id"]))[0]
    await call(http, "DELETE", f"/messages/{question['id']}", expect=200)
    assert name not in await blobs(database, people.owner_id)


async def check_reading(people: People, message: Json, data: bytes) -> None:
    """An image is read by its message: as a file is, by its owner alone, and nothing else is."""
    name = hashlib.sha256(data).hexdigest()
    path = f"/messages/{message['id']}/images"
    whole = await people.owner.get(f"{path}/{name}")
    assert (whole.status_code, whole.content, whole.headers["etag"]) == (200, data, f'"{name}"')
    assert (whole.headers["content-type"], whole.headers["x-content-type-options"]) == ("image/png", "nosniff")
    part = await people.owner.get(f"{path}/{name}", headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, data[:8])
    known = await people.owner.get(f"{path}/{name}", headers={"If-None-Match": f'"{name}"'})
    assert known.status_code == 304
    for client, address, status in (
        (people.other, f"{path}/{name}", 404),
        (people.owner, f"{path}/{'0' * 64}", 404),
        (people.owner, f"/messages/{message['id'] + 1}/images/{name}", 404),
        (people.owner, f"{path}/{name.upper()}", 422),
        (people.owner, f"{path}/..%2F{name}", 404),
    ):
        assert (await client.get(address)).status_code == status, address


async def test_a_file_outlives_the_messages_that_show_it(people: People, database: Database) -> None:
    data = png()
    await put(people.owner, "mine.png", data)
    made = await call(people.owner, "POST", "/chat", {"role": "user", "content": [shown("mine.png")]}, expect=201)
    await expire(database, people.owner_id)
    assert (await people.owner.delete(f"/conversations/{made['conversation_id']}")).status_code == 204
    assert (await people.owner.get("/files/mine.png")).content == data


async def test_what_is_about_to_be_shown_is_held(people: People, database: Database) -> None:
    """A file that is deleted between the look and the message loses nothing."""
    data = png()
    name = hashlib.sha256(data).hexdigest()
    await put(people.owner, "soon.png", data)
    await call(people.owner, "POST", "/chat", {"role": "user", "content": [shown("soon.png")]}, expect=201)
    async with database.transaction() as connection:
        await connection.execute(text("DELETE FROM message_blobs WHERE sha256 = :name"), {"name": name})
    assert (await people.owner.delete("/files/soon.png")).status_code == 204
    assert name in await blobs(database, people.owner_id)


async def test_a_request_that_is_sent_again_needs_no_file(people: People) -> None:
    http = people.owner
    await put(http, "once.png", png())
    keyed = {"Idempotency-Key": "k-once"}
    talk = await start_talk(http)
    said = {"role": "user", "content": [shown("once.png")]}
    turn = {"model": OPENAI, "content": said["content"]}
    asks = [
        (f"/conversations/{talk['id']}/messages", said),
        ("/chat", said),
        ("/conversation", {"messages": [said]}),
        (f"/conversations/{talk['id']}/completions", turn),
    ]
    first = [await http.post(path, json=body, headers={"Idempotency-Key": f"k{path}"}) for path, body in asks]
    assert (await http.delete("/files/once.png")).status_code == 204
    again = [await http.post(path, json=body, headers={"Idempotency-Key": f"k{path}"}) for path, body in asks]
    assert [reply.status_code for reply in first] == [201] * 4
    assert [reply.json()["id"] for reply in first] == [reply.json()["id"] for reply in again]
    refused = await http.post("/chat", json=said, headers=keyed)
    assert refused.status_code == 404


async def test_what_is_not_to_be_stored_becomes_no_file(people: People, llmock: LLMock, database: Database) -> None:
    data = png()
    llmock.fail(503, provider="openai")
    for _ in range(2):
        answer = await send(people.owner, TEXT, sent(data), store=False, fallbacks=[ANTHROPIC])
        assert answer["message_id"] is None
        assert len(asked(llmock)[0]) == 2
    assert asked(llmock) == [[TEXT, wired(OPENAI, data)]]
    assert (await call(people.owner, "GET", "/files", expect=200))["total"] == 0
    assert await blobs(database, people.owner_id) == {hashlib.sha256(data).hexdigest()}
    # A message that shows the same does not shorten the time that it is held.
    await call(people.owner, "POST", "/chat", {"role": "user", "content": [sent(data)]}, expect=201)
    async with database.reading() as connection:
        held = select(tables.blobs.c.held_until).where(tables.blobs.c.user_id == people.owner_id)
        assert (await connection.execute(held)).scalar_one() > datetime.now(UTC) + timedelta(hours=2)
