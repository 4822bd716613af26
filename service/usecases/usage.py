"""Usage and cost: reports by bucket and group, and the ledger's entries."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic_core import from_json
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.bounds import TooSlow, bounded
from service.db.engine import Database
from service.db.ledger_tables import SUMS
from service.domain.buckets import USUAL, Bucket, Run, begin, end_of
from service.domain.calendars import MICROSECOND, Calendar, calendar
from service.domain.filters import EntryFilter
from service.domain.meters import to_dollars
from service.domain.paging import Ask, Page
from service.errors import ReportTooLarge, Unprocessable
from service.repositories.ledger import page_entries
from service.repositories.paging import Pager
from service.repositories.usage import SHOWN, Question, read_usage, stream_usage, write_usage

Group = Literal["user", "model", "provider", "key", "conversation", "tag"]
MOST_BUCKETS = 10_000
MOST_ROWS = 100_000
BATCH = 1_000
NOTHING = (0,) * len(SUMS)
# Sums as callers see them.
TOLD = tuple("cost_usd" if name == "cost_nano" else name for name in SUMS)
NARROWER = "ask for less time, larger buckets or fewer groups"


@dataclass(frozen=True, slots=True)
class UsageAsk:
    """What a report is to say. `user_id` None is everybody's. Without `until` it ends with the bucket of now, without
    `since` it has as many buckets as are usual."""

    user_id: int | None
    since: datetime | None = None
    until: datetime | None = None
    bucket: Bucket = "day"
    timezone: str = "UTC"
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A bucket: its sums, and a JSON list of its groups with theirs, which the database writes: they are many."""

    start: datetime
    end: datetime
    sums: dict[str, Any]
    groups: str


@dataclass(frozen=True, slots=True)
class Report:
    """Usage by bucket and group. The groups of a bucket in which nothing was used are empty.

    Sums are of provider calls: `requests`, those of them that failed, those without a price, the meters, the cost.
    """

    since: datetime
    until: datetime
    bucket: Bucket
    timezone: str
    group_by: tuple[Group, ...]
    total: dict[str, Any]
    unpriced_models: list[str]
    buckets: list[Part]


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger entry. `provenance` says what its amount stands on, `counted_by` who counted its meters."""

    id: int
    user_id: int
    completion_id: int
    attempt: int
    revision: int
    kind: str
    conversation_id: int | None
    key_id: int | None
    model: str
    provider: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: str | None
    price_source: str
    price_version: str
    provenance: str
    counted_by: str
    error_kind: str | None
    created_at: datetime
    booked_at: datetime


def columns_of(ask: UsageAsk) -> list[str]:
    """What each of a report's lines has, in order."""
    return ["start", "end", *_names(ask.groups), *TOLD]


class Usage:
    def __init__(self, database: Database, pager: Pager, *, timeout: float) -> None:
        self._database = database
        self._pager = pager
        self._timeout = timeout

    async def report(self, ask: UsageAsk) -> Report:
        """Raises Unprocessable for a time, zone or number of buckets that cannot be, ReportTooLarge."""
        plan = _plan(ask)
        async with self._bounded() as connection:
            found = await write_usage(connection, *plan.asked(ask.groups), most=MOST_ROWS + 1)
            if sum(row.size for row in found) > MOST_ROWS:
                raise ReportTooLarge(f"It has more than {MOST_ROWS:,} rows: {NARROWER}, or take it as a file.")
            # A conversation with two tags is in both groups, and once in the sum.
            whole = await read_usage(connection, *plan.asked(())) if "tag" in ask.groups else found
            by_model = [] if "model" in ask.groups else await read_usage(connection, *plan.asked(("model",)))
        unpriced = {row.model for row in by_model if row.unpriced > 0}
        for row in found:
            if row.unpriced_models:
                unpriced.update(one["model"] for one in from_json(f"[{row.unpriced_models}]"))
        return Report(
            since=plan.calendar.local[0],
            until=plan.calendar.local[-1],
            bucket=ask.bucket,
            timezone=ask.timezone,
            group_by=ask.groups,
            total=_shown(_sum(whole)),
            unpriced_models=sorted(unpriced),
            buckets=list(_parts(plan, found if ask.groups else [], whole)),
        )

    async def lines(self, ask: UsageAsk) -> AsyncGenerator[list[dict[str, Any]]]:
        """The report as batches of lines, one for each bucket and group; an empty bucket has a line as well.

        A connection is held until the last one. Raises as `report`, but for the number of rows.
        """
        plan = _plan(ask)
        number = -1
        async with self._bounded() as connection:
            async for batch in stream_usage(connection, *plan.asked(ask.groups), BATCH):
                lines = []
                for row in batch:
                    lines += [_line(plan, ask.groups, empty, None) for empty in range(number + 1, row.number)]
                    lines.append(_line(plan, ask.groups, row.number, row))
                    number = row.number
                yield lines
        yield [_line(plan, ask.groups, empty, None) for empty in range(number + 1, len(plan.calendar))]

    async def entries(self, chosen: EntryFilter, ask: Ask) -> Page[Entry]:
        """A page of ledger entries. Raises BadCursor, ReportTooLarge."""
        async with self._bounded() as connection:
            page = await page_entries(connection, self._pager, ask, chosen)
        return page.map(_entry)

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._database.reading() as connection, bounded(connection, self._timeout):
                yield connection
        except TooSlow:
            raise ReportTooLarge(f"It takes more than {self._timeout:g} s to add up: {NARROWER}.") from None


