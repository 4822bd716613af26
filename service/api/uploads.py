"""Bodies that are no JSON, as they come: their announced facts, and the bytes, neither too slowly nor cut off."""

import asyncio
import re
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import monotonic

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.domain.etags import Conditions, Tags, parse_tags
from service.domain.media import clean_media_type, essence
from service.errors import BadRequest, Stalled

IDLE_SECONDS = 60.0
LEAST_BYTES_PER_SECOND = 1000
_DIGEST = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:([A-Za-z0-9+/]{43}=):", re.IGNORECASE)


async def read_upload(request: Request) -> AsyncIterator[bytes]:
    """The body's pieces. Raises Stalled, BodyTooLarge, and a 400 where the connection was closed before its end."""
    began, received = monotonic(), 0
    async with aclosing(request.stream()) as pieces:
        while True:
            left = IDLE_SECONDS + received / LEAST_BYTES_PER_SECOND - (monotonic() - began)
            try:
                async with asyncio.timeout(min(left, IDLE_SECONDS)):
                    piece = await anext(pieces, None)
            except TimeoutError:
                raise Stalled from None
            except ClientDisconnect:
                raise HTTPException(400, "The connection was closed before the body was complete.") from None
            if piece is None:
                return
            received += len(piece)
            yield piece


def media_type_of(request: Request) -> str:
    """What the body is announced as. Raises a 415 for a form, or for a body that is encoded."""
    try:
        media_type = clean_media_type(request.headers.get("content-type"))
    except ValueError:
        raise HTTPException(415, "The header Content-Type is no media type.") from None
    if essence(media_type) in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise HTTPException(415, "Send the bytes of the file themselves, not a form.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "Send the bytes of the file themselves, without a Content-Encoding.")
    if "content-range" in request.headers:
        raise BadRequest("A file is written as a whole: Content-Range is not taken.")
    return media_type


def length_of(request: Request) -> int | None:
    """The announced length, which the server holds the client to."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def digest_of(request: Request) -> str | None:
    """The SHA-256 in Content-Digest or Repr-Digest (RFC 9530), in hexadecimal digits; other algorithms are ignored."""
    for name in ("content-digest", "repr-digest"):
        if found := _DIGEST.search(",".join(request.headers.getlist(name))):
            return b64decode(found[1]).hex()
    return None


def conditions_of(request: Request) -> Conditions:
    """Raises BadRequest for an If-Match or If-None-Match that lists no entity tags."""
    return Conditions(_tags(request, "if-match"), _tags(request, "if-none-match"))


def _tags(request: Request, name: str) -> Tags | None:
    lines = request.headers.getlist(name)
    if not lines:
        return None
    try:
        return parse_tags(",".join(lines))
    except ValueError:
        raise BadRequest(f"The header {name.title()} must list entity tags in quotation marks, or be `*`.") from None
