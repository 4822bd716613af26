"""Completions as records."""

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from service.api.body import StrictRoute
from service.api.deps import Called, Owner, PathOwner, Services, allow, queried, services
from service.api.errors import responses
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas.completions import AttemptOut, CompletionItem, CompletionOut, EntryOut, Status
from service.api.rest.schemas.messages import IdPath
from service.api.sse import SSE, stream
from service.domain.filters import CompletionFilter
from service.domain.paging import Ask
from service.errors import BadRequest, Forbidden
from service.usecases.completions import Detail

router = APIRouter(tags=["completions"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503))

READS = [Depends(allow("read"))]
Use = Annotated[Services, Depends(services)]
Asked = Annotated[Ask, Depends(asked())]


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC. Raises ValueError for one that no calendar there has."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("not a moment between the years 1 and 9999 in UTC") from None


def with_plus(value: object) -> object:
    """A moment whose + came as a space, which is what a + means in a query."""
    return re.sub(r"(:\d\d(?:\.\d+)?) (\d\d:?\d\d)$", r"\1+\2", value) if isinstance(value, str) else value


Moment = Annotated[AwareDatetime, BeforeValidator(with_plus), AfterValidator(in_utc)]


@dataclass(frozen=True)
class Chosen:
    """The query parameters that narrow a list of completions."""

    model: Annotated[str | None, Query(max_length=200)] = None
    provider: Annotated[str | None, Query(max_length=64)] = None
    status: Annotated[Status | None, Query()] = None
    temperature: Annotated[float | None, Query(ge=0, le=2, allow_inf_nan=False)] = None
    max_tokens: Annotated[int | None, Query(ge=1, le=10_000_000)] = None
    conversation_id: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None
    since: Annotated[Moment | None, Query(description="Created then or later.")] = None
    until: Annotated[Moment | None, Query(description="Created before.")] = None
    sort: Annotated[Literal["recent", "oldest"], Query()] = "recent"

    def of(self, user_id: int | None) -> CompletionFilter:
        """The same as a filter of one user's, or of everybody's."""
        fields = asdict(self)
        return CompletionFilter(user_id=user_id, recent=fields.pop("sort") == "recent", **fields)


Narrowed = Annotated[Chosen, Depends(queried(Chosen))]


async def sight(
    request: Request,
    caller: Called,
    owner: Owner,
    user_id: Annotated[int | None, Query(ge=1, le=2**53 - 1, description="For admin keys.")] = None,
) -> int | None:
    """Whose completions are shown: the owner's, and for an admin key everybody's (None) or one user's."""
    if caller.kind == "admin" and "everturn-user" not in request.headers:
        return user_id
    if user_id not in (None, owner):
        raise Forbidden("Only an admin key may name another user here.")
    return owner


@router.get("/completions", summary="List completions", dependencies=READS)
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


@router.get("/users/{user_id}/completions", summary="List a user's completions", dependencies=READS)
async def list_user_completions(
    request: Request, response: Response, chosen: Narrowed, ask: Asked, owner: PathOwner, use: Use
) -> PageOf[CompletionItem]:
    """Without their text."""
    return paged(request, response, await use.completions.page(chosen.of(owner), ask))


@router.get("/completions/{completion_id}", summary="Get a completion", dependencies=READS)
async def get_completion(
    completion_id: IdPath, shown: Annotated[int | None, Depends(sight)], use: Use
) -> CompletionOut:
    """With its text, the attempts at it and its ledger entries."""
    return _out(await use.completions.get(shown, completion_id))


@router.post(
    "/completions/{completion_id}/cancel", summary="Stop a completion", dependencies=[Depends(allow("complete"))]
)
async def cancel_completion(
    completion_id: IdPath, shown: Annotated[int | None, Depends(sight)], use: Use
) -> CompletionOut:
    """On whichever worker it runs. What came so far is kept and accounted; one that has ended stays as it is."""
    return _out(await use.completions.cancel(shown, completion_id))


@router.delete(
    "/completions/{completion_id}",
    status_code=204,
    summary="Remove a completion's text",
    dependencies=[Depends(allow("write"))],
    responses=responses(409),
)
async def erase_completion(completion_id: IdPath, shown: Annotated[int | None, Depends(sight)], use: Use) -> None:
    """The answer is emptied, in its conversation too, and cannot be streamed again. What was asked, the record and its
    ledger entries stay. 409 while it runs."""
    await use.completions.erase(shown, completion_id)


@router.get(
    "/completions/{completion_id}/stream",
    response_class=Response,
    responses=SSE,
    summary="Resume a completion's stream",
    dependencies=READS,
)
async def resume_completion(
    completion_id: IdPath,
    shown: Annotated[int | None, Depends(sight)],
    use: Use,
    starting_after: Annotated[
        int | None, Query(ge=0, le=2**53 - 1, description="The last event that you have.")
    ] = None,
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="As browsers send it: `<id>:<seq>`.")
    ] = None,
) -> Response:
    """The events of the first stream, byte for byte, after the one named; on any worker, running or over."""
    record = await use.completions.find(shown, completion_id)
    after = starting_after if starting_after is not None else _seq(last_event_id, completion_id)
    batches = use.hub.follow(record.user_id, completion_id, after=after or 0)
    first = {name: getattr(record, name) for name in ("conversation_id", "message_id", "model", "provider")}
    return stream(completion_id, batches, {"completion_id": completion_id, **first} if after is None else None)


def _out(found: Detail) -> CompletionOut:
    fields: dict[str, Any] = asdict(found.completion)
    return CompletionOut(
        **fields,
        content=found.content,
        reasoning=found.reasoning,
        attempts=[AttemptOut(**one) for one in found.attempts],
        entries=[EntryOut(**one) for one in found.entries],
    )


def _seq(last_event_id: str | None, completion_id: int) -> int | None:
    """The number of the event that a browser got last. Raises BadRequest for another stream's."""
    if not last_event_id:
        return None
    named, _, seq = last_event_id.rpartition(":")
    if named in ("", str(completion_id)) and seq.isascii() and seq.isdigit():
        return min(int(seq), 2**53 - 1)
    raise BadRequest("Last-Event-ID is not an event of this completion.")
