"""Conversations: a title, tags, and the active leaf of a tree of messages."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import conversation_tags, conversations
from service.db.types import now
from service.domain.filters import ConversationFilter
from service.domain.paging import Ask, Page
from service.repositories.paging import Pager, Sort

LISTED = [column for column in conversations.c if column.name != "system_prompt"]


async def find_conversation(
    connection: AsyncConnection, user_id: int, conversation_id: int, *, lock: bool = False
) -> Row[Any] | None:
    """`lock`: until the transaction's end nobody else moves its active leaf with a lock of their own."""
    query = select(conversations).where(conversations.c.user_id == user_id, conversations.c.id == conversation_id)
    query = query.with_for_update() if lock else query
    return (await connection.execute(query)).first()


async def list_tags(connection: AsyncConnection, user_id: int, ids: Sequence[int]) -> dict[int, list[str]]:
    """The tags of some conversations, sorted, in one statement; none for no conversation."""
    if not ids:
        return {}
    tags = conversation_tags.c
    query = select(tags.conversation_id, tags.tag).where(tags.user_id == user_id, tags.conversation_id.in_(ids))
    found: dict[int, list[str]] = {}
    for conversation_id, tag in await connection.execute(query.order_by(tags.tag)):
        found.setdefault(conversation_id, []).append(tag)
    return found


async def page_conversations(
    connection: AsyncConnection, pager: Pager, ask: Ask, *, user_id: int, chosen: ConversationFilter
) -> Page[Row[Any]]:
    """A page of a user's conversations without their content."""
    columns = conversations.c
    query = _choose(select(*LISTED).where(columns.user_id == user_id), chosen)
    sorts = {
        "recent": [Sort(columns.active_at, True), Sort(columns.id, True)],
        "oldest": [Sort(columns.active_at, False), Sort(columns.id, False)],
        "title": [Sort(columns.title_key, False), Sort(columns.id, False)],
    }
    scope = ("conversations", user_id, chosen.q, chosen.tags, chosen.archived, chosen.sort)
    return await pager.page(connection, query, sort=sorts[chosen.sort], ask=ask, scope=scope)


async def add_conversation(connection: AsyncConnection, row: dict[str, Any]) -> None:
    await connection.execute(insert(conversations), row)


async def set_tags(connection: AsyncConnection, user_id: int, conversation_id: int, tags: Sequence[str]) -> None:
    """Make these the conversation's tags."""
    here = conversation_tags.c
    where = (here.user_id == user_id, here.conversation_id == conversation_id)
    await connection.execute(delete(conversation_tags).where(*where))
    if tags:
        rows = [{"user_id": user_id, "conversation_id": conversation_id, "tag": tag} for tag in sorted(set(tags))]
        await connection.execute(insert(conversation_tags), rows)


async def edit_conversation(
    connection: AsyncConnection, user_id: int, conversation_id: int, values: dict[str, Any]
) -> bool:
    """Change columns; False where there is no such conversation."""
    where = (conversations.c.user_id == user_id, conversations.c.id == conversation_id)
    result = await connection.execute(update(conversations).where(*where).values(**values, updated_at=now()))
    return result.rowcount > 0


async def rename_untouched(
    connection: AsyncConnection, user_id: int, conversation_id: int, before: str | None, values: dict[str, Any]
) -> bool:
    """Give a conversation another title (title, title_key) where it still has the one `before`."""
    where = (conversations.c.user_id == user_id, conversations.c.id == conversation_id)
    change = update(conversations).where(*where, conversations.c.title.is_not_distinct_from(before))
    return (await connection.execute(change.values(**values, updated_at=now()))).rowcount > 0


async def move_leaf(
    connection: AsyncConnection, user_id: int, conversation_id: int, *, leaf_id: int | None, added: int
) -> bool:
    """Make a message the active leaf and count those added (or removed); False where there is no such conversation."""
    where = (conversations.c.user_id == user_id, conversations.c.id == conversation_id)
    change = (
        update(conversations)
        .where(*where)
        .values(active_leaf_id=leaf_id, message_count=conversations.c.message_count + added, active_at=now())
    )
    return (await connection.execute(change)).rowcount > 0


def _choose(query: Select[Any], chosen: ConversationFilter) -> Select[Any]:
    columns = conversations.c
    if chosen.archived is not None:
        query = query.where(columns.archived == chosen.archived)
    if chosen.q:
        query = query.where(columns.title_key.contains(chosen.q.casefold(), autoescape=True))
    for tag in chosen.tags:
        tags = conversation_tags.alias()
        query = query.where(
            exists().where(tags.c.user_id == columns.user_id, tags.c.conversation_id == columns.id, tags.c.tag == tag)
        )
    return query
