"""Server-sent events: the only place that makes their bytes.

The format is the WHATWG's (HTML, "Server-sent events"): `id:`, `event:` and `data:` lines, then an empty one.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import StreamingResponse

from service.domain.events import Event

# For the OpenAPI document.
SSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer as it is written",
        "content": {
            "text/event-stream": {
                "example": 'id: 9:0\nevent: completion\ndata: {"completion_id":9}\n\n'
                'id: 9:1\ndata: {"token": "The"}\n\n'
                'id: 9:8\nevent: usage\ndata: {"input_tokens":37,"output_tokens":8}\n\nid: 9:9\ndata: [DONE]\n\n'
            }
        },
    }
}
HEARTBEAT = b": still here\n\n"
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


def stream(
    completion_id: int, batches: AsyncIterator[list[Event]], first: Mapping[str, Any] | None = None
) -> StreamingResponse:
    """A turn's events: tokens, `event: usage`, `[DONE]`; or `event: error` at the end.

    `first` names the turn, in an `event: completion` before them. Closing the connection leaves the turn running.
    """
    headers = HEADERS | {"Everturn-Completion-Id": str(completion_id)}
    body = _bytes(completion_id, batches, first)
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


async def _bytes(
    completion_id: int, batches: AsyncIterator[list[Event]], first: Mapping[str, Any] | None
) -> AsyncIterator[bytes]:
    if first is not None:
        yield b"id: %d:0\nevent: completion\ndata: %b\n\n" % (completion_id, to_json(first))
    async for batch in batches:
        yield b"".join([encode(completion_id, event) for event in batch]) or HEARTBEAT


def encode(completion_id: int, event: Event) -> bytes:
    """One event of a completion; its id is `<completion_id>:<seq>`."""
    seq, kind, data = event
    if kind == "text":
        return b'id: %d:%d\ndata: {"token": %b}\n\n' % (completion_id, seq, to_json(data))
    if kind == "reasoning":
        return b'id: %d:%d\nevent: reasoning\ndata: {"reasoning": %b}\n\n' % (completion_id, seq, to_json(data))
    if kind == "reconnect":
        # Of the connection, not of the output: it has no id, so that a browser keeps the last one that it got.
        told = to_json({"completion_id": completion_id, **data})
        return b"event: reconnect\nretry: 200\ndata: %b\n\n" % told
    if kind == "error":
        data = {"type": f"urn:everturn:error:{data['code']}", **data}
    if kind == "done":
        return b"id: %d:%d\ndata: [DONE]\n\n" % (completion_id, seq)
    return b"id: %d:%d\nevent: %b\ndata: %b\n\n" % (completion_id, seq, kind.encode(), to_json(data))
