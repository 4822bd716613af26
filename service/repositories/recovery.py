"""Turns whose worker is gone, goes, or is asked to stop one."""

from collections.abc import Collection, Sequence

from sqlalchemy import null, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.recordset import encode, recordset
from service.db.tables import attempts, completions, running
from service.db.types import later, now
from service.repositories.events import Record
from service.repositories.turn_statements import HOLD
from service.repositories.turns import Name, Row


async def claim_lapsed(connection: AsyncConnection, worker: str, *, lease_seconds: float, most: int) -> list[Record]:
    """Take over running completions whose lease has run out, or who have none, under a new epoch."""
    over = or_(completions.c.lease_expires_at < now(), completions.c.lease_expires_at.is_(None))
    lapsed = (
        select(completions.c.user_id, completions.c.id)
        .where(running, over)
        .order_by(completions.c.lease_expires_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    claim = (
        update(completions)
        .where(tuple_(completions.c.user_id, completions.c.id).in_(lapsed))
        .values(epoch=completions.c.epoch + 1, worker=worker, lease_expires_at=later(lease_seconds))
        .returning(*completions.c)
    )
    return list(await connection.execute(claim))


async def release(connection: AsyncConnection, held: Sequence[Row]) -> None:
    """Give running turns (user_id, id, epoch) up for any worker to take over at once; their attempts have ended."""
    rows = recordset(connection.dialect.name, "held", *(completions.c[name] for name in HOLD))
    mine = [completions.c[name] == rows.c[name] for name in HOLD]
    free = update(completions).where(*mine, completions.c.finished_at.is_(None))
    free = free.values(lease_expires_at=null(), worker=null()).returning(completions.c.user_id, completions.c.id)
    freed = [tuple(row) for row in await connection.execute(free, {"held": encode(held)})]
    if freed:
        begun = (tuple_(attempts.c.user_id, attempts.c.completion_id).in_(freed), attempts.c.finished_at.is_(None))
        ended = {"status": "failed", "error_kind": "handed_over", "finished_at": now()}
        await connection.execute(update(attempts).where(*begun).values(ended))


async def request_cancel(connection: AsyncConnection, user_id: int, ids: Collection[int]) -> set[int]:
    """Ask whoever runs a user's completions to stop them; those of them that have not ended."""
    mine = (completions.c.user_id == user_id, completions.c.id.in_(ids), completions.c.finished_at.is_(None))
    asked = update(completions).where(*mine).values(cancel_requested_at=now()).returning(completions.c.id)
    return set((await connection.execute(asked)).scalars())


async def is_to_be_cancelled(connection: AsyncConnection, name: Name) -> bool:
    """Whether somebody wants a completion stopped."""
    mine = (completions.c.user_id == name[0], completions.c.id == name[1])
    query = select(completions.c.id).where(*mine, completions.c.cancel_requested_at.is_not(None))
    return (await connection.execute(query)).first() is not None


async def list_signals(connection: AsyncConnection) -> list[Record]:
    """The running completions that somebody wants cancelled or that nobody holds: (user_id, id, cancelled, free)."""
    cancelled = completions.c.cancel_requested_at.is_not(None)
    free = completions.c.lease_expires_at.is_(None)
    query = select(completions.c.user_id, completions.c.id, cancelled.label("cancelled"), free.label("free"))
    return list(await connection.execute(query.where(running, or_(cancelled, free))))
