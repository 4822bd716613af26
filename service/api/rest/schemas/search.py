"""The shapes of search."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from service.api.paging import PageOf
from service.api.rest.schemas.messages import Role


class TalkOut(BaseModel):
    """The conversation of a message that was found."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str | None
    archived: bool
    pinned: bool


class HitOut(BaseModel):
    """A message that was found; `GET /messages/{id}` has all of it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    conversation_id: int
    role: Role
    status: str
    model: str | None
    provider: str | None = Field(description="Of the completion that made the message.")
    completion_id: int | None
    created_at: datetime
    score: float = Field(description="How well it matches, from 0 to 1; of equal ones the newest comes first.")
    snippet: str = Field(
        description="The passage that matches, as HTML: escaped text in which `<mark>` is the only tag.",
        examples=["… the <mark>ferry</mark> to Gozo &amp; back …"],
    )
    conversation: TalkOut


class HitsOut(PageOf[HitOut]):
    """The newest 200 matches, ranked; `next_cursor` goes on to the 200 before them, and so on."""

    more: bool = Field(description="There are, or may be, older matches than the 200 that `total` counts at most.")
