"""Content as an answer: whole, in ranges, or not at all where the client has it; in constant memory."""

from base64 import b64encode
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.api.uploads import conditions_of
from service.blobs.store import Reader
from service.domain.etags import quote
from service.domain.media import disposition
from service.domain.ranges import Span, parse_range
from service.errors import EverturnError, PreconditionFailed, RangeNotSatisfiable
from service.usecases.files import File

CHUNK_BYTES = 256 * 1024
BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "…"}}
# What a route that sends content documents.
CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The content.", "content": {"*/*": BINARY["application/octet-stream"]}},
    206: {"description": "The ranges of it that were asked for."},
    304: {"description": "The client has it already, says `If-None-Match`."},
}


def send_content(request: Request, file: File, reader: Reader) -> Response:
    """The answer to a GET or HEAD, in the order of RFC 9110, section 13.2.2. Closes the reader, also where it raises.

    Raises PreconditionFailed, RangeNotSatisfiable, BadRequest for conditions that are none.
    """
    try:
        return _answer(request, file, reader)
    except EverturnError:
        reader.close()
        raise


def _answer(request: Request, file: File, reader: Reader) -> Response:
    tag, conditions = quote(file.sha256), conditions_of(request)
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if conditions.match is not None and not conditions.match.match(tag):
        raise PreconditionFailed
    if conditions.none_match is not None and conditions.none_match.match(tag, weak=True):
        reader.close()
        return Response(status_code=304, headers=headers)
    headers |= {
        "Content-Type": file.content_type,
        "Content-Disposition": disposition(file.content_type, file.path),
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(file.sha256)).decode()}:",
    }
    spans = _spans(request, tag, file.size)
    if spans is None:
        parts, status = [(b"", (0, file.size))], 200
    elif len(spans) == 1:
        [(start, end)] = spans
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        parts, status = [(b"", (start, end))], 206
    else:
        boundary = token_hex(16)
        headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        parts, status = _multipart(spans, file, boundary), 206
    headers["Content-Length"] = str(sum(len(text) + end - start for text, (start, end) in parts))
    return ContentResponse(reader, parts, status, headers)


class ContentResponse(StreamingResponse):
    """Stretches of a blob, each after some bytes of its own. The blob is closed whatever becomes of the client."""

    def __init__(
        self, reader: Reader, parts: list[tuple[bytes, Span]], status_code: int, headers: dict[str, str]
    ) -> None:
        self._reader = reader
        self._parts = parts
        super().__init__(self._pieces(), status_code, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["state"].get("head"):
            self._parts = []
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reader.close()

    async def _pieces(self) -> AsyncIterator[bytes]:
        for text, (start, end) in self._parts:
            if text:
                yield text
            while start < end:
                piece = await self._reader.read(start, min(CHUNK_BYTES, end - start))
                if not piece:
                    # Shorter on the disk than it was written: the connection ends before the announced length.
                    return
                start += len(piece)
                yield piece


def _spans(request: Request, tag: str, size: int) -> list[Span] | None:
    """The ranges to be sent, None for all. Raises RangeNotSatisfiable."""
    header, only_if = request.headers.get("range"), request.headers.get("if-range")
    if header is None or (only_if is not None and only_if.strip() != tag):
        return None
    spans = parse_range(header, size)
    if spans == []:
        raise RangeNotSatisfiable(facts={"size": size})
    return spans


def _multipart(spans: list[Span], file: File, boundary: str) -> list[tuple[bytes, Span]]:
    parts: list[tuple[bytes, Span]] = []
    for index, (start, end) in enumerate(spans):
        head = f"--{boundary}\r\nContent-Type: {file.content_type}\r\n"
        line = f"Content-Range: bytes {start}-{end - 1}/{file.size}\r\n\r\n"
        parts.append((("\r\n" if index else "").encode() + f"{head}{line}".encode("latin-1"), (start, end)))
    return [*parts, (f"\r\n--{boundary}--\r\n".encode(), (0, 0))]
