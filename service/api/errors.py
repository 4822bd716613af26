"""The one place where failures become answers: `application/problem+json` (RFC 9457)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from service.api.quotas import quota_headers
from service.errors import EverturnError

MEDIA_TYPE = "application/problem+json"
REPLAYED = "Idempotency-Replayed"
# Where pydantic's words do not tell the way out.
WORDS = {"timezone_aware": "A moment needs its time zone, as in 2026-11-26T00:00:00Z"}
CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}


class Problem(BaseModel):
    """A failure, after RFC 9457. Some carry further members, which their `code` explains."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:everturn:error:not_found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no conversation 7."])
    code: str = Field(examples=["not_found"], description="Stable; docs/errors.md lists them.")
    request_id: str | None = Field(None, examples=["6fa1c02be8e44f3a"])


class Mistake(BaseModel):
    """One thing that is wrong with a request."""

    type: str = Field(examples=["missing"])
    loc: list[str | int] = Field(examples=[["body", "content"]])
    msg: str = Field(examples=["Field required"])
    ctx: dict[str, str | int | float | bool | None] | None = None


class Invalid(BaseModel):
    """A request that does not fit; `detail` says where and why."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:everturn:error:unprocessable"])
    title: str = Field(examples=["The request cannot be carried out"])
    status: int = Field(examples=[422])
    detail: list[Mistake] | str
    code: str = Field(examples=["unprocessable"])
    request_id: str | None = Field(None, examples=["6fa1c02be8e44f3a"])


def _documented(description: str, model: type[BaseModel] = Problem) -> dict[str, Any]:
    # Not as "model": of each FastAPI makes a validator of its own, hundreds of them, whenever a process starts.
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


_RESPONSES: dict[int, dict[str, Any]] = {
    400: _documented("The request contradicts itself, or its cursor is not one of this list's."),
    401: _documented("No valid key was sent."),
    403: _documented("The key may not do this."),
    404: _documented("There is no such thing, or it is somebody else's."),
    408: _documented("The body came too slowly."),
    409: _documented("It contradicts what is there."),
    412: _documented("What is there is not what `If-Match` or `If-None-Match` expects."),
    413: _documented("The body is too large."),
    415: _documented("The body is not of the kind that is taken here."),
    416: _documented("None of the ranges lies within; `Content-Range` has the size."),
    422: _documented("The request does not fit; `detail` says where.", Invalid),
    429: _documented("A limit is used up; `Retry-After` says when to come back."),
    503: _documented("Not available now; `Retry-After` says when to come back."),
    507: _documented("The disk is full; nothing was kept."),
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented error answers of an operation, for `responses=`."""
    return {status: _RESPONSES[status] for status in statuses}


def problem(error: EverturnError, request_id: str | None = None) -> dict[str, object]:
    """The body that a failure is answered with, also as a stream's last event."""
    detail: object = error.detail
    if error.loc:
        detail = [{"type": error.code, "loc": error.loc, "msg": error.detail}]
    return error.facts | _members(error.status, error.code, error.title, detail, request_id)


def respond(error: EverturnError, request_id: str | None = None) -> Response:
    """The answer to a failure, with Retry-After, RateLimit, WWW-Authenticate and Idempotency-Replayed where they
    belong."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    headers |= quota_headers(error.quotas)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="everturn"'
    if error.replayed:
        headers[REPLAYED] = "true"
    if error.status == 416:
        headers["Content-Range"] = f"bytes */{error.facts['size']}"
    return answer(error.status, problem(error, request_id), headers)


def answer(status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(body), status, headers, media_type=MEDIA_TYPE)


def invalid(mistakes: Sequence[Any], request_id: str | None = None) -> Response:
    """The 422 for mistakes as pydantic reports them; what was sent is not repeated."""
    detail = [_mistake(one) for one in mistakes]
    title = "The request cannot be carried out"
    return answer(422, _members(422, "unprocessable", title, detail, request_id))


def install(app: FastAPI) -> None:
    """Answer every failure of the app's routes in one shape. What is not foreseen is left to the middleware."""
    app.add_exception_handler(EverturnError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EverturnError)
    return respond(error, request_id_of(request))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    mistakes = [{**one, "loc": _place(one, error.body)} for one in error.errors()]
    return invalid(mistakes, request_id_of(request))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(allowed(request))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    title = HTTPStatus(error.status_code).phrase
    code = CODES.get(error.status_code, title.lower().replace(" ", "_"))
    detail = error.detail if error.detail != title else _explain(request, error.status_code, title)
    body = _members(error.status_code, code, title, detail, request_id_of(request))
    return answer(error.status_code, body, headers)


def allowed(request: Request) -> list[str]:
    """The methods of all routes at this request's path: one path may have several."""
    path, found = request.scope["path"].removeprefix(request.scope.get("root_path", "")), {"OPTIONS"}
    for route in iter_route_contexts(request.app.routes):
        if compile_path(route.path or "")[0].match(path):
            found |= (route.methods or set()) | ({"HEAD"} if "GET" in (route.methods or ()) else set())
    return sorted(found)


def request_id_of(request: Request) -> str | None:
    """The number that the middleware gave this request."""
    found: str | None = request.scope.get("state", {}).get("request_id")
    return found


def _explain(request: Request, status: int, title: str) -> str:
    if status == 404:
        return "There is nothing at this path; /docs lists what there is."
    return f"{request.method} is not possible here." if status == 405 else title


def _members(status: int, code: str, title: str, detail: object, request_id: str | None) -> dict[str, object]:
    return {
        "type": f"urn:everturn:error:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }


def _place(mistake: Mapping[str, Any], body: Any) -> list[str | int]:
    """Where a mistake is in what was sent: without the names that pydantic puts in for the branches of a union."""
    where, *steps = mistake["loc"]
    if where != "body":
        return [where, *steps[:1], *(step for step in steps[1:] if isinstance(step, int))]
    if not isinstance(body, dict | list):
        return [where, *steps]
    found, value, branch = [where], body, False
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        # Of what names its own shape the branch is called so; the place inside of it follows.
        branch = not branch and isinstance(value, dict) and _names_branch(mistake, value, step, last=last)
        if not branch and _holds(value, step):
            value = value[step]
            found.append(step)
        elif last and mistake["type"] == "missing":
            found.append(step)
    return found


def _names_branch(mistake: Mapping[str, Any], value: dict[str, Any], step: str | int, *, last: bool) -> bool:
    """Whether a step is one that pydantic put in, although the value may have a member of that name."""
    if last:
        return mistake["type"] not in ("missing", "extra_forbidden") and mistake.get("input") == value
    return value.get("type") == step


def _holds(value: Any, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _mistake(error: Mapping[str, Any]) -> dict[str, object]:
    said = WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    made: dict[str, object] = {"type": error["type"], "loc": list(error["loc"]), "msg": said}
    context = error.get("ctx") or {}
    kept = {name: value for name, value in context.items() if isinstance(value, str | int | float | bool)}
    return made | {"ctx": kept} if kept else made
