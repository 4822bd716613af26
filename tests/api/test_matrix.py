"""Each route × {anonymous, owner, other user, admin}: who gets which answer about the owner's things."""

from typing import NamedTuple

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from service.config import Settings
from service.main import create_app
from tests.api.steps import OPENAI, ask, call, start_talk
from tests.conftest import People
from tests.pictures import data_url, png


class Row(NamedTuple):
    """The statuses of one route for each of the four, and the body that they send."""

    anonymous: int
    owner: int
    other: int
    admin: int
    body: object = None


def everybody(body: object = None) -> Row:
    return Row(200, 200, 200, 200, body)


def any_key(status: int = 200, body: object = None) -> Row:
    """Works on the caller's own things, so on nobody else's."""
    return Row(401, status, status, status, body)


def admin_only(status: int = 200, body: object = None) -> Row:
    return Row(401, 403, 403, status, body)


def owned(status: int = 200, body: object = None) -> Row:
    """The owner's thing: others cannot tell that it is there, and an admin key asks as its own user."""
    return Row(401, status, 404, 404, body)


def below_user(status: int = 200, body: object = None) -> Row:
    """The path names the owner: an admin key may go there too."""
    return Row(401, status, 404, status, body)


CHAT = {"model": OPENAI, "messages": [{"role": "user", "content": "Hello?"}]}
EXPECTED: dict[str, Row] = {
    "GET /": everybody(),
    "GET /openapi.json": everybody(),
    "GET /health": everybody(),
    "GET /health/ready": everybody(),
    "GET /metrics": everybody(),
    "GET /docs": everybody(),
    "GET /redoc": everybody(),
    "GET /docs/assets/{name}": everybody(),
    "GET /web/{asset}": everybody(),
    "GET /models": any_key(),
    "GET /models/list": any_key(),
    "GET /models/{model_id:path}": any_key(),
    "GET /models/{model_id:path}/config": any_key(),
    "POST /models": admin_only(201, {"id": "{unique}", "provider": "openai"}),
    "PATCH /models/{model_id:path}": admin_only(200, {"max_tokens": 1000}),
    "DELETE /models/{model_id:path}": admin_only(204),
    "GET /users": admin_only(),
    "POST /users": admin_only(201, {"username": "{unique}"}),
    "PATCH /users/{user_id}": admin_only(200, {"tags": ["vip"]}),
    "GET /users/{user_id}": below_user(),
    "PUT /users/{user_id}": below_user(200, {"settings": {"theme": "dark"}}),
    "DELETE /users/{user_id}": below_user(),
    "GET /users/{user_id}/keys": below_user(),
    "POST /users/{user_id}/keys": below_user(201, {"name": "further"}),
    "POST /users/{user_id}/keys/{key_id}/rotate": below_user(201, {}),
    "DELETE /users/{user_id}/keys/{key_id}": below_user(204),
    "GET /limits": admin_only(),
    "PATCH /limits": admin_only(200, {"limits": {"streams": None}}),
    "DELETE /limits": admin_only(204),
    "GET /users/{user_id}/limits": below_user(),
    "PATCH /users/{user_id}/limits": admin_only(200, {"limits": {"streams": 5}}),
    "DELETE /users/{user_id}/limits": admin_only(204),
    "GET /users/{user_id}/keys/{key_id}/limits": below_user(),
    "PATCH /users/{user_id}/keys/{key_id}/limits": admin_only(200, {"budgets": {"day": "5"}}),
    "DELETE /users/{user_id}/keys/{key_id}/limits": admin_only(204),
    "GET /users/{user_id}/conversations": below_user(),
    "POST /users/{user_id}/conversations": below_user(201, {"title": "New"}),
    "GET /users/{user_id}/conversations/{conversation_id}": below_user(),
    "PATCH /users/{user_id}/conversations/{conversation_id}": below_user(200, {"title": "Changed"}),
    "DELETE /users/{user_id}/conversations/{conversation_id}": below_user(204),
    "GET /users/{user_id}/messages": below_user(),
    "GET /users/{user_id}/completions": below_user(),
    "GET /users/{user_id}/export": below_user(),
    "POST /users/{user_id}/import": below_user(
        200, {"id": "{unique}", "mapping": {"m": {"message": {"content": "Hi"}}}}
    ),
    "GET /conversations": any_key(),
    "POST /conversations": any_key(201, {"title": "New"}),
    "POST /conversation": any_key(201, {"messages": [{"role": "user", "content": "Hello?"}]}),
    "GET /conversations/{conversation_id}": owned(),
    "PATCH /conversations/{conversation_id}": owned(200, {"title": "Changed"}),
    "DELETE /conversations/{conversation_id}": owned(204),
    "GET /conversations/{conversation_id}/messages": owned(),
    "POST /conversations/{conversation_id}/messages": owned(201, {"role": "user", "content": "More."}),
    "POST /conversations/{conversation_id}/completions": owned(201, {"model": OPENAI, "content": "And?"}),
    "POST /conversations/{conversation_id}/fork": owned(201, {}),
    "POST /conversations/{conversation_id}/activate": owned(200, {"message_id": "{message_id}"}),
    "POST /conversations/{conversation_id}/regenerate": owned(201, {"model": OPENAI}),
    "GET /messages/{message_id}": owned(),
    "GET /messages/{message_id}/images/{sha256}": owned(),
    "PATCH /messages/{message_id}": owned(200, {"content": "Better."}),
    "DELETE /messages/{message_id}": owned(),
    "POST /chat": owned(201, {"role": "user", "content": "Hello?", "conversation_id": "{conversation_id}"}),
    "POST /chat/completions": owned(201, {**CHAT, "conversation_id": "{conversation_id}"}),
    "POST /chat/completions/stream": owned(200, {**CHAT, "conversation_id": "{conversation_id}"}),
    "POST /chat/stream": owned(200, {"model": OPENAI, "prompt": "Hello?", "conversation_id": "{conversation_id}"}),
    "POST /models/{model_id:path}/completions": any_key(201, {"prompt": "Hello?"}),
    "POST /completions": owned(201, {"model": OPENAI, "prompt": "Hello?", "conversation_id": "{conversation_id}"}),
    "POST /completions/{provider}": owned(201, {**CHAT, "conversation_id": "{conversation_id}"}),
    "POST /compare-providers": owned(
        201, {"models": [OPENAI, OPENAI], "messages": CHAT["messages"], "conversation_id": "{conversation_id}"}
    ),
    "DELETE /completions/{completion_id}": Row(401, 204, 404, 204),
    "GET /usage": any_key(),
    "GET /usage/entries": any_key(),
    "GET /download/report": any_key(),
    "GET /users/{user_id}/usage": below_user(),
    "GET /search?query=hello": any_key(),
    "GET /completions": any_key(),
    "GET /completions/{completion_id}": Row(401, 200, 404, 200),
    "GET /completions/{completion_id}/stream": Row(401, 200, 404, 200),
    "POST /completions/{completion_id}/cancel": Row(401, 200, 404, 200),
    "GET /files": any_key(),
    # Everybody writes among their own files, where only the owner has one at this path.
    "PUT /files/{path:path}": Row(401, 200, 201, 201),
    "GET /files/{path:path}": owned(),
    "DELETE /files/{path:path}": owned(204),
}
CHANGES_MODELS = {"PATCH /models/{model_id:path}", "DELETE /models/{model_id:path}"}
# What an admin key reads as itself although it is somebody else's.
SEES_ALL = {
    "DELETE /completions/{completion_id}",
    "GET /completions/{completion_id}",
    "GET /completions/{completion_id}/stream",
    "POST /completions/{completion_id}/cancel",
}


