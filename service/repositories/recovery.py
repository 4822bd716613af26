"""Turns whose worker is gone: claim them, and read what is known of them."""

from typing import Any

from sqlalchemy import or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.recordset import encode, insert_rows
from service.db.tables import attempts, completions, ledger_entries, running
from service.db.types import later, now
from service.repositories.events import Record
from service.repositories.turn_statements import ATTEMPT, ENTRY


async def claim_lapsed(connection: AsyncConnection, worker: str, *, lease_seconds: float, most: int) -> list[Record]:
    """Take over running completions whose lease has run out, or who never had one, under a new epoch."""
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


async def begin_attempt(
    connection: AsyncConnection, attempt: dict[str, Any], lost: dict[str, Any], *, epoch: int
) -> bool:
    """Record that an attempt was lost, with its ledger entry, and that the next one begins; False where fenced."""
    mine = (
        completions.c.user_id == attempt["user_id"],
        completions.c.id == attempt["completion_id"],
        completions.c.epoch == epoch,
        completions.c.finished_at.is_(None),
    )
    held = update(completions).where(*mine).values(attempt_count=attempt["number"]).returning(completions.c.id)
    if (await connection.execute(held)).first() is None:
        return False
    before = (
        attempts.c.user_id == attempt["user_id"],
        attempts.c.completion_id == attempt["completion_id"],
        attempts.c.number == attempt["number"] - 1,
    )
    ended = {"status": "failed", "error_kind": "worker_lost", "finished_at": now()}
    await connection.execute(update(attempts).where(*before).values(ended))
    dialect = connection.dialect.name
    for name, table, columns, row in (
        ("attempts", attempts, ATTEMPT, attempt),
        ("entries", ledger_entries, ENTRY, lost),
    ):
        await connection.execute(insert_rows(dialect, name, table=table, names=columns), {name: encode([row])})
    return True
