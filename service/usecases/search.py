"""Search: a user's messages that match a query, ranked, with the passage that matched and their conversation."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.bounds import TooSlow, bounded
from service.db.engine import Database
from service.domain.filters import SearchFilter
from service.domain.paging import Ask, Page
from service.domain.search import score
from service.domain.snippets import Snippets
from service.errors import BadCursor, Unavailable
from service.repositories.paging import FOREIGN, Pager
from service.repositories.search import Matches, find_matches, read_found
from service.repositories.search_candidates import Candidate, Place

# So many of the newest matches are ranked among themselves: a tier. The next older ones are the next tier.
TIER = 200
# A cursor remembers so many tiers on the way back.
MOST_TIERS = 50
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Talk:
    """The conversation of a message that was found."""

    id: int
    title: str | None
    archived: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found. `score` is from 0 to 1, `snippet` is HTML whose only tag is <mark>."""

    id: int
    conversation_id: int
    role: str
    status: str
    model: str | None
    provider: str | None
    completion_id: int | None
    created_at: datetime
    score: float
    snippet: str
    conversation: Talk


@dataclass(frozen=True, slots=True)
class Found:
    """A page of hits; `more`: there are, or may be, older matches than those that `total` counts."""

    page: Page[Hit]
    more: bool


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a page lies: in which tier, behind or before how many of its matches. None is the tier's end.

    `tiers` are the places that this tier and those before it lie behind, the first one's None until it was read.
    """

    tiers: tuple[Place | None, ...] = (None,)
    offset: int | None = 0
    backwards: bool = False


class Search:
    def __init__(self, database: Database, pager: Pager) -> None:
        self._database = database
        self._pager = pager

    async def find(self, chosen: SearchFilter, ask: Ask) -> Found:
        """A page of matches: tier by tier from the newest, ranked within each.

        Raises BadCursor, Unavailable for a search that would take too long.
        """
        scope = _scope(chosen)
        spot = self._open(scope, ask.cursor) if ask.cursor else _Spot(offset=ask.skip)
        if not chosen.query.wanted:
            return Found(Page([], None if ask.cursor else 0, 0 if ask.cursor else ask.skip, ask.limit), False)
        try:
            async with self._database.reading() as connection, bounded(connection, SECONDS):
                tier = await find_matches(connection, chosen, before=spot.tiers[-1], limit=TIER)
                ranked = _rank(chosen, tier.items)
                first, last = _stretch(spot, ask.limit, len(ranked))
                hits = await self._read(connection, chosen, ranked[first:last])
        except TooSlow:
            raise Unavailable(
                f"The search took more than {SECONDS:g} s: ask for rarer words, or within less time by since and until."
            ) from None
        # The tier is kept where it is while newer matches come: it starts with the one that is its newest now.
        tiers = (*spot.tiers[:-1], _just_above(tier.items[0].place) if tier.items else spot.tiers[-1])
        return Found(
            Page(
                hits,
                None if ask.cursor else len(ranked),
                0 if ask.cursor else ask.skip,
                ask.limit,
                self._onward(scope, tiers, tier, last),
                self._back(scope, tiers, first, started=bool(ask.cursor or ask.skip)),
            ),
            tier.rest is not None,
        )

    async def _read(
        self, connection: AsyncConnection, chosen: SearchFilter, ranked: Sequence[tuple[float, Candidate]]
    ) -> list[Hit]:
        """The hits of a page; one that was deleted in the meantime is left out."""
        rows = await read_found(connection, chosen.user_id, [one.message_id for _, one in ranked])
        there = [(value, rows[one.message_id]) for value, one in ranked if one.message_id in rows]
        snippets = Snippets(chosen.query)
        # In a thread: a page of very long messages would keep everybody else waiting.
        made = await asyncio.to_thread(lambda: [snippets.make(row.content) for _, row in there])
        return [_hit(row, value, snippet) for (value, row), snippet in zip(there, made, strict=True)]

    def _onward(self, scope: Sequence[object], tiers: tuple[Place | None, ...], tier: Matches, last: int) -> str | None:
        if last < len(tier.items):
            return self._seal(scope, _Spot(tiers, last))
        if tier.rest is not None:
            return self._seal(scope, _Spot((*tiers, tier.rest)[-MOST_TIERS:], 0))
        return None

    def _back(
        self, scope: Sequence[object], tiers: tuple[Place | None, ...], first: int, *, started: bool
    ) -> str | None:
        if started and first > 0:
            return self._seal(scope, _Spot(tiers, first, True))
        return self._seal(scope, _Spot(tiers[:-1], None, True)) if len(tiers) > 1 else None

    def _seal(self, scope: Sequence[object], spot: _Spot) -> str:
        tiers = [",".join(map(str, place or ())) for place in spot.tiers]
        return self._pager.seal(scope, [spot.offset, *tiers], spot.backwards)

    def _open(self, scope: Sequence[object], cursor: str) -> _Spot:
        (offset, *tiers), backwards = self._pager.open(scope, cursor)
        if not tiers:
            raise BadCursor(FOREIGN)
        places = [tuple(int(part) for part in str(one).split(",")) if one else None for one in tiers]
        return _Spot(tuple(places), None if offset is None else int(offset), backwards)


def _scope(chosen: SearchFilter) -> tuple[object, ...]:
    return ("search", *(str(getattr(chosen, name)) for name in SearchFilter.__slots__))


def _rank(chosen: SearchFilter, matches: Sequence[Candidate]) -> list[tuple[float, Candidate]]:
    """The best first; of equal ones the newest."""
    scored = [(score(chosen.query, one.words or ""), one) for one in matches]
    return sorted(scored, key=lambda pair: -pair[0])


def _stretch(spot: _Spot, limit: int, count: int) -> tuple[int, int]:
    """Which of a tier's ranked matches are on the page."""
    offset = count if spot.offset is None else min(spot.offset, count)
    return (max(0, offset - limit), offset) if spot.backwards else (offset, min(count, offset + limit))


def _just_above(place: Place) -> Place:
    """The place that is newer than this one and older than all that are newer."""
    return (*place[:-1], place[-1] + 1)


def _hit(row: Row[*tuple[Any, ...]], value: float, snippet: str) -> Hit:
    names = [name for name in Hit.__slots__ if name not in ("score", "snippet", "conversation")]
    found = row._mapping
    talk = Talk(row.conversation_id, row.title, row.archived, row.pinned)
    return Hit(**{name: found[name] for name in names}, score=value, snippet=snippet, conversation=talk)
