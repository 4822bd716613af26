"""A conversation's branches: copy one, or go on with another one."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response

from service.api.body import StrictRoute
from service.api.deps import Owner, Services, allow, services
from service.api.errors import responses
from service.api.idempotency import Claimed, mark
from service.api.rest.schemas.conversations import ActivateIn, ConversationOut, ForkIn
from service.api.rest.schemas.messages import IdPath
from service.usecases.conversations import Fork

router = APIRouter(
    tags=["conversations"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 503)
)

WRITES = [Depends(allow("write"))]
Use = Annotated[Services, Depends(services)]


@router.post(
    "/conversations/{conversation_id}/fork", status_code=201, summary="Copy a conversation", dependencies=WRITES
)
async def fork_conversation(
    conversation_id: IdPath,
    response: Response,
    owner: Owner,
    claim: Claimed,
    use: Use,
    body: Annotated[ForkIn, Body(default_factory=ForkIn)],
) -> ConversationOut:
    """The branch up to `message_id`, or up to the active leaf, in a new conversation of its own."""
    done = await use.conversations.fork(owner, conversation_id, Fork(body.message_id, body.title), claim=claim)
    response.headers["Location"] = f"/conversations/{done.made.id}"
    mark(response, replayed=done.replayed)
    return ConversationOut.model_validate(done.made)


@router.post("/conversations/{conversation_id}/activate", summary="Go on after a message", dependencies=WRITES)
async def activate_message(conversation_id: IdPath, body: ActivateIn, owner: Owner, use: Use) -> ConversationOut:
    """The message becomes the active leaf: its branch is the one that is listed, and that the next question follows."""
    return ConversationOut.model_validate(await use.conversations.activate(owner, conversation_id, body.message_id))
