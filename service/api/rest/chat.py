"""Asking a model: chat completions, streamed or not, and the next turn of a conversation."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from service.api.body import StrictRoute
from service.api.deps import Owner, Services, allow, services
from service.api.errors import responses
from service.api.rest.replies import folded, streamed
from service.api.rest.schemas.completions import ChatIn, CompletionReply, PromptIn, TurnIn
from service.api.rest.schemas.messages import IdPath
from service.api.sse import SSE
from service.domain.callers import Caller
from service.domain.history import Line
from service.turns.hub import Hub
from service.turns.live import Live
from service.usecases.completions import Request

router = APIRouter(
    tags=["completions"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 503)
)

Completing = Annotated[Caller, Depends(allow("complete"))]
Use = Annotated[Services, Depends(services)]


@router.post("/chat/completions", status_code=201, response_model=CompletionReply, summary="Ask a model")
async def create_completion(body: ChatIn, caller: Completing, owner: Owner, use: Use) -> Response:
    """Store the messages, ask the model, store the answer. With `"stream": true` the answer is streamed (200)."""
    live = await use.completions.begin(from_chat(body, caller, owner, streamed=body.stream))
    return await reply(live, use.hub)


@router.post(
    "/chat/completions/stream", response_class=Response, responses=SSE, summary="Ask a model and watch it answer"
)
async def stream_completion(body: ChatIn, caller: Completing, owner: Owner, use: Use) -> Response:
    """The same turn as `POST /chat/completions`, streamed. Closing the connection does not stop the turn."""
    return streamed(await use.completions.begin(from_chat(body, caller, owner, streamed=True)), use.hub)


@router.post("/chat/stream", response_class=Response, responses=SSE, summary="Ask one question and watch the answer")
async def stream_prompt(body: PromptIn, caller: Completing, owner: Owner, use: Use) -> Response:
    """One question, streamed."""
    request = Request(
        user_id=owner,
        key_id=caller.key_id,
        lines=(Line("user", body.prompt),),
        model=body.model,
        conversation_id=body.conversation_id,
        sampling=body.sampling(),
        streamed=True,
        stored=body.store,
    )
    return streamed(await use.completions.begin(request), use.hub)


@router.post(
    "/conversations/{conversation_id}/completions",
    status_code=201,
    response_model=CompletionReply,
    summary="Send the next question of a conversation",
)
async def create_turn(
    conversation_id: IdPath,
    body: TurnIn,
    caller: Completing,
    owner: Owner,
    use: Use,
) -> Response:
    """The model reads the conversation up to here. 409 while the conversation is being answered."""
    request = Request(
        user_id=owner,
        key_id=caller.key_id,
        lines=(Line("user", body.content),),
        model=body.model,
        conversation_id=conversation_id,
        parent_id=body.parent_id,
        sampling=body.sampling(),
        streamed=body.stream,
    )
    return await reply(await use.completions.begin(request), use.hub)


def from_chat(body: ChatIn, caller: Caller, owner: int, *, streamed: bool) -> Request:
    """A chat body as a request for a turn."""
    return Request(
        user_id=owner,
        key_id=caller.key_id,
        lines=tuple(Line(message.role, message.content) for message in body.messages),
        model=body.model,
        conversation_id=body.conversation_id,
        sampling=body.sampling(),
        streamed=streamed,
        stored=body.store,
    )


async def reply(live: Live, hub: Hub) -> Response:
    """Streamed or folded, as the turn was asked for."""
    return streamed(live, hub) if live.turn.call.stream else await folded(live)