@dataclass(frozen=True, slots=True)
class _Plan:
    """Whose usage, and the buckets."""

    user_id: int | None
    calendar: Calendar

    def asked(self, groups: tuple[Group, ...]) -> tuple[Question, list[Run]]:
        question = Question(self.user_id, groups)
        return question, self.calendar.runs(question.spans)

    def span(self, number: int) -> dict[str, Any]:
        return {"start": self.calendar.local[number], "end": self.calendar.local[number + 1]}


def _plan(ask: UsageAsk) -> _Plan:
    if ask.timezone not in _zones():
        raise Unprocessable("Not a time zone of the IANA database, such as Europe/Berlin.", loc=("query", "timezone"))
    zone, now = ZoneInfo(ask.timezone), datetime.now(UTC)
    until = ask.until or end_of(now, bucket=ask.bucket, zone=zone)
    since = ask.since or begin(until - MICROSECOND, bucket=ask.bucket, zone=zone, back=USUAL[ask.bucket] - 1)
    if since >= until:
        raise Unprocessable("`since` must lie before `until`.", loc=("query", "since"))
    try:
        return _Plan(ask.user_id, calendar(since, until, bucket=ask.bucket, zone=zone, most=MOST_BUCKETS))
    except ValueError:
        said = f"There would be more than {MOST_BUCKETS:,} buckets: ask for less time or larger ones."
        raise Unprocessable(said, loc=("query", "bucket")) from None


@cache
def _zones() -> set[str]:
    # Files beside the zones on some systems: the host's own zone is nobody's business, and the others are none.
    return available_timezones() - {"localtime", "posixrules", "Factory"}


def _parts(plan: _Plan, found: Sequence[Row[Any]], whole: Sequence[Row[Any]]) -> Iterator[Part]:
    groups = {row.number: row.groups for row in found}
    sums = {row.number: row[-len(SUMS) :] for row in whole}
    for number in range(len(plan.calendar)):
        told = _shown(sums.get(number, NOTHING))
        yield Part(**plan.span(number), sums=told, groups=f"[{groups.get(number, '')}]")


def _names(groups: tuple[Group, ...]) -> list[str]:
    return [name for group in groups for name in SHOWN[group]]


def _line(plan: _Plan, groups: tuple[Group, ...], number: int, row: Row[Any] | None) -> dict[str, Any]:
    told = dict.fromkeys(_names(groups)) | _shown(NOTHING) if row is None else _named(_keys(groups), row)
    return plan.span(number) | told


@cache
def _keys(groups: tuple[Group, ...]) -> tuple[str, ...]:
    return (*_names(groups), *TOLD)


def _named(keys: tuple[str, ...], row: Row[Any]) -> dict[str, Any]:
    """A row of `add_up`: what is shown of its groups, and its sums. Reports have thousands."""
    told: dict[str, Any] = dict(zip(keys, row[1:], strict=True))
    told["cost_usd"] = _cost(told)
    return told


def _sum(found: Sequence[Row[Any]]) -> Sequence[int]:
    return [sum(column) for column in zip(*(row[-len(SUMS) :] for row in found), strict=True)] or NOTHING


def _shown(sums: Sequence[int]) -> dict[str, Any]:
    told: dict[str, Any] = dict(zip(TOLD, sums, strict=True))
    told["cost_usd"] = _cost(told)
    return told


def _cost(told: dict[str, Any]) -> str | None:
    """In dollars. What has no price at all costs null, not 0."""
    requests = told["requests"]
    return to_dollars(told["cost_usd"]) if not requests or told["unpriced"] < requests else None


def _entry(row: Any) -> Entry:
    found = row._mapping
    names = [one.name for one in fields(Entry) if one.name in found and one.name != "provenance"]
    counted = found["provenance"]
    return Entry(
        **{name: found[name] for name in names},
        cost_usd=to_dollars(found["cost_nano"]),
        provenance=counted if found["cost_nano"] is not None else "unpriced",
        counted_by=counted,
    )
