"""Rollups: what was added is folded into them; they are compared with the ledger, and made anew from it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    Select,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.ledger_tables import DAY, HOUR, QUARTER, SUMS, usage_deltas, usage_rollups
from service.db.recordset import upsert
from service.db.tables import ledger_entries
from service.db.types import EPOCH, epoch
from service.repositories.usage import added

NAMES = ("user_id", "span", "start", "model", "provider", "key_id")
BATCH = 5_000
# Entries whose days are made anew in one transaction.
STRETCH = 20_000
LOCK = 0x4576666F6C64  # "Evfold": the advisory lock's number


class Level(NamedTuple):
    """Rollups of one span, each user's or everybody's."""

    everybody: bool
    span: int

    def __str__(self) -> str:
        what = {QUARTER: "quarter of an hour", HOUR: "hour", DAY: "day"}[self.span]
        return f"{'everybody' if self.everybody else 'user'} by {what}"


LEVELS = (Level(False, HOUR), Level(False, DAY), Level(True, QUARTER), Level(True, HOUR), Level(True, DAY))


async def any_unfolded(connection: AsyncConnection) -> bool:
    return (await connection.execute(select(usage_deltas.c.entry_id).limit(1))).first() is not None


async def fold(connection: AsyncConnection) -> bool:
    """Fold some of what was added into the rollups; False where nothing was left, or another worker is at it."""
    if connection.dialect.name == "postgresql":
        if not (await connection.execute(text(f"SELECT pg_try_advisory_xact_lock({LOCK})"))).scalar_one():
            return False
        return (await connection.execute(_fold_at_once())).rowcount > 0
    rowid: ColumnElement[int] = literal_column("rowid", BigInteger).label("rowid")
    oldest = select(rowid).select_from(usage_deltas).order_by(rowid).limit(BATCH).subquery()
    last = (await connection.execute(select(func.max(oldest.c.rowid)))).scalar()
    if last is None:
        return False
    await connection.execute(_add("sqlite", select(usage_deltas).where(rowid <= last).subquery("gone")))
    await connection.execute(delete(usage_deltas).where(rowid <= last))
    return True


async def wait_for_folding(connection: AsyncConnection) -> None:
    """Keep every worker from folding until the transaction ends. Nothing to be done on SQLite: it has one writer."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))


