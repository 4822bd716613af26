"""What lists can be narrowed by. None does not choose."""

from dataclasses import dataclass
from datetime import datetime

from service.domain.search import Query


@dataclass(frozen=True, slots=True)
class ConversationFilter:
    """`tags` are all needed, `q` is part of the title, `sort` is recent, oldest or title."""

    q: str | None = None
    tags: tuple[str, ...] = ()
    archived: bool | None = None
    sort: str = "recent"


@dataclass(frozen=True, slots=True)
class CompletionFilter:
    """`user_id` None is everybody's, for an admin. `since` is inclusive, `until` is not."""

    user_id: int | None
    model: str | None = None
    provider: str | None = None
    status: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    conversation_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    recent: bool = True


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """`user_id` None is everybody's, for an admin. `since` is inclusive, `until` is not."""

    user_id: int | None
    model: str | None = None
    provider: str | None = None
    key_id: int | None = None
    conversation_id: int | None = None
    completion_id: int | None = None
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    recent: bool = True


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """One user's messages that a query matches. `since` is inclusive, `until` is not."""

    user_id: int
    query: Query
    provider: str | None = None
    role: str | None = None
    conversation_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
