"""Idempotency keys that requests came with, and what came of them."""

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.claim_tables import claims
from service.db.types import later
from service.repositories.events import Record
from service.repositories.turns import Row


async def find_claim(connection: AsyncConnection, user_id: int, key: str) -> Record | None:
    query = select(claims).where(claims.c.user_id == user_id, claims.c.key == key)
    return (await connection.execute(query)).first()


async def add_claim(connection: AsyncConnection, row: Row) -> None:
    """Raises IntegrityError where the key was used before."""
    await connection.execute(insert(claims), dict(row))


async def forget_user(connection: AsyncConnection, user_id: int) -> int:
    """Forget the answers that hold an account: they are kept with the admins' keys, who made it."""
    account = claims.c.answer.startswith(f'{{"id":{user_id},"username":', autoescape=True)
    return (await connection.execute(update(claims).where(account).values(answer=None))).rowcount


async def purge_claims(connection: AsyncConnection, *, hours: int) -> None:
    """Forget the keys that are older."""
    await connection.execute(delete(claims).where(claims.c.created_at < later(-3600 * hours)))
