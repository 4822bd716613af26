"""Conversations, by themselves and below their user: the same resource at two addresses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from service.api.body import StrictRoute
from service.api.deps import Services, allow, owner, path_owner, queried, services
from service.api.errors import responses
from service.api.idempotency import Claimed, claim, claim_below_user, mark
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas.conversations import (
    ConversationEdit,
    ConversationIn,
    ConversationItem,
    ConversationOut,
    ConversationWithHistory,
    Tag,
)
from service.api.rest.schemas.messages import IdPath
from service.domain.claims import Claim
from service.domain.filters import ConversationFilter
from service.domain.paging import Ask
from service.turns.claims import Once
from service.usecases.conversations import Conversation, Draft

READS = [Depends(allow("read"))]
WRITES = [Depends(allow("write"))]
Use = Annotated[Services, Depends(services)]
Asked = Annotated[Ask, Depends(asked())]


@dataclass(frozen=True)
class Chosen:
    """The query parameters that narrow a list of conversations."""

    q: Annotated[str | None, Query(max_length=200, description="Part of the title.")] = None
    tags: Annotated[list[Tag] | None, Query(max_length=32, description="All of these.")] = None
    archived: Annotated[bool | None, Query()] = None
    sort: Annotated[Literal["recent", "oldest", "title"], Query()] = "recent"

    def filter(self) -> ConversationFilter:
        return ConversationFilter(self.q, tuple(sorted(set(self.tags or ()))), self.archived, self.sort)


Narrowed = Annotated[Chosen, Depends(queried(Chosen))]


def collection(path: str, whose: Callable[..., Any], *, claims: Callable[..., Any]) -> APIRouter:
    """The list and the making of conversations below `path`, of the user that `whose` finds and `claims` asks for."""
    router = APIRouter(
        prefix=path,
        tags=["conversations"],
        route_class=StrictRoute,
        responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 503),
    )

    @router.get("", summary="List conversations", dependencies=READS)
    async def list_conversations(
        request: Request, response: Response, chosen: Narrowed, ask: Asked, use: Use, user_id: int = Depends(whose)
    ) -> PageOf[ConversationItem]:
        """Without their content; the last active ones first."""
        return paged(request, response, await use.conversations.page(user_id, chosen.filter(), ask))

    @router.post("", status_code=201, summary="Create a conversation", dependencies=WRITES)
    async def create_conversation(
        response: Response,
        use: Use,
        body: Annotated[ConversationIn, Body(default_factory=ConversationIn)],
        user_id: int = Depends(whose),
        claim: Claim | None = Depends(claims),
    ) -> ConversationOut:
        """Without messages; `POST /conversation` makes one with a history."""
        return located(response, await use.conversations.create(user_id, draft(body), claim=claim))

    return router


def item(path: str, whose: Callable[..., Any]) -> APIRouter:
    """One conversation below `path`, of the user that `whose` finds."""
    router = APIRouter(
        prefix=path,
        tags=["conversations"],
        route_class=StrictRoute,
        responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 503),
    )

    @router.get("/{conversation_id}", summary="Get a conversation", dependencies=READS)
    async def get_conversation(conversation_id: IdPath, use: Use, user_id: int = Depends(whose)) -> ConversationOut:
        """Without its messages, which are a list of their own."""
        return ConversationOut.model_validate(await use.conversations.get(user_id, conversation_id))

    @router.patch("/{conversation_id}", summary="Change a conversation", dependencies=WRITES)
    async def edit_conversation(
        conversation_id: IdPath, body: ConversationEdit, use: Use, user_id: int = Depends(whose)
    ) -> ConversationOut:
        """What the body names is changed, the rest stays."""
        values = body.model_dump(exclude_unset=True, exclude={"tags"})
        tags = body.tags if "tags" in body.model_fields_set else None
        return ConversationOut.model_validate(await use.conversations.edit(user_id, conversation_id, values, tags))

    @router.delete("/{conversation_id}", status_code=204, summary="Delete a conversation", dependencies=WRITES)
    async def delete_conversation(conversation_id: IdPath, use: Use, user_id: int = Depends(whose)) -> None:
        """With its messages and completions; what they cost stays in the ledger."""
        await use.conversations.delete(user_id, conversation_id)

    return router


def draft(body: ConversationIn) -> Draft:
    """A body as a conversation to be made."""
    fields = body.model_dump(exclude={"messages", "tags"})
    lines = body.messages if isinstance(body, ConversationWithHistory) else []
    return Draft(**fields, tags=tuple(body.tags), lines=tuple(one.line() for one in lines))


def located(response: Response, done: Once[Conversation]) -> ConversationOut:
    response.headers["Location"] = f"/conversations/{done.made.id}"
    mark(response, replayed=done.replayed)
    return ConversationOut.model_validate(done.made)


history_router = APIRouter(
    tags=["conversations"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 409, 413, 415, 422, 503)
)


@history_router.post("/conversation", status_code=201, summary="Create a conversation with a history")
async def create_with_history(
    body: ConversationWithHistory,
    response: Response,
    use: Use,
    user_id: Annotated[int, Depends(owner)],
    claim: Claimed,
    _: Annotated[object, Depends(allow("write"))],
) -> ConversationOut:
    """All of it or nothing: one bad message and nothing is stored."""
    return located(response, await use.conversations.create(user_id, draft(body), claim=claim))


router = APIRouter()
router.include_router(history_router)
for address, whose, claims in (
    ("/conversations", owner, claim),
    ("/users/{user_id}/conversations", path_owner, claim_below_user),
):
    router.include_router(collection(address, whose, claims=claims))
    router.include_router(item(address, whose))
