"""A turn as an HTTP answer: folded into JSON, or streamed. One path: both read the journalled turn."""

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from service.api import sse
from service.turns.ending import usage_of
from service.turns.hub import Hub
from service.turns.live import Live


async def folded(live: Live) -> Response:
    """201 with the whole answer once it is committed. Raises the turn's own error where it failed."""
    await live.finished.wait()
    turn, outcome = live.turn, live.outcome
    if live.error:
        raise live.error
    assert outcome is not None, "a turn ends with an outcome or an error"
    usage = usage_of(outcome)
    cost = usage.pop("cost_usd")
    body = {
        "id": f"msg_{turn.message_id}" if turn.message_id else f"cmpl_{turn.completion_id}",
        **names(live),
        "status": outcome["status"],
        "content": live.answer.content,
        "reasoning": live.answer.reasoning_content,
        "finish_reason": outcome["finish_reason"],
        "usage": usage,
        "cost_usd": cost,
        "warnings": outcome["warnings"],
    }
    headers = {"Location": f"/completions/{turn.completion_id}"}
    return Response(to_json(body), 201, headers, media_type="application/json")


def streamed(live: Live, hub: Hub) -> Response:
    """200 with the answer as server-sent events."""
    turn = live.turn
    return sse.stream(turn.completion_id, hub.follow(turn.user_id, turn.completion_id, live=live), names(live))


def names(live: Live) -> dict[str, Any]:
    """By what a caller finds the turn again."""
    turn = live.turn
    return {
        "completion_id": turn.completion_id,
        "conversation_id": turn.conversation_id,
        "message_id": turn.message_id,
        "model": turn.model.id,
        "provider": turn.model.provider,
    }
