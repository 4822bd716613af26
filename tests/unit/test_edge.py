"""The HTTP edge: problems, request ids, limits and pages, on a small app over ASGI."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware

from service.api import describe, errors
from service.api.body import Body, StrictRoute
from service.api.middleware import EXPOSED, Edge, Guard
from service.api.paging import PageOf, asked, paged
from service.domain.paging import Ask, Page
from service.errors import ConversationBusy, EverturnError, LimitExceeded, Unauthenticated, Unprocessable

SECRET = "what-a-user-wrote"
ORIGIN = "https://chat.example"
router = APIRouter(prefix="/things", route_class=StrictRoute, responses=errors.responses(404, 422))


class Thing(Body):
    name: str
    size: int = 1


@router.get("")
async def list_things(request: Request, response: Response, ask: Annotated[Ask, Depends(asked(10))]) -> PageOf[int]:
    return paged(request, response, Page([1, 2], None if ask.cursor else 25, ask.skip, ask.limit, "onward", "back"))


@router.post("", status_code=201)
async def create_thing(body: Thing) -> Thing:
    return body


@router.get("/{code}")
async def fail(code: str) -> None:
    found: dict[str, EverturnError] = {
        "busy": ConversationBusy(facts={"completion_id": 7}),
        "limit": LimitExceeded(retry_after=9),
        "key": Unauthenticated(),
        "payload": Unprocessable("Not so.", loc=("body", "name")),
    }
    raise found.get(code) or ValueError(SECRET)


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    errors.install(app)
    describe.install(app)
    app.include_router(router)
    app.add_middleware(Guard, max_body_bytes=1000)
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_methods=["*"], expose_headers=EXPOSED)
    app.add_middleware(Edge)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


async def test_a_problem_has_its_shape(client: httpx2.AsyncClient) -> None:
    reply = await client.get("/things/busy", headers={"X-Request-ID": "mine-1"})
    assert reply.status_code == 409
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {
        "completion_id": 7,
        "type": "urn:everturn:error:conversation_busy",
        "title": "The conversation has a running turn",
        "status": 409,
        "detail": "The conversation has a running turn",
        "code": "conversation_busy",
        "request_id": "mine-1",
    }


async def test_headers_say_when_and_how_to_come_back(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/things/limit")).headers["retry-after"] == "9"
    assert (await client.get("/things/key")).headers["www-authenticate"].startswith("Bearer")


async def test_an_unforeseen_error_shows_nothing(client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    reply = await client.get("/things/odd")
    assert reply.status_code == 500
    assert reply.json()["code"] == "internal_error"
    assert SECRET not in reply.text
    assert reply.json()["request_id"] in caplog.text
    assert "ValueError" in caplog.text
    assert SECRET not in [record.getMessage().splitlines()[-1] for record in caplog.records][-1]


@pytest.mark.parametrize(
    ("content", "loc"),
    [
        (b'{"size": 1}', ["body", "name"]),
        (b'{"name": "a", "size": "x"}', ["body", "size"]),
        (b'{"name": "a", "colour": "red"}', ["body", "colour"]),
        (b'{"name": "\\u0000"}', ["body", "name"]),
        (b"[]", ["body"]),
        (b"", ["body"]),
    ],
)
async def test_a_wrong_body_is_a_422_that_says_where(
    client: httpx2.AsyncClient, content: bytes, loc: list[str]
) -> None:
    reply = await client.post("/things", content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == loc
    assert reply.json()["code"] == "unprocessable"


async def test_a_refused_request_keeps_fastapis_detail_list(client: httpx2.AsyncClient) -> None:
    detail = (await client.get("/things/payload")).json()["detail"]
    assert detail == [{"type": "unprocessable", "loc": ["body", "name"], "msg": "Not so."}]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_another_content_type_is_a_415(client: httpx2.AsyncClient, kind: str) -> None:
    assert (await client.post("/things", content=b"{}", headers={"Content-Type": kind})).status_code == 415


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
)
async def test_json_has_several_names(client: httpx2.AsyncClient, kind: str) -> None:
    reply = await client.post("/things", content=b'{"name": "a"}', headers={"Content-Type": kind})
    assert reply.status_code == 201


async def test_a_large_body_is_a_413_announced_or_not(client: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 300

    for content in (b" " * 1001, pieces()):
        reply = await client.post("/things", content=content, headers={"Content-Type": "application/json"})
        assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", ["/things?q=%00", "/things/a%00b", "/things/a%0Ab", "/things/busy%0A", "/nowhere%0A"])
async def test_a_nul_or_a_line_break_in_the_address_is_a_422(client: httpx2.AsyncClient, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        assert (await client.request(method, path)).status_code == 422
    assert (await client.get(path)).json()["detail"][0]["type"] == "string_unsafe"


async def test_unknown_paths_and_methods_are_problems(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/nowhere")).json()["code"] == "not_found"
    reply = await client.delete("/things")
    assert (reply.json()["code"], reply.headers["allow"]) == ("method_not_allowed", "GET, HEAD, OPTIONS, POST")
    options = await client.options("/things")
    assert (options.status_code, options.content, options.headers["allow"]) == (204, b"", reply.headers["allow"])
    assert (await client.options("/nowhere")).status_code == 404


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", "<script>"])
async def test_an_odd_request_id_is_replaced(client: httpx2.AsyncClient, given: str) -> None:
    found = (await client.get("/things", headers={b"X-Request-ID": given.encode()})).headers["x-request-id"]
    assert len(found) == 32
    assert found != given


async def test_every_answer_carries_its_headers(client: httpx2.AsyncClient) -> None:
    for path in ("/things", "/things/busy", "/nowhere", "/things/odd"):
        headers = (await client.get(path)).headers
        assert headers["server-timing"].startswith("total;dur=")
        assert headers["x-content-type-options"] == "nosniff"
        assert len(headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [("/things", b"{}", 422), ("/things?a=%00", b"{}", 422), ("/things", b" " * 1001, 413), ("/nowhere", b"", 404)],
)
async def test_a_page_of_a_known_origin_may_read_refusals(
    client: httpx2.AsyncClient, path: str, content: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json", "Origin": ORIGIN}
    reply = await client.post(path, content=content, headers=headers)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, ORIGIN)
    assert "X-Request-ID" in reply.headers["access-control-expose-headers"]
    broken = await client.get("/things/odd", headers={"Origin": ORIGIN})
    assert (broken.status_code, broken.headers["access-control-allow-origin"]) == (500, ORIGIN)
    stranger = await client.get("/things", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in stranger.headers


async def test_a_preflight_has_the_headers_of_every_answer(client: httpx2.AsyncClient) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE"}
    reply = await client.options("/things", headers=asked)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert len(reply.headers["x-request-id"]) == 32
    assert (await client.options("/things", headers={**asked, "Origin": "https://x.example"})).status_code == 400


@pytest.mark.parametrize("query", ["skip=&limit=&cursor=", "cursor", "&&", "=", "skip=&skip=0"])
async def test_a_parameter_without_a_value_counts_as_left_out(client: httpx2.AsyncClient, query: str) -> None:
    reply = await client.get(f"/things?{query}")
    assert (reply.status_code, reply.json()["skip"], reply.json()["limit"]) == (200, 0, 10)


async def test_head_is_answered_as_get_is(client: httpx2.AsyncClient) -> None:
    assert (await client.head("/things")).headers["x-total-count"] == "25"


async def test_a_page_links_its_neighbours(client: httpx2.AsyncClient) -> None:
    reply = await client.get("/things?tag=a%26b&skip=10")
    assert reply.json() == {
        "items": [1, 2], "total": 25, "skip": 10, "limit": 10, "next_cursor": "onward", "prev_cursor": "back"
    }  # fmt: skip
    assert reply.headers["link"] == (
        '</things?tag=a%26b>; rel="first", '
        '</things?tag=a%26b&skip=0>; rel="prev", '
        '</things?tag=a%26b&skip=20>; rel="next"'
    )
    reply = await client.get("/things?cursor=here&limit=2")
    assert "x-total-count" not in reply.headers
    assert '</things?limit=2&cursor=onward>; rel="next"' in reply.headers["link"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "skip=-1", "skip=9007199254740992", "skip=x", f"cursor={'a' * 5001}"]
)
async def test_a_page_out_of_bounds_is_a_422(client: httpx2.AsyncClient, query: str) -> None:
    assert (await client.get(f"/things?{query}")).status_code == 422


async def test_the_description_documents_the_problems(client: httpx2.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    replies = described["paths"]["/things"]["post"]["responses"]
    assert list(replies["404"]["content"]) == ["application/problem+json"]
    assert replies["422"]["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Invalid")
