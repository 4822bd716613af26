"""`loc` of a 422 leads to the place in what was sent, whoever finds the mistake."""

from typing import Any

import httpx2
import pytest

from tests.api.steps import OPENAI, Json, call
from tests.api.test_bad_input import LINE, refused
from tests.conftest import People

PICTURE = {"type": "image_url", "image_url": {"url": "http://x.org/a.png"}}
PLACES: list[tuple[Any, list[str | int]]] = [
    (None, []),
    (5, []),
    ("", []),
    ([], []),
    ([{"type": "text", "text": ""}], [0, "text"]),
    ([{"type": "text"}], [0, "text"]),
    ([{"type": "text", "text": "x"}, PICTURE], [1, "image_url", "url"]),
    ([{"type": "image_url", "image_url": {}}], [0, "image_url", "url"]),
    ([{"type": "image_url", "image_url": 5}], [0, "image_url"]),
    ([{"type": "image", "file": "/a"}], [0, "file"]),
    ([{"type": "image"}], [0, "file"]),
    ([{"type": "text", "text": "x", "more": 1}], [0, "more"]),
    ([{"type": "sound"}], [0]),
    ([5], [0]),
]


@pytest.mark.parametrize(("content", "place"), PLACES)
async def test_loc_leads_to_the_place_in_what_was_sent(http: httpx2.AsyncClient, content: Any, place: Any) -> None:
    asks: list[tuple[str, Json, list[str | int]]] = [
        ("/chat", {"role": "user", "content": content}, ["body", "content"]),
        (
            "/conversation",
            {"messages": [LINE, {"role": "user", "content": content}]},
            ["body", "messages", 1, "content"],
        ),
    ]
    for path, body, above in asks:
        problem = refused(await http.post(path, json=body), 422, "unprocessable")
        assert [one["loc"] for one in problem["detail"]] == [[*above, *place]]


async def test_loc_of_a_path_is_its_parameter(people: People) -> None:
    problem = refused(await people.admin.get("/users/abc/keys"), 422, "unprocessable")
    assert {tuple(one["loc"]) for one in problem["detail"]} == {("path", "user_id")}


async def test_what_is_refused_later_says_where_as_well(people: People) -> None:
    http = people.owner
    empty = (await call(http, "POST", "/conversation", {}, expect=201))["id"]
    said = {"messages": [{"role": "assistant", "content": "Hi"}]}
    unasked = await call(http, "POST", "/conversation", said, expect=201)
    first = unasked["active_leaf_id"]
    for talk, body, place in (
        (empty, {}, ["path", "conversation_id"]),
        (unasked["id"], {"message_id": first}, ["body", "message_id"]),
    ):
        reply = await http.post(f"/conversations/{talk}/regenerate", json={"model": OPENAI, **body})
        assert refused(reply, 422, "unprocessable")["detail"][0]["loc"] == place


@pytest.mark.parametrize("parent", [True, 1])
async def test_a_comparison_has_no_parent_without_a_conversation(people: People, llmock: Any, parent: Any) -> None:
    body = {"models": [OPENAI], "messages": [LINE], "parent_id": parent}
    reply = await people.owner.post("/compare-providers", json=body)
    assert refused(reply, 422, "unprocessable")["detail"][0]["loc"] == ["body", "parent_id"]
    assert llmock.requests == []


@pytest.mark.parametrize(
    ("kind", "name"), [("limits", "requests_per_minute"), ("limits", "streams"), ("budgets", "day")]
)
async def test_true_is_no_limit(people: People, kind: str, name: str) -> None:
    reply = await people.admin.patch(f"/users/{people.owner_id}", json={kind: {name: True}})
    assert refused(reply, 422, "unprocessable")["detail"][0]["loc"] == ["body", kind, name]
