"""Answers that are made only as long as somebody waits for them."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

Answer = TypeVar("Answer")


async def attended(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """What the work returns or raises. Where the client hangs up before that, the work is cancelled and waited for.

    The request's body must have been read.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))
    if working.cancelled():
        raise HTTPException(400, "The connection was closed before the answer was there.")
    return working.result()


class AttendedStream(StreamingResponse):
    """Pieces that end after the one that is being made when the client hangs up.

    Starlette would cancel whoever makes it, again and again, and a connection to the database would not outlive that.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._pieces = pieces
        super().__init__(pieces, headers=headers, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(_left(receive))
        try:
            async with aclosing(self._pieces):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                if not scope["state"].get("head"):
                    await self._send(send, leaving)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            leaving.cancel()

    async def _send(self, send: Send, leaving: "asyncio.Task[None]") -> None:
        async for piece in self._pieces:
            if leaving.done():
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
