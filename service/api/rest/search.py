"""Search in a user's messages."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request, Response

from service.api.body import StrictRoute
from service.api.deps import Owner, Services, allow, queried, services
from service.api.errors import responses
from service.api.paging import asked, envelope, set_headers
from service.api.rest.completions import Moment
from service.api.rest.schemas.messages import Role
from service.api.rest.schemas.search import HitsOut
from service.domain.filters import SearchFilter
from service.domain.paging import Ask
from service.domain.search import parse

router = APIRouter(tags=["search"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503))

READS = [Depends(allow("read"))]


@dataclass(frozen=True)
class Sought:
    """What is looked for, and where."""

    query: Annotated[
        str,
        Query(
            min_length=1,
            max_length=1000,
            description='Words that must all be there, `"phrases"`, and `-word` or `-"a phrase"` that must not. '
            "Case and accents make no difference. Every text is a query.",
            openapi_examples={"words": {"value": 'ferry "opening hours" -winter'}},
        ),
    ]
    provider: Annotated[str | None, Query(max_length=64, description="Of the completion that made the message.")] = None
    role: Annotated[Role | None, Query()] = None
    conversation_id: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None
    since: Annotated[Moment | None, Query(description="Created then or later.")] = None
    until: Annotated[Moment | None, Query(description="Created before.")] = None

    def of(self, user_id: int) -> SearchFilter:
        """The same as a filter of one user's messages."""
        return SearchFilter(user_id=user_id, **{**asdict(self), "query": parse(self.query)})


@router.get("/search", summary="Search messages", dependencies=READS)
async def search_messages(
    request: Request,
    response: Response,
    sought: Annotated[Sought, Depends(queried(Sought))],
    ask: Annotated[Ask, Depends(asked())],
    owner: Owner,
    use: Annotated[Services, Depends(services)],
) -> HitsOut:
    """Ranked among the newest 200 matches, with the passage that matches and the conversation.

    `skip` and `limit` page through these; `next_cursor` goes on to older matches, 200 at a time.
    """
    found = await use.search.find(sought.of(owner), ask)
    set_headers(request, response, found.page)
    answer: dict[str, Any] = envelope(found.page) | {"more": found.more}
    return cast(HitsOut, answer)
