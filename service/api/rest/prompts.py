"""Asking a model at further addresses: by its name, by its provider's, or with one prompt."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from service.api.body import StrictRoute
from service.api.deps import Owner, Services, allow, services
from service.api.errors import responses
from service.api.idempotency import Claimed
from service.api.rest.chat import asked, from_chat
from service.api.rest.models import ModelId
from service.api.rest.replies import reply
from service.api.rest.schemas.completions import ChatIn, CompletionReply, ModelPromptIn, ShortPromptIn
from service.api.sse import SSE
from service.domain.callers import Caller
from service.domain.history import Line

router = APIRouter(
    tags=["completions"],
    route_class=StrictRoute,
    responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
)

Completing = Annotated[Caller, Depends(allow("complete"))]
Use = Annotated[Services, Depends(services)]
ProviderName = Annotated[str, Path(max_length=64, description="A provider that is configured, such as `openai`.")]


@router.post(
    "/models/{model_id:path}/completions",
    status_code=201,
    response_model=CompletionReply,
    responses=SSE,
    summary="Ask this model",
)
async def ask_model(
    model_id: ModelId,
    body: ModelPromptIn,
    caller: Completing,
    owner: Owner,
    claim: Claimed,
    use: Use,
    stream: Annotated[bool, Query(description="Whether the answer is streamed (200).")] = False,
) -> Response:
    """One question. Ids may contain slashes."""
    lines = (Line("user", body.prompt),)
    request = asked(body, caller, owner, claim=claim, lines=lines, streamed=stream)
    return await reply(await use.turns.begin(replace(request, model=model_id)), use, streamed=stream)


@router.post("/completions", status_code=201, response_model=CompletionReply, responses=SSE, summary="Ask one question")
async def ask_prompt(body: ShortPromptIn, caller: Completing, owner: Owner, claim: Claimed, use: Use) -> Response:
    """One question with a short answer. With `"stream": true` the answer is streamed (200)."""
    lines = (Line("user", body.prompt),)
    request = asked(body, caller, owner, claim=claim, lines=lines, streamed=body.stream)
    return await reply(await use.turns.begin(request), use, streamed=body.stream)


@router.post(
    "/completions/{provider}",
    status_code=201,
    response_model=CompletionReply,
    responses=SSE,
    summary="Ask a model of this provider",
)
async def ask_provider(
    provider: ProviderName, body: ChatIn, caller: Completing, owner: Owner, claim: Claimed, use: Use
) -> Response:
    """As `POST /chat/completions`. `model` is any name that this provider's model has; left out, it is the provider's
    first. 422 for a provider that is not configured."""
    model = await use.catalog.choose(provider, body.model)
    request = from_chat(body, caller, owner, claim=claim, streamed=body.stream)
    return await reply(await use.turns.begin(replace(request, model=model)), use, streamed=body.stream)
