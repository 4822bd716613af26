"""The HTTP edge around all routes: request id, time, access log, metrics; then body limit and the last resort."""

import logging
import re
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple
from uuid import uuid4

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import invalid, respond
from service.errors import BodyTooLarge, EverturnError
from service.logs import describe

log = logging.getLogger(__name__)
access = structlog.get_logger("access")

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

REQUESTS = Counter("everturn_http_requests_total", "Requests answered.", ["method", "route", "status"])
DURATION = Histogram(
    "everturn_http_request_duration_seconds", "Seconds until the last byte.", ["method", "route"], buckets=BUCKETS
)
# What a page of another origin may read of an answer.
EXPOSED = (
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Everturn-Completion-Id",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Limit",
    "RateLimit-Policy",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "Server-Timing",
    "X-Request-ID",
    "X-Total-Count",
)
FILES = "/files/"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """Pure ASGI middleware, the outermost of the app's own: every answer passes it, those to CORS preflights too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["query_string"]:
            # A parameter without a value was left out, as forms and templates send it: ?q=&skip=0 is ?skip=0.
            parts = scope["query_string"].split(b"&")
            scope = {**scope, "query_string": b"&".join(part for part in parts if part.partition(b"=")[2])}
        if scope["method"] == "HEAD":
            # Answered as GET is; the server leaves the body out.
            scope = {**scope, "method": "GET", "state": {**scope.get("state", {}), "head": True}}
        exchange = _Exchange(scope, send)
        try:
            await self._app(scope, receive, exchange.send)
        finally:
            exchange.record()


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_scope", "_send", "_started", "_status", "request_id")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._started = perf_counter()
        self._scope = scope
        self._send = send
        self._status = 0
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        self.request_id = given if SANE_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            took = (perf_counter() - self._started) * 1000
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
                (b"server-timing", b"total;dur=%.2f" % took),
                (b"x-content-type-options", b"nosniff"),
            ]
        await self._send(message)

    def record(self) -> None:
        """Count and log the request: neither its query nor the name of a file, which hold what users wrote."""
        scope = self._scope
        took = perf_counter() - self._started
        route, method = route_of(scope), scope["method"]
        if method not in METHODS:
            method = "other"
        REQUESTS.labels(method, route, str(self._status)).inc()
        DURATION.labels(method, route).observe(took)
        access.info(
            "request",
            method=method,
            path=FILES if scope["path"].startswith(FILES) else scope["path"],
            status=self._status,
            ms=round(took * 1000, 1),
            request_id=self.request_id,
        )


class Upload(NamedTuple):
    """A route whose body goes to the disk as it comes, and may be larger than others."""

    method: str
    path: re.Pattern[str]
    most: int


class Guard:
    """Pure ASGI middleware inside of CORS, so that browsers may read these refusals too: what no route should see."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, uploads: Sequence[Upload] = ()) -> None:
        self._app = app
        self._most = max_body_bytes
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Guarded(scope, receive, send, self._room(scope)).run(self._app)

    def _room(self, scope: Scope) -> int:
        """How large this request's body may be: what goes to the disk as it comes has more room."""
        method, path = scope["method"], scope["path"]
        return next(
            (one.most for one in self._uploads if one.method == method and one.path.fullmatch(path)), self._most
        )


class _Guarded:
    """One request whose body is counted, and whose failure is answered if nothing was sent yet."""

    __slots__ = ("_begun", "_left", "_most", "_receive", "_scope", "_send")

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._most = self._left = most
        self._begun = False

    async def run(self, app: ASGIApp) -> None:
        """Call the app. Here everything that nobody foresaw becomes a 500, and is logged without its message, which
        may quote what users wrote."""
        request_id: str | None = self._scope.get("state", {}).get("request_id")
        try:
            if mistake := self._mistake():
                await invalid([mistake], request_id)(self._scope, self._receive, self.send)
                return
            self._check_length()
            await app(self._scope, self.receive, self.send)
        except EverturnError as error:
            await self._answer(error, request_id)
        except Exception as error:
            log.error("request %s broke\n%s", request_id, describe(error))
            broken = EverturnError("Something broke inside the service; its log has the request's id.")
            await self._answer(broken, request_id)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise BodyTooLarge(_too_large(self._most))
        return message

    async def send(self, message: Message) -> None:
        self._begun = True
        await self._send(message)

    def _mistake(self) -> dict[str, object] | None:
        """A NUL, which no parameter may hold and no database takes, or a path with a line break, which the patterns of
        routes do not match, or leave out where it is the last."""
        path, nul = self._scope["path"], "Text must not contain NUL (U+0000)"
        mistakes = (
            (b"%00" in self._scope["query_string"], "query", nul),
            ("\x00" in path, "path", nul),
            ("\n" in path, "path", "A path must not contain a line break"),
        )
        for made, where, message in mistakes:
            if made:
                return {"type": "string_unsafe", "loc": (where,), "msg": message}
        return None

    def _check_length(self) -> None:
        length = Headers(scope=self._scope).get("content-length", "0")
        if length.isdigit() and int(length) > self._left:
            raise BodyTooLarge(_too_large(self._most))

    async def _answer(self, error: EverturnError, request_id: str | None) -> None:
        if not self._begun:
            await respond(error, request_id)(self._scope, self._receive, self.send)


def route_of(scope: Scope) -> str:
    """The template of the route that answered, such as `/conversations/{conversation_id}`; `none` where none did."""
    found: str = getattr(scope.get("route"), "path", "none")
    return found


def _too_large(most: int) -> str:
    return f"The body is larger than the {most:,} bytes that are taken here."
