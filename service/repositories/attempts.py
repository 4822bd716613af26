"""A turn's attempts after its first: the next call to a provider, and the first one of a turn that had to wait."""

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.recordset import encode, insert_rows
from service.db.tables import attempts, completions, ledger_entries
from service.db.types import now
from service.domain.meters import Cost, Meters, Use
from service.repositories.turn_statements import ATTEMPT, ENTRY
from service.repositories.turns import Row


async def begin_attempt(connection: AsyncConnection, attempt: Row, *, ended: Row, entry: Row, epoch: int) -> bool:
    """Record how the attempt before ended, with its ledger entry, and that the next one begins; False where fenced.

    `ended` are columns of the attempt before; one that has ended already keeps what it says. Written twice, it changes
    nothing.
    """
    held = update(completions).where(*_held(attempt, epoch)).values(attempt_count=attempt["number"])
    if (await connection.execute(held.returning(completions.c.id))).first() is None:
        return False
    before = (
        attempts.c.user_id == attempt["user_id"],
        attempts.c.completion_id == attempt["completion_id"],
        attempts.c.number == attempt["number"] - 1,
        attempts.c.finished_at.is_(None),
    )
    await connection.execute(update(attempts).where(*before).values({**ended, "finished_at": now()}))
    dialect = connection.dialect.name
    for name, table, columns, row in (
        ("attempts", attempts, ATTEMPT, attempt),
        ("entries", ledger_entries, ENTRY, entry),
    ):
        await connection.execute(insert_rows(dialect, name, table=table, names=columns), {name: encode([row])})
    return True


async def begin_waiting(connection: AsyncConnection, attempt: Row, *, epoch: int) -> bool:
    """A turn that waited runs now, with its first attempt; False where it was taken over or has ended."""
    started = {"status": "in_progress", "attempt_count": attempt["number"]}
    held = update(completions).where(*_held(attempt, epoch)).values(started)
    if (await connection.execute(held.returning(completions.c.id))).first() is None:
        return False
    statement = insert_rows(connection.dialect.name, "attempts", table=attempts, names=ATTEMPT)
    await connection.execute(statement, {"attempts": encode([attempt])})
    return True


async def count_lost(connection: AsyncConnection, user_id: int, completion_id: int) -> int:
    """How many of a completion's attempts were lost with their worker: with the one that has not ended, if there is."""
    mine = (attempts.c.user_id == user_id, attempts.c.completion_id == completion_id)
    lost = or_(attempts.c.error_kind == "worker_lost", attempts.c.finished_at.is_(None))
    query = select(func.count()).select_from(attempts).where(*mine, lost)
    return int((await connection.execute(query)).scalar_one())


async def read_spent(connection: AsyncConnection, user_id: int, completion_id: int) -> Use:
    """What the ended attempts of a completion were charged, all together."""
    entry = ledger_entries.c
    mine = (entry.user_id == user_id, entry.completion_id == completion_id, entry.revision == 0)
    query = select(*(entry[name] for name in Meters.__slots__), entry.cost_nano).where(*mine)
    spent = Use()
    for *meters, nano in await connection.execute(query):
        spent += Use(Meters(*meters), Cost(nano, "none"))
    return spent


def _held(attempt: Row, epoch: int) -> tuple[ColumnElement[bool], ...]:
    return (
        completions.c.user_id == attempt["user_id"],
        completions.c.id == attempt["completion_id"],
        completions.c.epoch == epoch,
        completions.c.finished_at.is_(None),
    )
