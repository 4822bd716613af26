"""A turn as an HTTP answer: folded into JSON, or streamed. One path: both read the journalled turn."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from service.api import sse
from service.api.deps import Services
from service.api.idempotency import mark
from service.api.quotas import quota_headers
from service.domain.events import Event
from service.domain.quotas import Quota
from service.errors import Conflict, EverturnError, WorkerLost, find_error
from service.turns.asking import Accepted
from service.turns.ending import usage_of
from service.turns.live import Live
from service.usecases.completions import Completion, Detail

NAMES = ("conversation_id", "message_id", "model", "provider")


async def reply(accepted: Accepted, use: Services, *, streamed: bool) -> Response:
    """Streamed or folded, as the turn was asked for."""
    quotas = await quotas_of(accepted, use)
    try:
        made = await (stream(accepted, use) if streamed else folded(accepted, use))
    except EverturnError as error:
        error.replayed, error.quotas = accepted.replayed, quotas
        raise
    made.headers.update(quota_headers(quotas))
    mark(made, replayed=accepted.replayed)
    return made


async def quotas_of(accepted: Accepted, use: Services) -> tuple[Quota, ...]:
    """What is left of the limits that the turn falls under: with it, or now where it had been begun before."""
    if accepted.live:
        return accepted.live.quotas
    return await use.engine.limits.read(accepted.user_id, accepted.key_id)


async def stream(accepted: Accepted, use: Services) -> Response:
    """200 with the answer as server-sent events, from the first one."""
    user_id, completion_id = accepted.user_id, accepted.completion_id
    if accepted.live:
        first = names(accepted.live)
    else:
        record = await use.completions.find(user_id, completion_id)
        if record.finished_at and not record.stored:
            raise _unkept(record)
        first = {"completion_id": completion_id, **{name: getattr(record, name) for name in NAMES}}
    batches: AsyncIterator[list[Event]] = use.hub.follow(user_id, completion_id, live=accepted.live)
    return sse.stream(completion_id, batches, first)


async def folded(accepted: Accepted, use: Services) -> Response:
    """201 with the whole answer once it is committed. Raises the turn's own error where it failed."""
    return _created(await answer(accepted, use))


async def answer(accepted: Accepted, use: Services) -> dict[str, Any]:
    """The whole answer once it is committed. Raises the turn's own error where it failed."""
    if live := accepted.live:
        await live.finished.wait()
        if live.error:
            raise live.error
        if live.outcome is not None:
            return _of_live(live)
    # It was begun by another request, or went on at another worker.
    user_id, completion_id = accepted.user_id, accepted.completion_id
    if not await use.hub.wait(user_id, completion_id):
        raise WorkerLost("This worker stops; the turn goes on at another.", facts={"completion_id": completion_id})
    return _of_record(await use.completions.get(user_id, completion_id))


def names(live: Live) -> dict[str, Any]:
    """By what a caller finds the turn again; the model is the one that was asked for."""
    turn = live.turn
    return {
        "completion_id": turn.completion_id,
        "conversation_id": turn.conversation_id,
        "message_id": turn.message_id,
        "model": turn.asked.id,
        "provider": turn.asked.provider,
    }


def _created(body: dict[str, Any]) -> Response:
    headers = {"Location": f"/completions/{body['completion_id']}"}
    return Response(to_json(body), 201, headers, media_type="application/json")


def _of_live(live: Live) -> dict[str, Any]:
    turn, outcome = live.turn, live.outcome
    assert outcome is not None, "a turn ends with an outcome or an error"
    usage = usage_of(outcome)
    cost = usage.pop("cost_usd")
    return {
        "id": _id(turn.message_id, turn.completion_id),
        **names(live),
        "model": turn.model.id,
        "provider": turn.model.provider,
        "status": outcome["status"],
        "content": live.answer.content,
        "reasoning": live.answer.reasoning_content,
        "finish_reason": outcome["finish_reason"],
        "usage": usage,
        "cost_usd": cost,
        "warnings": outcome["warnings"],
    }


def _of_record(found: Detail) -> dict[str, Any]:
    """The same from the database. Raises the error that the turn ended with."""
    record = found.completion
    if record.error_code:
        facts = {"completion_id": record.id, **{name: getattr(record, name) for name in NAMES[:2]}}
        raise find_error(record.error_code)(record.error_detail or "", facts=facts)
    if not record.stored:
        raise _unkept(record)
    if record.usage is None:
        raise EverturnError("The turn has no end.")
    answered = found.answered_by
    return {
        "id": _id(record.message_id, record.id),
        "completion_id": record.id,
        "conversation_id": record.conversation_id,
        "message_id": record.message_id,
        "model": answered.model,
        "provider": answered.provider,
        "status": record.status,
        "content": found.content or "",
        "reasoning": found.reasoning,
        "finish_reason": record.finish_reason,
        "usage": asdict(record.usage),
        "cost_usd": record.cost_usd,
        "warnings": record.warnings,
    }


def _unkept(record: Completion) -> Conflict:
    return Conflict(
        "This was answered before, and the answer was not to be stored.", facts={"completion_id": record.id}
    )


def _id(message_id: int | None, completion_id: int) -> str:
    return f"msg_{message_id}" if message_id else f"cmpl_{completion_id}"
