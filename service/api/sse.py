"""Server-sent events: the only place that makes their bytes.

The format is the WHATWG's (HTML, "Server-sent events"): `id:`, `event:` and `data:` lines, then an empty one.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import StreamingResponse

from service.domain.events import Event
from service.turns.live import Live

HEARTBEAT = b": still here\n\n"
HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


def stream(live: Live, first: Mapping[str, Any]) -> StreamingResponse:
    """The turn from its start: `event: completion`, tokens, `event: usage`, `[DONE]`; or `event: error` at the end.

    `first` names the turn. Closing the connection leaves the turn running.
    """
    headers = HEADERS | {"Everturn-Completion-Id": str(live.turn.completion_id)}
    return StreamingResponse(_bytes(live, first), media_type="text/event-stream", headers=headers)


async def _bytes(live: Live, first: Mapping[str, Any]) -> AsyncIterator[bytes]:
    completion_id = live.turn.completion_id
    yield b"id: %d:0\nevent: completion\ndata: %b\n\n" % (completion_id, to_json(first))
    async for batch in live.follow():
        yield b"".join([encode(completion_id, event) for event in batch]) or HEARTBEAT


def encode(completion_id: int, event: Event) -> bytes:
    """One event of a completion; its id is `<completion_id>:<seq>`."""
    seq, kind, data = event
    if kind == "text":
        return b'id: %d:%d\ndata: {"token": %b}\n\n' % (completion_id, seq, to_json(data))
    if kind == "reasoning":
        return b'id: %d:%d\nevent: reasoning\ndata: {"reasoning": %b}\n\n' % (completion_id, seq, to_json(data))
    if kind == "error":
        data = {"type": f"urn:everturn:error:{data['code']}", **data}
    if kind == "done":
        return b"id: %d:%d\ndata: [DONE]\n\n" % (completion_id, seq)
    return b"id: %d:%d\nevent: %b\ndata: %b\n\n" % (completion_id, seq, kind.encode(), to_json(data))