def routes() -> set[str]:
    found = iter_route_contexts(create_app(Settings(local_model="off")).routes)
    return {f"{method} {route.path}" for route in found for method in (route.methods or set()) - {"HEAD"}}


def test_each_route_has_its_expectation() -> None:
    named = {name.partition("?")[0] for name in EXPECTED}
    missing, gone = routes() - named, named - routes()
    assert not missing, f"Say in EXPECTED who may use these: {sorted(missing)}"
    assert not gone, f"These are no routes: {sorted(gone)}"


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.usefixtures("llmock")
async def test_who_may(people: People, name: str) -> None:
    row = EXPECTED[name]
    names = await things(people.owner, people.owner_id)
    if name in CHANGES_MODELS:
        # One of its own: the others are asked by other tests.
        body = {"id": names["unique"], "provider": "openai"}
        names["model_id:path"] = (await call(people.admin, "POST", "/models", body, expect=201))["id"]
    got = [await status(client, name, row.body, names) for client in (people.anonymous, people.other, people.owner)]
    assert got == [row.anonymous, row.other, row.owner]
    # The owner may have deleted things: an admin key asks about the other one's.
    names = {**await things(people.other, people.other_id), "model_id:path": names["model_id:path"]}
    assert await status(people.admin, name, row.body, names) == row.admin
    if "{user_id}" not in name and row.anonymous == 401 and row.owner != 403 and name not in SEES_ALL:
        people.admin.headers["Everturn-User"] = str(people.other_id)
        assert await status(people.admin, name, row.body, names) == row.owner


