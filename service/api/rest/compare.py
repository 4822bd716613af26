"""Asking several models at once."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from service.api.body import StrictRoute
from service.api.deps import Owner, Services, allow, services
from service.api.errors import problem, responses
from service.api.idempotency import Claimed, mark
from service.api.quotas import quota_headers
from service.api.rest.replies import answer, quotas_of
from service.api.rest.schemas.comparisons import CompareReply, failed
from service.api.rest.schemas.completions import CompareIn
from service.domain.callers import Caller
from service.errors import EverturnError
from service.turns.asking import Accepted, Request

router = APIRouter(
    tags=["completions"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
)

Completing = Annotated[Caller, Depends(allow("complete"))]
Use = Annotated[Services, Depends(services)]


@router.post("/compare-providers", status_code=201, response_model=CompareReply, summary="Ask several models at once")
async def compare(
    body: CompareIn, response: Response, caller: Completing, owner: Owner, claim: Claimed, use: Use
) -> dict[str, Any]:
    """Each answers by itself: one that fails or is cancelled does not stop the others, nor does hanging up. The answers
    are siblings after the question; the first, in the order asked, that says something is the active one, and
    `POST /conversations/{id}/activate` picks another. While they answer, `GET /completions?status=in_progress` has
    their numbers, to watch or to cancel one. An error only where no model could be asked."""
    request = Request(
        user_id=owner,
        key_id=caller.key_id,
        lines=tuple(message.line() for message in body.messages),
        conversation_id=body.conversation_id,
        parent_id=body.parent_id,
        sampling=body.sampling(),
        # So that each can be watched by its number meanwhile, and one that is cancelled keeps what it said.
        streamed=True,
        stored=body.store,
        claim=claim,
    )
    made = await use.comparisons.begin(request, tuple(body.models))
    mark(response, replayed=made.replayed)
    last = [one for one in made.turns if isinstance(one, Accepted)][-1]
    response.headers.update(quota_headers(await quotas_of(last, use)))
    asked = zip(body.models, made.turns, strict=True)
    results = await asyncio.gather(*(_result(model, turn, use) for model, turn in asked))
    question = asdict(made.question) if made.question else {"conversation_id": None, "message_id": None}
    return {**question, "results": results}


async def _result(model: str, turn: Accepted | EverturnError, use: Services) -> dict[str, Any]:
    if isinstance(turn, EverturnError):
        return failed(model, problem(turn))
    error, content, reasoning = None, None, None
    try:
        whole = await answer(turn, use)
        content, reasoning = whole["content"], whole["reasoning"]
    except EverturnError as failure:
        error = problem(failure)
    try:
        found = await use.completions.get(turn.user_id, turn.completion_id)
    except EverturnError as failure:
        return failed(model, error or problem(failure)) | {"completion_id": turn.completion_id}
    record = found.completion
    return {
        **asdict(record),
        "model": model,
        "provider": found.answered_by.provider,
        "completion_id": record.id,
        "content": found.content if content is None else content,
        "reasoning": found.reasoning if reasoning is None else reasoning,
        "latency_ms": record.duration_ms,
        "error": error,
    }
