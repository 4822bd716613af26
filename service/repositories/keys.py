"""Keys: their hashes and what they may do."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import keys, users
from service.db.types import now
from service.domain.paging import Ask, Page
from service.repositories.paging import Pager, Sort

SHOWN = [column for column in keys.c if column.name != "hash"]
_live = keys.c.revoked_at.is_(None) & or_(keys.c.expires_at.is_(None), keys.c.expires_at > now())


async def find_credentials(connection: AsyncConnection, key_id: int) -> Row[Any] | None:
    """What a key is verified by, whoever owns it: id, user_id, kind, scopes, hash, live, role, disabled."""
    query = (
        select(
            keys.c.id, keys.c.user_id, keys.c.kind, keys.c.scopes, keys.c.hash, keys.c.expires_at, _live.label("live"),
            users.c.role, users.c.disabled,
        )
        .join(users, users.c.id == keys.c.user_id)
        .where(keys.c.id == key_id)
    )  # fmt: skip
    return (await connection.execute(query)).first()


async def find_role(connection: AsyncConnection, user_id: int) -> str | None:
    """The role of a key's owner-to-be."""
    return (await connection.execute(select(users.c.role).where(users.c.id == user_id))).scalar()


async def find_key(connection: AsyncConnection, user_id: int, key_id: int) -> Row[*tuple[Any, ...]] | None:
    """A key of this user, without its hash, with `live`."""
    query = select(*SHOWN, _live.label("live")).where(keys.c.user_id == user_id, keys.c.id == key_id)
    return (await connection.execute(query)).first()


async def page_keys(connection: AsyncConnection, pager: Pager, ask: Ask, *, user_id: int) -> Page[Row[Any]]:
    """A page of a user's keys, the newest first."""
    return await pager.page(
        connection,
        select(*SHOWN).where(keys.c.user_id == user_id),
        sort=[Sort(keys.c.created_at, True), Sort(keys.c.id, True)],
        ask=ask,
        scope=("keys", user_id),
    )


async def add_key(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    await connection.execute(insert(keys), dict(row))


async def edit_key(connection: AsyncConnection, user_id: int, key_id: int, values: Mapping[str, Any]) -> bool:
    """Change columns; False where there is no such key."""
    change = update(keys).where(keys.c.user_id == user_id, keys.c.id == key_id).values(dict(values))
    return (await connection.execute(change)).rowcount > 0


async def revoke_service_keys(connection: AsyncConnection, user_id: int) -> None:
    """End the keys of a user that act for others. Admin keys fall to user keys with the role by themselves."""
    where = (keys.c.user_id == user_id, keys.c.kind == "service", keys.c.revoked_at.is_(None))
    await connection.execute(update(keys).where(*where).values(revoked_at=now()))


async def revoke_key(connection: AsyncConnection, user_id: int, key_id: int) -> bool:
    """End a key now; False where there is none. The first revocation's time stays."""
    where = (keys.c.user_id == user_id, keys.c.id == key_id)
    change = update(keys).where(*where, keys.c.revoked_at.is_(None)).values(revoked_at=now())
    if (await connection.execute(change)).rowcount:
        return True
    return (await connection.execute(select(keys.c.id).where(*where))).first() is not None
