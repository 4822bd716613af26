"""Search: one port over two indexes, which give the newest matches first and never look at more than they may."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import completions, conversations, messages
from service.domain.filters import SearchFilter
from service.domain.words import LONGEST_TEXT
from service.repositories.search_candidates import Candidate, Look, Place
from service.repositories.search_postgres import PostgresIndex
from service.repositories.search_sqlite import SqliteIndex

# So many messages that the index gives are looked at, where phrases or the provider decide: first few, then more.
FEW, MORE, MOST = 400, 5, 10_000


class SearchIndex(Protocol):
    """One search in one database's index, on a connection."""

    async def look(self, before: Place | None, size: int) -> Look:
        """The matches among the newest `size` messages older than a place that have the words; fewer than `size` are
        seen only where there are no more."""


@dataclass(frozen=True, slots=True)
class Matches:
    """The newest matches, newest first, and the place that all further ones are older than, if there may be any."""

    items: list[Candidate]
    rest: Place | None


async def find_matches(
    connection: AsyncConnection, chosen: SearchFilter, *, before: Place | None, limit: int
) -> Matches:
    """The newest `limit` matches older than a place.

    Fewer, though there may be more, where 10,000 messages were looked at: `rest` says where to go on.
    """
    index: SearchIndex = (PostgresIndex if connection.dialect.name == "postgresql" else SqliteIndex)(connection, chosen)
    query = chosen.query
    decided_later = query.phrases or query.barred_phrases or chosen.provider
    size, left = (FEW if decided_later else limit + 1), MOST
    kept: list[Candidate] = []
    while True:
        found = await index.look(before, size)
        kept += found.matches
        if len(kept) > limit:
            return Matches(kept[:limit], kept[limit - 1].place)
        left -= found.seen
        if found.seen < size:
            return Matches(kept, None)
        before = found.last
        if left <= 0:
            return Matches(kept, before)
        size = min(left, size * MORE)


async def read_found(
    connection: AsyncConnection, user_id: int, ids: Sequence[int]
) -> Mapping[int, Row[*tuple[Any, ...]]]:
    """Messages by their numbers, with the beginning of their content, their conversation and their provider."""
    if not ids:
        return {}
    talk, made_by = conversations.c, completions.c
    names = ("id", "conversation_id", "role", "status", "model", "completion_id", "created_at")
    query = (
        select(
            *(messages.c[name] for name in names),
            func.substr(messages.c.content, 1, LONGEST_TEXT + 1).label("content"),
            talk.title,
            talk.archived,
            talk.pinned,
            made_by.provider,
        )
        .join(conversations, (talk.user_id == messages.c.user_id) & (talk.id == messages.c.conversation_id))
        .outerjoin(completions, (made_by.user_id == messages.c.user_id) & (made_by.id == messages.c.completion_id))
        .where(messages.c.user_id == user_id, messages.c.id.in_(ids))
    )
    return {row.id: row for row in await connection.execute(query)}
