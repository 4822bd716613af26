"""Asking a model: chat completions, streamed or not, and the next turn of a conversation."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Depends
from starlette.responses import Response

from service.api.body import StrictRoute
from service.api.deps import Owner, Services, allow, services
from service.api.errors import responses
from service.api.idempotency import Claimed
from service.api.rest.replies import reply
from service.api.rest.schemas import parts
from service.api.rest.schemas.completions import (
    ChatIn,
    CompletionReply,
    ModelPromptIn,
    PromptIn,
    RegenerateIn,
    TurnBase,
    TurnIn,
)
from service.api.rest.schemas.messages import IdPath
from service.api.sse import SSE
from service.domain.callers import Caller
from service.domain.claims import Claim
from service.domain.history import Line
from service.errors import Unprocessable
from service.turns.asking import Request

router = APIRouter(
    tags=["completions"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
)

Completing = Annotated[Caller, Depends(allow("complete"))]
Use = Annotated[Services, Depends(services)]


@router.post("/chat/completions", status_code=201, response_model=CompletionReply, responses=SSE, summary="Ask a model")
async def create_completion(body: ChatIn, caller: Completing, owner: Owner, claim: Claimed, use: Use) -> Response:
    """Store the messages, ask the model, store the answer. With `"stream": true` the answer is streamed (200)."""
    request = from_chat(body, caller, owner, claim=claim, streamed=body.stream)
    return await reply(await use.turns.begin(request), use, streamed=body.stream)


@router.post(
    "/chat/completions/stream", response_class=Response, responses=SSE, summary="Ask a model and watch it answer"
)
async def stream_completion(body: ChatIn, caller: Completing, owner: Owner, claim: Claimed, use: Use) -> Response:
    """The same turn as `POST /chat/completions`, streamed. Closing the connection does not stop the turn."""
    request = from_chat(body, caller, owner, claim=claim, streamed=True)
    return await reply(await use.turns.begin(request), use, streamed=True)


@router.post("/chat/stream", response_class=Response, responses=SSE, summary="Ask one question and watch the answer")
async def stream_prompt(body: PromptIn, caller: Completing, owner: Owner, claim: Claimed, use: Use) -> Response:
    """One question, streamed."""
    lines = (Line("user", body.prompt),)
    request = asked(body, caller, owner, claim=claim, lines=lines, streamed=True)
    return await reply(await use.turns.begin(request), use, streamed=True)


@router.post(
    "/conversations/{conversation_id}/completions",
    status_code=201,
    response_model=CompletionReply,
    responses=SSE,
    summary="Send the next question of a conversation",
)
async def create_turn(
    conversation_id: IdPath, body: TurnIn, caller: Completing, owner: Owner, claim: Claimed, use: Use
) -> Response:
    """The model reads the conversation up to here. While that is being answered, `on_conflict` says what becomes of
    this question: `reject` (409), `queue` (it waits), `interrupt` (that answer is stopped), `branch` (beside it)."""
    lines = (parts.line("user", body.content),)
    request = asked(body, caller, owner, claim=claim, lines=lines, streamed=body.stream)
    turn = replace(request, conversation_id=conversation_id, parent_id=body.parent_id)
    return await reply(await use.turns.begin(turn), use, streamed=body.stream)


@router.post(
    "/conversations/{conversation_id}/regenerate",
    status_code=201,
    response_model=CompletionReply,
    responses=SSE,
    summary="Have the last question answered again",
)
async def regenerate(
    conversation_id: IdPath,
    caller: Completing,
    owner: Owner,
    claim: Claimed,
    use: Use,
    body: Annotated[RegenerateIn, Body(default_factory=RegenerateIn)],
) -> Response:
    """Another answer beside the last one, or beside `message_id`; it becomes the active one. Both stay."""
    request = asked(body, caller, owner, claim=claim, lines=(), streamed=body.stream)
    turn = replace(request, conversation_id=conversation_id, parent_id=body.message_id)
    return await reply(await use.turns.regenerate(turn), use, streamed=body.stream)


def from_chat(body: ChatIn, caller: Caller, owner: int, *, claim: Claim | None, streamed: bool) -> Request:
    """A chat body as a request for a turn."""
    lines = tuple(message.line() for message in body.messages)
    return asked(body, caller, owner, claim=claim, lines=lines, streamed=streamed)


def asked(
    body: TurnBase | ModelPromptIn,
    caller: Caller,
    owner: int,
    *,
    claim: Claim | None,
    lines: tuple[Line, ...],
    streamed: bool,
) -> Request:
    """What all bodies that ask a model have in common, as a request for a turn."""
    return Request(
        user_id=owner,
        key_id=caller.key_id,
        lines=lines,
        model=getattr(body, "model", None),
        conversation_id=getattr(body, "conversation_id", None),
        sampling=body.sampling(),
        streamed=streamed,
        stored=getattr(body, "store", True),
        on_conflict=body.on_conflict,
        fallbacks=_fallbacks(body),
        claim=claim,
    )


def _fallbacks(body: TurnBase | ModelPromptIn) -> tuple[str, ...] | None:
    named = body.fallbacks
    if named is not None and len({*named, getattr(body, "model", None)}) <= len(named):
        said = "Each fallback is named once, and is another model than the one that is asked."
        raise Unprocessable(said, loc=("body", "fallbacks"))
    return None if named is None else tuple(named)
