"""Import and export over HTTP: what is sent is a file as it is, what comes back are lines."""

import json
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from tests.api.images import put
from tests.api.steps import ask, call, start_talk
from tests.conftest import People
from tests.pictures import png
from tests.porting import samples
from tests.porting.house import comparable
from tests.porting.samples import archive, file_of

Json = dict[str, Any]


async def send(client: httpx2.AsyncClient, data: Any, *, expect: int = 200, user: object = "me") -> Any:
    """The lines of the report, or the problem."""
    reply = await client.post(f"/users/{user}/import", content=data)
    assert reply.status_code == expect, reply.text
    if expect != 200:
        return reply.json()
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.text.splitlines()]


async def fetch(client: httpx2.AsyncClient, form: str = "ndjson", user: object = "me") -> bytes:
    reply = await client.get(f"/users/{user}/export", params={"format": form})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert "attachment" in reply.headers["content-disposition"]
    return reply.content


async def test_an_archive_is_imported_and_can_be_read_and_asked_on(people: People, llmock: Any) -> None:
    data = archive({"conversations-000.json": file_of(samples.chatgpt()), "chat.html": b"<html>"})
    item, summary = await send(people.owner, data)
    assert (item["item"]["outcome"], item["item"]["added"]) == ("imported", 4)
    assert summary["summary"]["outcomes"] == {"imported": 1}
    number = item["item"]["conversation_id"]
    talk = await call(people.owner, "GET", f"/conversations/{number}", expect=200)
    assert (talk["title"], talk["message_count"], talk["created_at"]) == ("Blue sky", 4, "2023-11-14T22:13:20.250000Z")
    page = await call(people.owner, "GET", f"/conversations/{number}/messages", expect=200)
    assert [one["content"] for one in page["items"]] == ["Why is the sky blue?", "Rayleigh scattering.", "Thanks"]
    llmock.reply("You are welcome.")
    await ask(people.owner, number, "And red?")
    page = await call(people.owner, "GET", f"/conversations/{number}/messages", expect=200)
    assert page["items"][-1]["content"] == "You are welcome."
    [again, _] = await send(people.owner, data)
    assert (again["item"]["outcome"], again["item"]["conversation_id"]) == ("unchanged", number)
    await call(people.other, "GET", f"/conversations/{number}", expect=404)


@pytest.mark.usefixtures("llmock")
async def test_what_one_user_exports_another_imports_and_exports_alike(people: People) -> None:
    talk = await start_talk(people.owner, "Hello", "Hi!", tags=["x"])
    await ask(people.owner, talk["id"], "How are you?")
    await send(people.owner, file_of(samples.openwebui()))
    await put(people.owner, "notes.txt", b"Notes", "text/plain")
    export = await fetch(people.owner)
    kinds = [json.loads(line)["type"] for line in export.splitlines()]
    assert kinds == [
        "export", "user", "key", "file", "file_data", "conversation", "message", "message", "message", "message",
        "conversation", "message", "message", "message", "completion", "ledger_entry", "end",
    ]  # fmt: skip
    lines = {json.loads(line)["type"]: json.loads(line) for line in export.splitlines()}
    assert lines["completion"]["message"] in {json.loads(line).get("id") for line in comparable(export)}
    assert lines["completion"]["attempts"][0]["status"] == "completed"
    assert lines["ledger_entry"]["cost_usd"] == lines["completion"]["cost_usd"]
    assert b"hash" not in export
    report = await send(people.other, export)
    assert [line["item"]["outcome"] for line in report[:-1]] == ["imported", "imported", "imported", "skipped"]
    assert (await people.other.get("/files/notes.txt")).content == b"Notes"
    assert comparable(await fetch(people.other)) == comparable(export)
    for client in (people.owner, people.other):
        assert (await send(client, export))[-1]["summary"]["outcomes"] == {"unchanged": 3, "skipped": 1}
    charged = await call(people.other, "GET", "/completions", expect=200)
    assert charged["total"] == 0, "an import is no charge"
    shaped = [json.loads(line) for line in (await fetch(people.owner, "chatgpt")).splitlines()]
    assert [one["title"] for one in shaped] == ["Hello", "Whys"]


