"""Budgets and limits: what they are, how much of them is used, and what is held."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    and_,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.ledger_tables import DAY, usage_deltas, usage_rollups
from service.db.limit_tables import holds, limits
from service.db.recordset import upsert
from service.db.tables import completions, ledger_entries
from service.db.types import epoch, later, now

MINUTE = 60
RUNNING = case((completions.c.id.is_not(None), completions.c.finished_at.is_(None)), else_=holds.c.expires_at > now())
SAME = and_(completions.c.user_id == holds.c.user_id, completions.c.id == holds.c.completion_id)


async def list_limits(
    connection: AsyncConnection, user_id: int, key_id: int | None, *, lock: bool = False
) -> list[Row[Any]]:
    """The limits that a turn falls under; `lock` has others wait, in one order, until the transaction ends."""
    names = [("all", 0), ("key", key_id or 0), ("user", user_id)]
    query = select(limits).where(tuple_(limits.c.scope, limits.c.subject_id).in_(names))
    query = query.order_by(limits.c.scope, limits.c.subject_id)
    return list(await connection.execute(query.with_for_update() if lock else query))


async def put_limits(
    connection: AsyncConnection, scope: str, subject_id: int, *, values: Mapping[str, int | None]
) -> None:
    """Set some limits; None takes one away."""
    row = {"scope": scope, "subject_id": subject_id, **values}
    statement = upsert(connection.dialect.name, limits).values(row)
    await connection.execute(statement.on_conflict_do_update(index_elements=["scope", "subject_id"], set_=values))


async def read_clock(connection: AsyncConnection) -> int:
    """The database's clock, in whole seconds since 1970."""
    return int((await connection.execute(select(epoch(now())))).scalar_one())


async def read_spent(
    connection: AsyncConnection, scope: str, subject_id: int, *, since: Mapping[str, int]
) -> dict[str, int]:
    """Nano-dollars charged since each of some UTC midnights, in seconds since 1970; what is not folded yet included."""
    rolled, deltas = usage_rollups.c, usage_deltas.c
    first = min(since.values())
    mine: tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]
    if scope == "key":
        mine = [rolled.user_id > 0, rolled.key_id == subject_id], [deltas.key_id == subject_id]
    elif scope == "user":
        mine = [rolled.user_id == subject_id], [deltas.user_id == subject_id]
    else:
        mine = [rolled.user_id == 0], []
    both = union_all(
        select(rolled.start, rolled.cost_nano).where(rolled.span == DAY, rolled.start >= first, *mine[0]),
        select(deltas.start, deltas.cost_nano).where(deltas.start >= first, *mine[1]),
    ).subquery()
    sums = [_sum(case((both.c.start >= start, both.c.cost_nano), else_=0)).label(name) for name, start in since.items()]
    row = (await connection.execute(select(*sums).select_from(both))).one()
    return dict(row._mapping)


async def read_held(connection: AsyncConnection, scope: str, subject_id: int) -> Row[Any]:
    """(nano, tokens, streams) that running turns hold, (requests, oldest) of the last minute; `oldest` in seconds."""
    recent = holds.c.created_at > later(-MINUTE)
    columns = [
        _sum(case((RUNNING, holds.c.nano), else_=0)).label("nano"),
        _sum(case((RUNNING, holds.c.tokens), else_=0)).label("tokens"),
        _sum(case((RUNNING, 1), else_=0)).label("streams"),
        _sum(case((recent, 1), else_=0)).label("requests"),
        func.min(case((recent, epoch(holds.c.created_at)))).label("oldest"),
    ]
    source: FromClause = holds.outerjoin(completions, SAME)
    query = select(*columns).select_from(source)
    return (await connection.execute(query.where(*_mine(holds, scope, subject_id)))).one()


async def read_tokens(connection: AsyncConnection, scope: str, subject_id: int) -> int:
    """The tokens that were charged in the last minute."""
    entry = ledger_entries.c
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
    tokens = _sum(sum((entry[name] for name in names[1:]), start=entry[names[0]]))
    query = select(tokens).where(entry.created_at > later(-MINUTE), *_mine(ledger_entries, scope, subject_id))
    return int((await connection.execute(query)).scalar_one())


async def add_hold(connection: AsyncConnection, row: Mapping[str, Any], *, seconds: float) -> None:
    await connection.execute(insert(holds).values(**row, expires_at=later(seconds)))


async def drop_hold(connection: AsyncConnection, user_id: int, completion_id: int) -> None:
    """Give back what a turn held that was not begun."""
    mine = (holds.c.user_id == user_id, holds.c.completion_id == completion_id)
    await connection.execute(delete(holds).where(*mine))


async def drop_holds(connection: AsyncConnection) -> int:
    """Forget holds that count no more."""
    over = select(holds.c.user_id, holds.c.completion_id).select_from(holds.outerjoin(completions, SAME))
    over = over.where(~RUNNING, holds.c.created_at < later(-2 * MINUTE)).limit(1000)
    gone = delete(holds).where(tuple_(holds.c.user_id, holds.c.completion_id).in_(over))
    return (await connection.execute(gone)).rowcount


def _mine(table: Any, scope: str, subject_id: int) -> tuple[ColumnElement[bool], ...]:
    if scope == "all":
        return ()
    return ((table.c.user_id if scope == "user" else table.c.key_id) == subject_id,)


def _sum(column: Any) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)
