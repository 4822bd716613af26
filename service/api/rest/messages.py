"""Messages, by their conversation, by their user and one by one."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from service.api.body import StrictRoute
from service.api.deps import Owner, PathOwner, Services, allow, queried, services
from service.api.downloads import CONTENT, send_content
from service.api.errors import responses
from service.api.idempotency import Claimed, mark
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas import parts
from service.api.rest.schemas.messages import (
    ChatMessageIn,
    Deleted,
    IdPath,
    MessageAppend,
    MessageEdit,
    MessageOut,
    Received,
)
from service.domain.paging import Ask
from service.turns.claims import Once
from service.usecases.messages import Message, MessageDraft

router = APIRouter(
    tags=["messages"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 503)
)

READS = [Depends(allow("read"))]
WRITES = [Depends(allow("write"))]
Use = Annotated[Services, Depends(services)]
Asked = Annotated[Ask, Depends(asked())]
Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="As the message's part says.")]
Sort = Annotated[Literal["recent", "oldest"], Query()]


@dataclass(frozen=True)
class View:
    """Which of a conversation's messages are listed, and in which order."""

    branch: Annotated[Literal["active", "all"], Query()] = "active"
    sort: Sort = "oldest"


@router.get("/conversations/{conversation_id}/messages", summary="List a conversation's messages", dependencies=READS)
async def list_messages(
    request: Request,
    response: Response,
    conversation_id: IdPath,
    ask: Asked,
    view: Annotated[View, Depends(queried(View))],
    owner: Owner,
    use: Use,
) -> PageOf[MessageOut]:
    """The active branch by depth, or all branches by time."""
    recent = view.sort == "recent"
    if view.branch == "active":
        page = await use.messages.page_branch(owner, conversation_id, ask, recent=recent)
    else:
        page = await use.messages.page(owner, ask, conversation_id=conversation_id, recent=recent)
    return paged(request, response, page)


@router.post(
    "/conversations/{conversation_id}/messages", status_code=201, summary="Append a message", dependencies=WRITES
)
async def append_message(
    conversation_id: IdPath, body: MessageAppend, response: Response, owner: Owner, claim: Claimed, use: Use
) -> MessageOut:
    """Without asking a model."""
    draft = MessageDraft(body.line(), body.parent_id, body.metadata)
    made = _located(response, await use.messages.add(owner, conversation_id, draft, claim=claim))
    return MessageOut.model_validate(made)


@router.post("/chat", status_code=201, summary="Store a message", dependencies=WRITES)
async def store_message(body: ChatMessageIn, response: Response, owner: Owner, claim: Claimed, use: Use) -> Received:
    """Without asking a model; in a conversation of its own where none is named."""
    line = body.line()
    if body.conversation_id is None:
        done = await use.messages.start(owner, line, claim=claim)
    else:
        done = await use.messages.add(owner, body.conversation_id, MessageDraft(line), claim=claim)
    made = _located(response, done)
    said = {"role": made.role, "content": made.parts or made.content}
    return Received.model_validate({"received": said, "id": made.id, "conversation_id": made.conversation_id})


@router.get("/users/{user_id}/messages", summary="List a user's messages", dependencies=READS)
async def list_user_messages(
    request: Request, response: Response, ask: Asked, owner: PathOwner, use: Use, *, sort: Sort = "recent"
) -> PageOf[MessageOut]:
    """Of all conversations, by time."""
    page = await use.messages.page(owner, ask, conversation_id=None, recent=sort == "recent")
    return paged(request, response, page)


@router.get("/messages/{message_id}", summary="Get a message", dependencies=READS)
async def get_message(message_id: IdPath, owner: Owner, use: Use) -> MessageOut:
    """One node of a conversation's tree."""
    return MessageOut.model_validate(await use.messages.get(owner, message_id))


@router.get(
    "/messages/{message_id}/images/{sha256}",
    summary="Read an image of a message",
    dependencies=READS,
    response_class=Response,
    responses=CONTENT | responses(412, 416),
)
async def get_image(request: Request, message_id: IdPath, sha256: Sha256, owner: Owner, use: Use) -> Response:
    """Its content, also where the file that it came from is another one by now, or gone; in ranges, as files are."""
    return send_content(request, *await use.files.open_image(owner, message_id, sha256))


@router.patch("/messages/{message_id}", summary="Edit a message", dependencies=WRITES)
async def edit_message(message_id: IdPath, body: MessageEdit, owner: Owner, use: Use) -> MessageOut:
    """New content makes a sibling and returns it: history is never rewritten. Metadata is changed in place."""
    said = None if body.content is None else parts.line("user", body.content)
    return MessageOut.model_validate(await use.messages.edit(owner, message_id, said, body.metadata))


@router.delete("/messages/{message_id}", summary="Delete a message", dependencies=WRITES)
async def delete_message(message_id: IdPath, owner: Owner, use: Use) -> Deleted:
    """With all that follows it; what it cost stays in the ledger."""
    return Deleted(deleted=await use.messages.delete(owner, message_id))


def _located(response: Response, done: Once[Message]) -> Message:
    response.headers["Location"] = f"/messages/{done.made.id}"
    mark(response, replayed=done.replayed)
    return done.made