async def see_one_moment(connection: AsyncConnection) -> None:
    """Have a new transaction see the database as it is now until its end. SQLite's always do."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


async def list_differences(connection: AsyncConnection, level: Level, most: int) -> list[Row[Any]]:
    """Where a level and the ledger differ: (user_id, span, start, model, provider, key_id, …SUMS), ledger less rollups.

    What is not folded yet counts as if it were.
    """
    ledger = _binned(_from_ledger(), level)
    table, deltas = usage_rollups.c, _binned(usage_deltas, level)
    mine = (table.user_id == 0 if level.everybody else table.user_id > 0, table.span == level.span)
    rolled = select(*(table[name] for name in NAMES), *((-table[name]).label(name) for name in SUMS)).where(*mine)
    unfolded = select(*(deltas.c[name] for name in NAMES), *((-deltas.c[name]).label(name) for name in SUMS))
    both = union_all(select(ledger), rolled, unfolded).subquery("both")
    sums = [cast(func.sum(both.c[name]), BigInteger).label(name) for name in SUMS]
    dimensions = [both.c[name] for name in NAMES]
    query = select(*dimensions, *sums).group_by(*dimensions).having(or_(*(one != 0 for one in sums)))
    return list(await connection.execute(query.order_by(*dimensions).limit(most)))


async def rebuild(connection: AsyncConnection) -> None:
    """Make the rollups anew from the ledger. What is added meanwhile, by others, stays to be folded.

    In a transaction that sees one moment, while nobody folds.
    """
    await connection.execute(delete(usage_deltas))
    await rebuild_days(connection, None, None)


async def find_end(connection: AsyncConnection, since: int | None) -> int | None:
    """The end of the day, in seconds since 1970, until which there are about STRETCH entries; None: of all days."""
    moment = ledger_entries.c.created_at
    query = select(epoch(moment)).where(*_within(moment, since, None)).order_by(moment).offset(STRETCH).limit(1)
    last: int | None = (await connection.execute(query)).scalar()
    return None if last is None else last - last % DAY + DAY


async def rebuild_days(connection: AsyncConnection, since: int | None, until: int | None) -> None:
    """Make the rollups of whole days anew, between seconds since 1970. Of these nothing may be left to be folded."""
    where = _within(usage_rollups.c.start, since, until)
    await connection.execute(delete(usage_rollups).where(*where))
    for level in LEVELS:
        binned = _binned(_from_ledger(since, until), level)
        columns = [*NAMES, *SUMS]
        await connection.execute(insert(usage_rollups).from_select(columns, _summed(binned)))


def _fold_at_once() -> Any:
    name = tuple_(usage_deltas.c.user_id, usage_deltas.c.entry_id)
    some = select(usage_deltas.c.user_id, usage_deltas.c.entry_id).limit(BATCH)
    gone = delete(usage_deltas).where(name.in_(some)).returning(*usage_deltas.c).cte("gone")
    return _add("postgresql", gone)


def _add(dialect: str, deltas: FromClause) -> Any:
    """Add deltas to every level."""
    levels = union_all(
        *(
            select(
                literal_column(str(int(one.everybody))).label("everybody"), literal_column(str(one.span)).label("span")
            )
            for one in LEVELS
        )
    ).subquery("levels")
    binned = _bins(deltas, levels.c.everybody == 1, levels.c.span).join_from(deltas, levels, true()).subquery("binned")
    statement = upsert(dialect, usage_rollups).from_select([*NAMES, *SUMS], _summed(binned, where=true()))
    sums = {name: usage_rollups.c[name] + statement.excluded[name] for name in SUMS}
    return statement.on_conflict_do_update(index_elements=list(NAMES), set_=sums)


def _binned(source: FromClause, level: Level) -> FromClause:
    span: ColumnElement[int] = literal_column(str(level.span))
    return _bins(source, true() if level.everybody else ~true(), span).subquery("binned")


def _bins(source: FromClause, everybody: ColumnElement[bool], span: ColumnElement[int]) -> Select[Any]:
    """The rows as a level counts them: whose they are, and where their span begins."""
    of = source.c
    return select(
        case((everybody, 0), else_=of.user_id).label("user_id"),
        span.label("span"),
        (of.start - of.start % span).label("start"),
        of.model,
        of.provider,
        case((everybody, 0), else_=of.key_id).label("key_id"),
        *(of[name] for name in SUMS),
    )


def _summed(binned: FromClause, where: ColumnElement[bool] | None = None) -> Select[Any]:
    """In the order of the primary key, so that those who add at the same time meet in the same order."""
    dimensions = [binned.c[name] for name in NAMES]
    query = select(*dimensions, *(cast(func.sum(binned.c[name]), BigInteger) for name in SUMS))
    query = query.group_by(*dimensions).order_by(*dimensions)
    # SQLite takes the ON of an upsert for a join's without a WHERE before it.
    return query if where is None else query.where(where)


def _from_ledger(since: int | None = None, until: int | None = None) -> FromClause:
    entry = ledger_entries.c
    key = func.coalesce(entry.key_id, 0).label("key_id")
    start = epoch(entry.created_at).label("start")
    query = select(entry.user_id, start, entry.model, entry.provider, key, *added())
    return query.where(*_within(entry.created_at, since, until)).subquery("ledger")


def _within(column: ColumnElement[Any], since: int | None, until: int | None) -> list[ColumnElement[bool]]:
    """Between two moments in seconds since 1970, of which None is no bound."""
    as_stored: Callable[[int], object] = int if isinstance(column.type, BigInteger) else _moment
    return [
        *([] if since is None else [column >= as_stored(since)]),
        *([] if until is None else [column < as_stored(until)]),
    ]


def _moment(second: int) -> datetime:
    return EPOCH + timedelta(seconds=second)
