"""Completions as records."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime

from service.api.body import StrictRoute
from service.api.deps import Owner, PathOwner, Services, allow, services
from service.api.errors import responses
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas.completions import CompletionItem, CompletionOut, Status
from service.api.rest.schemas.messages import IdPath
from service.domain.callers import Caller
from service.domain.filters import CompletionFilter
from service.domain.paging import Ask
from service.errors import Forbidden

router = APIRouter(tags=["completions"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503))

Reading = Annotated[Caller, Depends(allow("read"))]
Use = Annotated[Services, Depends(services)]
Asked = Annotated[Ask, Depends(asked())]


@dataclass(frozen=True)
class Chosen:
    """The query parameters that narrow a list of completions."""

    model: Annotated[str | None, Query(max_length=200)] = None
    provider: Annotated[str | None, Query(max_length=64)] = None
    status: Annotated[Status | None, Query()] = None
    temperature: Annotated[float | None, Query(ge=0, le=2, allow_inf_nan=False)] = None
    max_tokens: Annotated[int | None, Query(ge=1, le=10_000_000)] = None
    conversation_id: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None
    since: Annotated[AwareDatetime | None, Query(description="Created then or later.")] = None
    until: Annotated[AwareDatetime | None, Query(description="Created before.")] = None
    sort: Annotated[Literal["recent", "oldest"], Query()] = "recent"

    def of(self, user_id: int | None) -> CompletionFilter:
        """The same as a filter of one user's, or of everybody's."""
        fields = asdict(self)
        return CompletionFilter(user_id=user_id, recent=fields.pop("sort") == "recent", **fields)


Narrowed = Annotated[Chosen, Depends()]


async def sight(
    request: Request,
    caller: Reading,
    owner: Owner,
    user_id: Annotated[int | None, Query(ge=1, le=2**53 - 1, description="For admin keys.")] = None,
) -> int | None:
    """Whose completions are shown: the owner's, and for an admin key everybody's (None) or one user's."""
    if caller.kind == "admin" and "everturn-user" not in request.headers:
        return user_id
    if user_id not in (None, owner):
        raise Forbidden("Only an admin key may name another user here.")
    return owner


@router.get("/completions", summary="List completions")
async def list_completions(
    request: Request,
    response: Response,
    chosen: Narrowed,
    ask: Asked,
    shown: Annotated[int | None, Depends(sight)],
    use: Use,
) -> PageOf[CompletionItem]:
    """Without their text. An admin key sees everybody's, or one user's by `user_id`."""
    return paged(request, response, await use.completions.page(chosen.of(shown), ask))


@router.get("/users/{user_id}/completions", summary="List a user's completions", dependencies=[Depends(allow("read"))])
async def list_user_completions(
    request: Request, response: Response, chosen: Narrowed, ask: Asked, owner: PathOwner, use: Use
) -> PageOf[CompletionItem]:
    """Without their text."""
    return paged(request, response, await use.completions.page(chosen.of(owner), ask))


@router.get("/completions/{completion_id}", summary="Get a completion")
async def get_completion(
    completion_id: IdPath, shown: Annotated[int | None, Depends(sight)], use: Use
) -> CompletionOut:
    """With its text, the attempts at it and its ledger entries."""
    found = await use.completions.get(shown, completion_id)
    fields: dict[str, Any] = asdict(found.completion)
    return CompletionOut(
        **fields,
        content=found.content,
        reasoning=found.reasoning,
        attempts=found.attempts,
        entries=found.entries,
    )
