"""Ledger entries: listed, compared with the completions that they charge, and corrected."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, and_, case, cast, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.recordset import upsert
from service.db.tables import attempts, completions, ledger_entries
from service.db.types import Instant
from service.domain.filters import EntryFilter
from service.domain.paging import Ask, Page
from service.repositories.paging import Pager, Sort
from service.repositories.usage import METERS

NARROWED = ("user_id", "model", "provider", "key_id", "conversation_id", "completion_id", "kind")


async def page_entries(connection: AsyncConnection, pager: Pager, ask: Ask, chosen: EntryFilter) -> Page[Row[Any]]:
    """A page of ledger entries, in the order of what they charge."""
    columns = ledger_entries.c
    query = select(ledger_entries)
    for name in NARROWED:
        if (value := getattr(chosen, name)) is not None:
            query = query.where(columns[name] == value)
    if chosen.since:
        query = query.where(columns.created_at >= chosen.since)
    if chosen.until:
        query = query.where(columns.created_at < chosen.until)
    scope = ("entries", *(str(getattr(chosen, name)) for name in EntryFilter.__slots__))
    sort = [Sort(columns.created_at, chosen.recent), Sort(columns.id, chosen.recent)]
    return await pager.page(connection, query, sort=sort, ask=ask, scope=scope)


async def count_entries(connection: AsyncConnection) -> Row[Any]:
    """How many (charges, corrections, orphans) there are; an orphan's completion was erased."""
    entry = ledger_entries.c
    same = and_(completions.c.user_id == entry.user_id, completions.c.id == entry.completion_id)
    counts = [
        func.coalesce(func.sum(case((entry.kind == "charge", 1), else_=0)), 0).label("charges"),
        func.coalesce(func.sum(case((entry.kind == "charge", 0), else_=1)), 0).label("corrections"),
        func.coalesce(func.sum(case((completions.c.id.is_(None), 1), else_=0)), 0).label("orphans"),
    ]
    query = select(*counts).select_from(ledger_entries.outerjoin(completions, same))
    return (await connection.execute(query)).one()


async def list_miscounted(connection: AsyncConnection, most: int) -> list[Row[Any]]:
    """Finished completions whose charges are not one an attempt, or do not add up to what the record says.

    (user_id, id, attempt_count, charges). A completion has no cost where one of its charges has none.
    """
    entry = ledger_entries.c
    names = (*METERS, "cost_nano")
    charged = (
        select(
            entry.user_id,
            entry.completion_id,
            func.count().label("charges"),
            func.count(entry.cost_nano).label("priced"),
            *(cast(func.sum(entry[name]), BigInteger).label(name) for name in names),
        )
        .where(entry.kind == "charge")
        .group_by(entry.user_id, entry.completion_id)
        .subquery("charged")
    )
    record, sums = completions.c, charged.c
    cost = case((sums.priced == sums.charges, sums.cost_nano))
    differs = or_(
        func.coalesce(sums.charges, 0) != record.attempt_count,
        *(func.coalesce(sums[name], 0) != func.coalesce(record[name], 0) for name in METERS),
        cost.is_distinct_from(record.cost_nano) & (sums.charges > 0),
    )
    same = and_(sums.user_id == record.user_id, sums.completion_id == record.id)
    query = select(record.user_id, record.id, record.attempt_count, func.coalesce(sums.charges, 0).label("charges"))
    query = query.select_from(completions.outerjoin(charged, same)).where(record.finished_at.is_not(None), differs)
    return list(await connection.execute(query.order_by(record.user_id, record.id).limit(most)))


async def list_charges(
    connection: AsyncConnection,
    *,
    since: datetime,
    until: datetime | None,
    model: str | None,
    after: tuple[datetime, int] | None,
    most: int,
) -> list[Row[Any]]:
    """Charges in the order of their time and id, with `upstream`, and with what they cost now.

    `corrected` is the sum of a charge's corrections, None where it has none, `last_revision` the number of the last.
    """
    entry = ledger_entries.c
    query = select(ledger_entries, attempts.c.upstream_model.label("upstream"), *_corrections())
    same = (entry.user_id, entry.completion_id, entry.attempt)
    called = (attempts.c.user_id, attempts.c.completion_id, attempts.c.number)
    match = and_(*(mine == theirs for mine, theirs in zip(same, called, strict=True)))
    query = query.select_from(ledger_entries.outerjoin(attempts, match))
    query = query.where(entry.kind == "charge", entry.created_at >= since)
    if until:
        query = query.where(entry.created_at < until)
    if model:
        query = query.where(entry.model == model)
    if after:
        beyond = tuple_(literal(after[0], Instant()), literal(after[1], BigInteger()))
        query = query.where(tuple_(entry.created_at, entry.id) > beyond)
    return list(await connection.execute(query.order_by(entry.created_at, entry.id).limit(most)))


async def add_corrections(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write corrections; how many were written. One whose revision another run has written meanwhile is left out."""
    unique = ["user_id", "completion_id", "attempt", "revision"]
    statement = upsert(connection.dialect.name, ledger_entries).values([dict(row) for row in rows])
    statement = statement.on_conflict_do_nothing(index_elements=unique).returning(ledger_entries.c.id)
    return len((await connection.execute(statement)).all())


def _corrections() -> list[ColumnElement[Any]]:
    """What a charge's corrections add, and the number of the last one."""
    entry, other = ledger_entries.c, ledger_entries.alias("corrections")
    same = (other.c[name] == entry[name] for name in ("user_id", "completion_id", "attempt"))
    where = and_(*same, other.c.revision > 0)
    added = select(cast(func.sum(other.c.cost_nano), BigInteger)).where(where).scalar_subquery()
    last = select(func.coalesce(func.max(other.c.revision), 0)).where(where).scalar_subquery()
    return [added.label("corrected"), last.label("last_revision")]