@pytest.mark.parametrize(
    "path", ["/conversations", "/completions", "/users/me/messages", "/users/me/conversations", "/users/me/completions"]
)
@pytest.mark.usefixtures("llmock")
async def test_a_list_holds_ones_own_things_only(people: People, path: str) -> None:
    for client, number in ((people.owner, people.owner_id), (people.other, people.other_id)):
        await things(client, number)
    own = await call(people.owner, "GET", path, expect=200)
    others = await call(people.other, "GET", path, expect=200)
    assert own["total"] == len(own["items"]) > 0
    assert others["total"] == own["total"]
    assert not {one["id"] for one in own["items"]} & {one["id"] for one in others["items"]}


async def test_somebody_elses_message_is_no_parent(people: People) -> None:
    mine, theirs = await start_talk(people.owner, "Mine"), await start_talk(people.other, "Theirs")
    for talk, parent in ((mine["id"], theirs["active_leaf_id"]), (theirs["id"], mine["active_leaf_id"])):
        body = {"content": "Hello?", "parent_id": parent, "model": OPENAI}
        await call(people.owner, "POST", f"/conversations/{talk}/completions", body, expect=404)
        line = {"role": "user", "content": "Hello?", "parent_id": parent}
        await call(people.owner, "POST", f"/conversations/{talk}/messages", line, expect=404)


async def test_an_unknown_thing_and_somebody_elses_look_the_same(people: People) -> None:
    talk = await start_talk(people.owner, "Secret")
    answers = [await people.other.get(f"/conversations/{number}") for number in (talk["id"], 2**53 - 1)]
    shown = []
    for answer, number in zip(answers, (talk["id"], 2**53 - 1), strict=True):
        body = answer.json()
        assert body.pop("request_id") == answer.headers["x-request-id"]
        shown.append({**body, "detail": body["detail"].replace(str(number), "N")})
    assert shown[0] == shown[1]
    assert answers[0].headers["content-type"] == "application/problem+json"


async def things(client: httpx2.AsyncClient, user_id: int) -> dict[str, object]:
    """One of each kind of thing of a user, by the name that it has in paths."""
    talk = await start_talk(client, "Hello", "Hi!")
    answer = await ask(client, talk["id"], "How are you?")
    key = await call(client, "POST", "/users/me/keys", {"name": "spare"}, expect=201)
    path = f"notes/{key['id']}.txt"
    assert (await client.put(f"/files/{path}", content=b"Remember the milk.")).status_code == 201
    shown = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_url(png())}}]}
    message = await call(client, "POST", f"/conversations/{talk['id']}/messages", shown, expect=201)
    return {
        "user_id": user_id,
        "conversation_id": talk["id"],
        "message_id": message["id"],
        "sha256": message["parts"][0]["sha256"],
        "completion_id": answer["completion_id"],
        "key_id": key["id"],
        "path:path": path,
        "model_id:path": OPENAI,
        "provider": "openai",
        "name": "swagger-ui.css",
        "asset": "everturn.css",
        "unique": f"made-for-{key['id']}",
    }


async def status(client: httpx2.AsyncClient, name: str, body: object, names: dict[str, object]) -> int:
    method, _, path = name.partition(" ")
    return (await client.request(method, filled(path, names), json=filled_body(body, names))).status_code


def filled(text: str, names: dict[str, object]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def filled_body(body: object, names: dict[str, object]) -> object:
    """The body with its own placeholders filled, as they are: a number stays one."""
    if not isinstance(body, dict):
        return body
    return {key: names.get(value[1:-1], value) if isinstance(value, str) else value for key, value in body.items()}
