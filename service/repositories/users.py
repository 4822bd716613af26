"""Users: accounts, their tags, and what erasing one removes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, delete, exists, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.all_tables import metadata
from service.db.tables import ledger_entries, user_tags, users
from service.db.types import now
from service.domain.paging import Ask, Page
from service.repositories.limits import drop_all_of
from service.repositories.paging import Pager, Sort
from service.repositories.removals import delete_all

SEARCHED = text("SELECT count(*) FROM search_documents WHERE user_id = :user_id")
UNIQUE = ("username_key", "email_key", "external_id")
# What belongs to a user goes with the user's row, by foreign keys.
OWNED = [table for table in metadata.sorted_tables if "user_id" in table.c and table.foreign_keys]


async def find_user(connection: AsyncConnection, user_id: int) -> Row[Any] | None:
    return (await connection.execute(select(users).where(users.c.id == user_id))).first()


async def lock_user(connection: AsyncConnection, user_id: int) -> Row[Any] | None:
    """The user's row, held until the transaction ends."""
    return (await connection.execute(select(users).where(users.c.id == user_id).with_for_update())).first()


async def find_external(connection: AsyncConnection, external_id: str) -> Row[Any] | None:
    return (await connection.execute(select(users).where(users.c.external_id == external_id))).first()


async def find_named(connection: AsyncConnection, username_key: str) -> Row[Any] | None:
    return (await connection.execute(select(users).where(users.c.username_key == username_key))).first()


async def any_user(connection: AsyncConnection) -> bool:
    return (await connection.execute(select(users.c.id).limit(1))).first() is not None


async def find_taken(connection: AsyncConnection, values: Mapping[str, Any], but: int | None) -> str | None:
    """The first of UNIQUE whose value another user has, or None."""
    wanted = {name: values[name] for name in UNIQUE if values.get(name) is not None}
    if not wanted:
        return None
    query = select(*(users.c[name] for name in UNIQUE)).where(or_(*(users.c[n] == v for n, v in wanted.items())))
    rows = [row._mapping for row in await connection.execute(query if but is None else query.where(users.c.id != but))]
    return next((name for name, value in wanted.items() if any(row[name] == value for row in rows)), None)


async def list_tags(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, list[str]]:
    """The tags of some users, sorted, in one statement; none for no user."""
    if not ids:
        return {}
    query = select(user_tags.c.user_id, user_tags.c.tag).where(user_tags.c.user_id.in_(ids)).order_by(user_tags.c.tag)
    found: dict[int, list[str]] = {}
    for user_id, tag in await connection.execute(query):
        found.setdefault(user_id, []).append(tag)
    return found


async def page_users(
    connection: AsyncConnection, pager: Pager, ask: Ask, *, tags: Sequence[str], q: str | None
) -> Page[Row[Any]]:
    """A page of the users who have all the tags, and `q` (case folded) in their name or address, the newest first."""
    return await pager.page(
        connection,
        _choose(select(users), tags, q),
        sort=[Sort(users.c.created_at, True), Sort(users.c.id, True)],
        ask=ask,
        scope=("users", tuple(tags), q),
    )


async def add_user(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Raises IntegrityError where a name, an address or an external id is taken."""
    await connection.execute(insert(users), dict(row))


async def edit_user(connection: AsyncConnection, user_id: int, values: Mapping[str, Any]) -> bool:
    """Change columns; False where there is no such user. Raises IntegrityError as `add_user`."""
    change = update(users).where(users.c.id == user_id).values(**values, updated_at=now())
    return (await connection.execute(change)).rowcount > 0


async def set_tags(connection: AsyncConnection, user_id: int, tags: Sequence[str]) -> None:
    """Make these the user's tags."""
    await connection.execute(delete(user_tags).where(user_tags.c.user_id == user_id))
    if tags:
        await connection.execute(insert(user_tags), [{"user_id": user_id, "tag": tag} for tag in sorted(set(tags))])


async def lock_admins(connection: AsyncConnection) -> list[int]:
    """The numbers of the admins who are not disabled, held until the transaction ends; their turns go on meanwhile."""
    query = select(users.c.id).where(users.c.role == "admin", users.c.disabled.is_(False)).order_by(users.c.id)
    return list((await connection.execute(query.with_for_update(key_share=True))).scalars())


async def erase_user(connection: AsyncConnection, user_id: int) -> dict[str, int]:
    """Delete a user and all that they own; how many rows of each table went, and how many ledger entries stay."""
    counts: dict[str, int] = {}
    for table in (*OWNED, ledger_entries):
        query = select(func.count()).select_from(table).where(table.c.user_id == user_id)
        counts[table.name] = (await connection.execute(query)).scalar_one()
    counts["limits"] = await drop_all_of(connection, user_id)
    counts["search_documents"] = (await connection.execute(SEARCHED, {"user_id": user_id})).scalar_one()
    await delete_all(connection, user_id)
    await connection.execute(delete(users).where(users.c.id == user_id))
    return counts


def _choose(query: Select[Any], tags: Sequence[str], q: str | None) -> Select[Any]:
    for tag in tags:
        has = user_tags.alias()
        query = query.where(exists().where(has.c.user_id == users.c.id, has.c.tag == tag))
    if q:
        named = users.c.username_key.contains(q, autoescape=True)
        query = query.where(or_(named, users.c.email_key.contains(q, autoescape=True)))
    return query
