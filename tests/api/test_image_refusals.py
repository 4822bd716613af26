"""What is no image, or nobody's to show: refused clearly, and before anything is stored."""

from typing import Any

import pytest
from llmock.pytest_plugin import LLMock

from tests.api.images import messages, put, sent, shown
from tests.api.steps import OPENAI, call, start_talk
from tests.conftest import People
from tests.pictures import data_url, png

PNG = png()
REFUSED: list[tuple[str, Any, int, str]] = [
    ("an unknown type", [{"type": "audio", "data": "x"}], 422, "audio"),
    ("no type", [{"text": "x"}], 422, "type"),
    ("no part", [], 422, "at least 1"),
    ("a part that is a text", ["x"], 422, ""),
    ("a number", 5, 422, "string"),
    ("an empty text", [{"type": "text", "text": ""}], 422, "at least 1"),
    ("an unknown field", [{"type": "text", "text": "x", "cache": 1}], 422, "Extra"),
    ("no file", [shown("nothing.png")], 404, "nothing.png"),
    ("a path outside", [shown("../a.png")], 422, ".."),
    ("an absolute path", [shown("/etc/passwd")], 422, "absolute"),
    ("another's file", [shown("theirs.png")], 404, "theirs.png"),
    ("a text file", [shown("notes.txt")], 422, "no image"),
    ("a text that says it is bytes", [shown("bytes")], 422, "no image"),
    ("an image that says it is a text", [shown("disguised.txt")], 422, "no image"),
    ("an image wider than any", [sent(PNG[:16] + b"\xff\xff\xff\xff" + PNG[20:])], 422, "no image"),
    ("an image cut off", [shown("cut.png")], 422, "no image"),
    ("an address", [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}], 422, "`{type: image"),
    ("a secure address", [{"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}], 422, "No address"),
    ("a local address", [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], 422, "No address"),
    ("an address in a file", [shown("http://127.0.0.1/a.png")], 422, "two in a row"),
    ("a page as data", [{"type": "image_url", "image_url": {"url": data_url(b"<p>", "text/html")}}], 422, "PNG"),
    ("a drawing as data", [{"type": "image_url", "image_url": {"url": data_url(b"<svg/>", "image/svg+xml")}}], 422, ""),
    ("no base64", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,###"}}], 422, "base64"),
    ("another image than it says", [sent(PNG, "image/gif")], 422, "no image"),
    ("a page that says it is an image", [sent(b"<script>alert(1)</script>")], 422, "no image"),
    ("too many images", [shown("mine.png")] * 21, 422, "20 images"),
    ("too many parts", [{"type": "text", "text": "x"}] * 65, 422, "64"),
]


@pytest.mark.parametrize(("content", "status", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_what_cannot_be_shown_is_refused_and_nothing_is_stored(
    people: People, llmock: LLMock, content: Any, status: int, says: str
) -> None:
    http = people.owner
    await put(people.other, "theirs.png", png())
    await put(http, "mine.png", png())
    await put(http, "notes.txt", b"Dear diary", "text/plain")
    await put(http, "bytes", b"Dear diary", "application/octet-stream")
    await put(http, "disguised.txt", png(), "text/plain")
    await put(http, "cut.png", png()[:18])
    talk = await start_talk(http, "Hello")
    message = (await messages(http, talk["id"]))[0]["id"]
    # A good image before the bad one: not even that is kept.
    more = [sent(png()), *content] if isinstance(content, list) and content else content
    asks = {
        "/chat/completions": {"model": OPENAI, "messages": [{"role": "user", "content": more}]},
        f"/conversations/{talk['id']}/completions": {"model": OPENAI, "content": more},
        f"/conversations/{talk['id']}/messages": {"role": "user", "content": more},
        "/chat": {"role": "user", "content": more},
        "/conversation": {"messages": [{"role": "user", "content": more}]},
        "/compare-providers": {"models": [OPENAI], "messages": [{"role": "user", "content": more}]},
    }
    replies = [await http.post(path, json=body) for path, body in asks.items()]
    replies.append(await http.patch(f"/messages/{message}", json={"content": more}))
    assert [reply.status_code for reply in replies] == [status] * 7, [reply.text for reply in replies]
    assert all(says in reply.text for reply in replies), replies[0].text
    assert llmock.requests == []
    assert (await call(http, "GET", "/files?prefix=pasted/", expect=200))["total"] == 0
    assert (await call(http, "GET", "/users/me/messages", expect=200))["total"] == 1


@pytest.mark.parametrize("role", ["system", "assistant"])
async def test_only_users_show_images(people: People, role: str) -> None:
    http = people.owner
    await put(http, "mine.png", png())
    said = {"role": role, "content": [shown("mine.png")]}
    talk = await start_talk(http, "Hello", "Hi")
    answer = (await messages(http, talk["id"]))[1]["id"]
    asks = {"/conversation": {"messages": [said]}, "/chat": said}
    replies = [await http.post(path, json=body) for path, body in asks.items()]
    replies.append(await http.patch(f"/messages/{answer}", json={"content": said["content"]}))
    assert [reply.status_code for reply in replies] == [422] * 3
    assert all("Only a user's message" in reply.text for reply in replies)


async def test_a_model_without_eyes_is_not_shown_images(people: People, llmock: LLMock) -> None:
    http, blind = people.owner, f"blind-{people.owner_id}"
    told = {"id": blind, "provider": "openai", "upstream": "blind", "images": False}
    await call(people.admin, "POST", "/models", told, expect=201)
    question = [{"type": "text", "text": "What is this?"}, sent(png())]
    body = {"model": blind, "messages": [{"role": "user", "content": question}]}
    for path in ("/chat/completions", "/chat/completions/stream", "/completions/openai"):
        reply = await http.post(path, json=body)
        assert (reply.status_code, "takes no images" in reply.text) == (422, True), reply.text
        assert reply.json()["detail"][0]["loc"] == ["body", "model"]
    assert (await call(http, "GET", "/files", expect=200))["total"] == 0
    assert (await call(http, "GET", "/conversations", expect=200))["total"] == 0
    # As a fallback it is passed over, and in a comparison it fails alone.
    llmock.fail(503, provider="openai")
    passed = await http.post("/chat/completions", json={**body, "model": OPENAI, "fallbacks": [blind]})
    assert passed.status_code == 503
    compared = {**body, "models": [blind, OPENAI]}
    del compared["model"]
    results = (await call(http, "POST", "/compare-providers", compared, expect=201))["results"]
    assert [one["status"] for one in results] == ["failed", "completed"]
    assert "takes no images" in results[0]["error"]["detail"][0]["msg"]
    # A talk about an image can go on with it, and it is told what it does not see.
    talk = (await call(http, "POST", "/conversation", {"messages": [body["messages"][0]]}, expect=201))["id"]
    again = await http.post(f"/conversations/{talk}/regenerate", json={"model": blind})
    assert (again.status_code, "takes no images" in again.text) == (422, True)
    turn = {"model": blind, "content": "Guess."}
    answer = await call(http, "POST", f"/conversations/{talk}/completions", turn, expect=201)
    assert answer["warnings"] == [f"The 1 oldest images were left out: {blind} takes none."]
    first = llmock.requests[-1].body["messages"][0]["content"]
    assert first.startswith("What is this?\n\n[an image was left out here: pasted/")


async def test_no_room_for_an_image_keeps_nothing_of_the_question(people: People) -> None:
    http = people.owner
    reply = await http.post("/chat", json={"role": "user", "content": [sent(png(2000, 2000))]})
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")
    await put(http, "large.png", png(2300, 2300) + bytes(15_000_000))
    content = [shown("large.png"), sent(png())]
    reply = await http.post("/chat", json={"role": "user", "content": content})
    assert (reply.status_code, "20,000,000 bytes" in reply.text) == (422, True)
    assert (await call(http, "GET", "/users/me/messages", expect=200))["total"] == 0
    assert [one["path"] for one in (await call(http, "GET", "/files", expect=200))["items"]] == ["large.png"]
