"""The journalled events of completions."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, ColumnElement, Row, Select, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.recordset import encode, recordset
from service.db.tables import completions, events
from service.db.types import now
from service.repositories.folds import said_of_row

Record = Row[*tuple[Any, ...]]


class Watch(NamedTuple):
    """A completion of which the events above `after` are wanted, about as far as `upto`: whole rows are read."""

    user_id: int
    id: int
    after: int
    upto: int


async def list_events(connection: AsyncConnection, user_id: int, completion_id: int) -> list[Record]:
    """The rows (seq, last_seq, data) of a completion, in order."""
    mine = (events.c.user_id == user_id, events.c.completion_id == completion_id)
    return list(await connection.execute(select(events).where(*mine).order_by(events.c.seq)))


async def find_last_row(connection: AsyncConnection, user_id: int, completion_id: int) -> Record | None:
    """The row (seq, last_seq, data) that holds a completion's newest events."""
    mine = (events.c.user_id == user_id, events.c.completion_id == completion_id)
    return (await connection.execute(select(events).where(*mine).order_by(events.c.seq.desc()).limit(1))).first()


async def list_watched(connection: AsyncConnection, watches: Sequence[Watch]) -> list[Record]:
    """In one statement for all watches: (user_id, id, over, seq, data, said), in order of seq.

    A completion without new events is there once, with `seq` None; one that was erased is not there.
    """
    rows = [watch._asdict() for watch in watches]
    return list(await connection.execute(_watched(connection.dialect.name), {"watches": encode(rows)}))


async def has_unstored(connection: AsyncConnection) -> bool:
    """Whether there is something to purge."""
    return (await connection.execute(select(completions.c.id).where(*_unstored()).limit(1))).first() is not None


async def purge_unstored(connection: AsyncConnection) -> None:
    """Forget the events of completions that were not to be stored, once those who followed them had time to read."""
    due = update(completions).where(*_unstored()).values(lease_expires_at=None)
    gone = [tuple(row) for row in await connection.execute(due.returning(completions.c.user_id, completions.c.id))]
    if gone:
        await connection.execute(delete(events).where(tuple_(events.c.user_id, events.c.completion_id).in_(gone)))


def _unstored() -> tuple[ColumnElement[bool], ...]:
    over = (completions.c.finished_at.is_not(None), completions.c.lease_expires_at < now())
    return ~completions.c.stored, completions.c.lease_expires_at.is_not(None), *over


@lru_cache
def _watched(dialect: str) -> Select[Any]:
    bounds: list[Column[int]] = [Column("after", BigInteger), Column("upto", BigInteger)]
    watches = recordset(dialect, "watches", completions.c.user_id, completions.c.id, *bounds)
    mine = (events.c.user_id == completions.c.user_id) & (events.c.completion_id == completions.c.id)
    before = events.alias("before")
    # The row that holds the next event, so that nothing before it is looked at however long the answer is.
    next_row = (
        select(func.max(before.c.seq))
        .where(before.c.user_id == completions.c.user_id, before.c.completion_id == completions.c.id)
        .where(before.c.seq <= watches.c.after + 1)
        .scalar_subquery()
    )
    wanted = (
        mine & (events.c.seq >= next_row) & (events.c.seq <= watches.c.upto) & (events.c.last_seq > watches.c.after)
    )
    same = (completions.c.user_id == watches.c.user_id) & (completions.c.id == watches.c.id)
    over = completions.c.finished_at.is_not(None).label("over")
    return (
        select(completions.c.user_id, completions.c.id, over, events.c.seq, events.c.data, said_of_row().label("said"))
        .select_from(watches.join(completions, same).outerjoin(events, wanted))
        .order_by(events.c.seq)
    )
