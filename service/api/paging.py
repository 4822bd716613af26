"""Pages over HTTP: `skip`, `limit` and `cursor` in, one envelope and the headers X-Total-Count and Link out."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, TypeVar, cast
from urllib.parse import quote, urlencode

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from service.domain.paging import Ask, Page

Item = TypeVar("Item")

LARGEST = 2**53 - 1

Skip = Annotated[int, Query(ge=0, le=LARGEST, description="How many items to leave out at the start.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=5000,
        description="Page by key: the `next_cursor` or `prev_cursor` of another page of the same list.",
    ),
]


class PageOf(BaseModel, Generic[Item]):
    """One page of a list. By cursor `total` is null and `skip` is 0."""

    items: list[Item]
    total: int | None = Field(description="How many there are in all; null where the page was asked for by cursor.")
    skip: int
    limit: int
    next_cursor: str | None = Field(None, description="Asks for the page after this one; null at the end.")
    prev_cursor: str | None = Field(None, description="Asks for the page before this one; null at the start.")


def asked(default: int = 20) -> Callable[..., Awaitable[Ask]]:
    """A dependency that reads `skip`, `limit` (1 to 100) and `cursor` from the query."""
    limits = Query(ge=1, le=100, description="How many items at the most.")

    async def ask(skip: Skip = 0, limit: Annotated[int, limits] = default, cursor: Cursor = None) -> Ask:
        return Ask(skip, limit, cursor)

    return ask


def set_headers(request: Request, response: Response, page: Page[Item]) -> None:
    """X-Total-Count where the total is known, and Link with first, prev and next, as absolute paths."""
    if page.total is not None:
        response.headers["X-Total-Count"] = str(page.total)
    links = {"first": _link(request, {})}
    if page.total is None:
        if page.prev:
            links["prev"] = _link(request, {"cursor": page.prev})
        if page.next:
            links["next"] = _link(request, {"cursor": page.next})
    else:
        if page.skip:
            links["prev"] = _link(request, {"skip": str(max(0, page.skip - page.limit))})
        if page.skip + len(page.items) < page.total:
            links["next"] = _link(request, {"skip": str(page.skip + page.limit)})
    response.headers["Link"] = ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items())


def envelope(page: Page[Item]) -> dict[str, object]:
    """A page as PageOf's fields."""
    return {
        "items": page.items,
        "total": page.total,
        "skip": page.skip,
        "limit": page.limit,
        "next_cursor": page.next,
        "prev_cursor": page.prev,
    }


def paged(request: Request, response: Response, page: Page[Any]) -> PageOf[Any]:
    """A page as an answer: its headers set, its fields returned for the route's response model to validate."""
    set_headers(request, response, page)
    return cast(PageOf[Any], envelope(page))


def _link(request: Request, place: dict[str, str]) -> str:
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in ("skip", "cursor")]
    query = urlencode([*kept, *place.items()])
    path = quote(request.scope["path"], safe="/:@!$&'()*+,;=~-._")
    return f"{path}?{query}" if query else path
