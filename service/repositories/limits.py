"""Budgets and limits: what they are, how much of them is used, and what is held.

On Postgres the functions of migrations/versions/2026_11_26_holds.py count and hold; `limits_sqlite` says the same.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, func, insert, literal, or_, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.limit_tables import BUDGETS, RATES, holds, limits
from service.db.recordset import upsert
from service.db.tables import completions, keys, ledger_entries
from service.db.types import later, now
from service.domain.quotas import MINUTE, Allowance, read_allowances
from service.repositories import limits_sqlite

# A hold that nobody settles counts for so long; while its completion runs that is put off.
HOLD_SECONDS = 600.0
TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
SAME = and_(completions.c.user_id == holds.c.user_id, completions.c.id == holds.c.completion_id)
OPEN = holds.c.settled_at.is_(None)


class Verdict(NamedTuple):
    """What became of a turn's hold, and the limits as they were without it."""

    refused: bool
    allowances: list[Allowance]


async def any_limits(connection: AsyncConnection, user_id: int, key_id: int | None) -> bool:
    """Whether a turn falls under a limit."""
    names = [("all", 0), ("key", key_id or 0), ("user", user_id)]
    some = or_(*(limits.c[name].is_not(None) for name in (*BUDGETS, *RATES)))
    query = select(limits.c.scope).where(tuple_(limits.c.scope, limits.c.subject_id).in_(names), some).limit(1)
    return (await connection.execute(query)).first() is not None


async def list_allowances(connection: AsyncConnection, user_id: int, key_id: int | None) -> list[Allowance]:
    """The limits of all, of a key and of a user, as far as there are any, and what is used of them now."""
    postgres = connection.dialect.name == "postgresql"
    query = "SELECT * FROM everturn_allowances(:user_id, :key_id)" if postgres else limits_sqlite.READ
    found = await connection.execute(text(query), {"user_id": user_id, "key_id": key_id})
    return [Allowance(**row._mapping) for row in found]


def hold_in_turn(connection: Connection, row: Mapping[str, Any]) -> Verdict:
    """Check every limit of a turn and hold what it may use, in one statement, within SQLite's one writer."""
    names = {"user_id": row["user_id"], "key_id": row["key_id"]}
    found = connection.execute(limits_sqlite.HOLD, {**row, "seconds": HOLD_SECONDS}).scalar()
    if found is not None:
        return Verdict(False, read_allowances(found))
    return Verdict(True, [Allowance(**one._mapping) for one in connection.execute(text(limits_sqlite.READ), names)])


async def put_limits(
    connection: AsyncConnection, scope: str, subject_id: int, *, values: Mapping[str, int | None]
) -> None:
    """Set some limits; None takes one away."""
    row = {"scope": scope, "subject_id": subject_id, **values}
    statement = upsert(connection.dialect.name, limits).values(row)
    await connection.execute(statement.on_conflict_do_update(index_elements=["scope", "subject_id"], set_=values))


async def drop_limits(connection: AsyncConnection, scope: str, subject_id: int) -> None:
    """Take all limits of a user, of a key or of all (0) away."""
    await connection.execute(delete(limits).where(limits.c.scope == scope, limits.c.subject_id == subject_id))


async def drop_all_of(connection: AsyncConnection, user_id: int) -> int:
    """Take the limits of a user and of the user's keys away; of how many there were."""
    own = select(keys.c.id).where(keys.c.user_id == user_id)
    key = and_(limits.c.scope == "key", limits.c.subject_id.in_(own))
    user = and_(limits.c.scope == "user", limits.c.subject_id == user_id)
    return (await connection.execute(delete(limits).where(or_(key, user)))).rowcount


async def hand_on(connection: AsyncConnection, key_id: int, heir_id: int) -> None:
    """Give the limits of a key to the one that takes its place as well."""
    values = [limits.c[name] for name in (*BUDGETS, *RATES)]
    mine = select(limits.c.scope, literal(heir_id), *values).where(
        limits.c.scope == "key", limits.c.subject_id == key_id
    )
    names = ["scope", "subject_id", *BUDGETS, *RATES]
    await connection.execute(insert(limits).from_select(names, mine))


async def find_relief(connection: AsyncConnection, allowance: Allowance, need: int) -> timedelta | None:
    """How long until so many of the tokens that were charged are no longer of the last minute; None: never so many."""
    entry = ledger_entries.c
    spoken: Any = sum((entry[name] for name in TOKENS[1:]), start=entry[TOKENS[0]])
    gone = func.sum(spoken).over(order_by=(entry.created_at, entry.user_id, entry.id)).label("gone")
    recent = select(entry.created_at, gone).where(entry.created_at > later(-MINUTE))
    if allowance.scope != "all":
        recent = recent.where(entry[f"{allowance.scope}_id"] == allowance.subject_id)
    entries = recent.subquery()
    query = select(entries.c.created_at, now()).where(entries.c.gone >= need).order_by(entries.c.gone).limit(1)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    charged, clock = row
    left: timedelta = charged + timedelta(seconds=MINUTE) - clock
    return left


async def sweep_holds(connection: AsyncConnection) -> None:
    """Put off the expiry of holds whose completion runs, settle those that nobody will, and forget old ones."""
    running = select(completions.c.id).where(SAME, completions.c.finished_at.is_(None)).exists()
    ended = select(completions.c.id).where(SAME, completions.c.finished_at.is_not(None)).exists()
    soon = holds.c.expires_at < later(HOLD_SECONDS / 2)
    await connection.execute(update(holds).where(OPEN, soon, running).values(expires_at=later(HOLD_SECONDS)))
    # Finished by a worker of an earlier version, which settles nothing; or expired.
    over = or_(ended, holds.c.expires_at < now())
    await connection.execute(update(holds).where(OPEN, over).values(settled_at=now()))
    old = select(holds.c.user_id, holds.c.completion_id).where(~OPEN, holds.c.created_at < later(-2 * MINUTE))
    name = tuple_(holds.c.user_id, holds.c.completion_id)
    await connection.execute(delete(holds).where(name.in_(old.limit(1000))))