def talk_of(*said: Json) -> bytes:
    """A file of ours with one conversation."""
    above = {"type": "conversation", "source": "everturn", "id": "t", "active_leaf": str(len(said) - 1)}
    lines = [
        {"type": "message", "id": str(at), "parent": str(at - 1) if at else None, **one} for at, one in enumerate(said)
    ]
    return b"".join(json.dumps(one).encode() + b"\n" for one in (above, *lines, {"type": "end"}))


async def test_parts_do_not_bring_more_than_their_message_says(people: People, llmock: Any) -> None:
    http, data = people.owner, png()
    await put(http, "a.png", data)
    image = {
        "type": "image", "file": "a.png", "sha256": sha256(data).hexdigest(), "media_type": "image/png",
        "size": len(data), "width": 30, "height": 20,
    }  # fmt: skip
    told: Json = {"role": "user", "content": "c", "parts": [{"type": "text", "text": "x" * 3_000_000}, image]}
    true = {"role": "user", "content": "c", "parts": [{"type": "text", "text": "c"}, image]}
    report = await send(http, talk_of(told, {**true, "role": "assistant"}, {**true, "role": "system"}, true))
    assert report[0]["item"]["left_out"] == {"parts": 1, "images": 2}
    talk = report[0]["item"]["conversation_id"]
    shown = await call(http, "GET", f"/conversations/{talk}/messages", expect=200)
    assert [(one["role"], one["content"], bool(one["parts"])) for one in shown["items"]] == [
        ("user", "c", False), ("assistant", "c", False), ("system", "c", False), ("user", "c", True),
    ]  # fmt: skip
    llmock.reply("I see.")
    await ask(http, talk, "Well?")
    sent = llmock.requests[-1].body["messages"]
    assert [isinstance(one["content"], list) for one in sent] == [False, False, False, True, False]
    assert len(json.dumps(sent)) < 5000


async def test_an_admin_may_do_it_for_a_user(people: People) -> None:
    await send(people.admin, file_of(samples.chatgpt()), user=people.owner_id)
    assert b"Rayleigh" in await fetch(people.admin, user=people.owner_id)
    assert b"Rayleigh" in await fetch(people.owner)
    assert b"Rayleigh" not in await fetch(people.admin)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"[1]", b"<html>", b"PK\x03\x04xx", b'{"mapping": {}}', b"\xff\xfe"]
)
async def test_what_is_no_export_is_a_422_and_leaves_nothing(http: httpx2.AsyncClient, data: bytes) -> None:
    problem = await send(http, data, expect=422)
    assert problem["detail"][0]["loc"] == ["body"]
    assert (await call(http, "GET", "/conversations", expect=200))["total"] == 0


async def test_an_import_has_more_room_than_other_bodies(http: httpx2.AsyncClient) -> None:
    """Three megabytes, in pieces without a length; other routes take two."""
    large = file_of(samples.chatgpt(mapping=samples.tree(("m", None, samples.message("m", "user", "x" * 900_000)))))

    async def pieces() -> Any:
        yield b"["
        for number in range(3):
            yield large[1:-1].replace(b'"c-1"', b'"c-%d"' % number) + b","
        yield b"]"

    report = await send(http, pieces())
    assert report[-1]["summary"]["outcomes"] == {"imported": 3}
    reply = await http.post("/chat", content=b"x" * 3_000_000, headers={"Content-Type": "application/json"})
    assert reply.status_code == 413


async def test_a_report_tells_every_item_also_the_bad_ones(http: httpx2.AsyncClient) -> None:
    bad: Json = {"mapping": {}}
    cut = file_of(samples.chatgpt(), samples.chatgpt("c-2"))
    report = await send(http, file_of(samples.chatgpt(), bad, samples.openwebui())[:-1] + b', {"x":1,}]')
    assert [line["item"]["outcome"] for line in report[:-1]] == ["imported", "failed", "imported", "failed"]
    assert all(line["item"].get("reason") for line in report[:-1] if line["item"]["outcome"] == "failed")
    report = await send(http, cut[:-20])
    assert [line["item"]["outcome"] for line in report[:-1]] == ["unchanged", "failed"]


@pytest.mark.parametrize("form", ["csv", "", "json"])
async def test_an_unknown_form_is_a_422(http: httpx2.AsyncClient, form: str) -> None:
    reply = await http.get(f"/users/me/export?format={form}&x=1")
    assert reply.status_code == (422 if form else 200)
