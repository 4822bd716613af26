"""Deletions of what may be large, in statements that are not: one that ran for too long would be ended, every time."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, delete, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import completions, conversations, messages
from service.repositories.folds import keep_said

# Messages or completions of one statement, with all that goes with them.
AT_ONCE = 5_000
TALKS_AT_ONCE = 50


async def delete_conversation(connection: AsyncConnection, user_id: int, conversation_id: int) -> bool:
    """Delete a conversation with its messages, completions and events; False where there is none."""
    return await _delete_talks(connection, user_id, [conversations.c.id == conversation_id]) > 0


async def delete_all(connection: AsyncConnection, user_id: int) -> None:
    """Delete a user's conversations, and the completions that were not to be stored in one."""
    while await _delete_talks(connection, user_id, []):
        pass
    await _delete_completions(connection, user_id)


async def delete_subtree(connection: AsyncConnection, user_id: int, message_id: int) -> int:
    """Delete a message and all that follows it; return how many."""
    doomed = list((await connection.execute(_subtree(connection.dialect.name, user_id, message_id))).scalars())
    for start in range(0, len(doomed), AT_ONCE):
        await keep_said(connection, user_id, doomed[start : start + AT_ONCE])
    await _delete_messages(connection, user_id, doomed)
    return len(doomed)


def _subtree(dialect: str, user_id: int, message_id: int) -> Select[int]:
    """A message and all that follows it, the deepest first.

    Postgres looks the children of one message up at a time: just after an import, without statistics, it would compare
    every message with every other.
    """
    here = (messages.c.id, messages.c.depth)
    tree = select(*here).where(messages.c.user_id == user_id, messages.c.id == message_id).cte(recursive=True)
    child = messages.alias()
    below = select(child.c.id, child.c.depth).where(child.c.user_id == user_id, child.c.parent_id == tree.c.id)
    if dialect == "postgresql":
        # The OFFSET keeps it from being made one with the rest.
        each = below.correlate(tree).offset(0).lateral("below")
        below = select(each.c.id, each.c.depth).select_from(tree.join(each, true()))
    tree = tree.union_all(below)
    return select(tree.c.id).order_by(tree.c.depth.desc())


async def _delete_talks(connection: AsyncConnection, user_id: int, where: list[ColumnElement[bool]]) -> int:
    """Delete some of a user's conversations; → how many. They are held first: nobody writes in them any more."""
    mine = (conversations.c.user_id == user_id, *where)
    query = select(conversations.c.id, conversations.c.message_count).where(*mine).order_by(conversations.c.id)
    found = list(await connection.execute(query.limit(TALKS_AT_ONCE).with_for_update()))
    some: list[int] = []
    size = 0
    for talk in found:
        if some and size + talk.message_count > AT_ONCE:
            await _delete_together(connection, user_id, some)
            some, size = [], 0
        if talk.message_count > AT_ONCE:
            await _empty(connection, user_id, talk.id)
        some.append(talk.id)
        size += min(talk.message_count, AT_ONCE)
    await _delete_together(connection, user_id, some)
    return len(found)


async def _delete_together(connection: AsyncConnection, user_id: int, talks: Sequence[int]) -> None:
    mine = (conversations.c.user_id == user_id, conversations.c.id.in_(talks))
    await connection.execute(delete(conversations).where(*mine))


async def _empty(connection: AsyncConnection, user_id: int, conversation_id: int) -> None:
    """Delete the completions and messages of a large conversation."""
    await _delete_completions(connection, user_id, completions.c.conversation_id == conversation_id)
    query = select(messages.c.id).where(messages.c.user_id == user_id, messages.c.conversation_id == conversation_id)
    await _delete_messages(
        connection, user_id, list((await connection.execute(query.order_by(messages.c.depth.desc()))).scalars())
    )


async def _delete_messages(connection: AsyncConnection, user_id: int, ids: Sequence[int]) -> None:
    """Delete messages that are given children first: the database refuses to let go of a parent before."""
    for start in range(0, len(ids), AT_ONCE):
        some = messages.c.id.in_(ids[start : start + AT_ONCE])
        await connection.execute(delete(messages).where(messages.c.user_id == user_id, some))


async def _delete_completions(connection: AsyncConnection, user_id: int, *where: ColumnElement[bool]) -> None:
    mine = completions.c.user_id == user_id
    query = select(completions.c.id).where(mine, *where).limit(AT_ONCE)
    while some := list((await connection.execute(query)).scalars()):
        # By their numbers alone: of two ways to find them Postgres may take the longer one.
        await connection.execute(delete(completions).where(mine, completions.c.id.in_(some)))
