"""A user's rows as an export reads them: page after page by key, each page short in rows and in text."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Row, Select, Table, bindparam, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.import_tables import imports
from service.db.tables import (
    attempts,
    completions,
    conversations,
    keys,
    ledger_entries,
    messages,
)
from service.db.types import EPOCH, Instant
from service.repositories.completions import SHOWN

Record = Row[*tuple[Any, ...]]
MOST_ROWS = 500
# Of one page's text; a page has one row at least, whose text may be longer.
MOST_CHARACTERS = 2_000_000


class Mark(NamedTuple):
    """The last row that was read. Messages are read by time, and by number where times are equal."""

    created_at: datetime
    id: int


START = Mark(EPOCH, 0)


async def list_conversations(connection: AsyncConnection, user_id: int, after: int) -> list[Record]:
    """The next conversations by number, with the source and the name that they were imported under."""
    here = conversations.c
    origin = (imports.c.user_id == here.user_id) & (imports.c.conversation_id == here.id)
    query = (
        select(conversations, imports.c.source, imports.c.source_id)
        .outerjoin(imports, origin)
        .where(here.user_id == user_id, here.id > after)
        .order_by(here.id)
    )
    return list(await connection.execute(query.limit(20)))


async def list_messages(
    connection: AsyncConnection, user_id: int, conversation_id: int, *, after: Mark
) -> list[Record]:
    """The next messages by time, each with what its parent is called."""
    values = {"owner": user_id, "talk": conversation_id, "moment": after.created_at, "number": after.id}
    return list(await connection.execute(_messages(connection.dialect.name), values))


async def list_children(connection: AsyncConnection, user_id: int, parents: Sequence[int]) -> list[Record]:
    """The children of some messages: their parent, and what they are called, in the order of their siblings."""
    here = messages.c
    query = select(here.parent_id, here.id, here.source_id, here.created_at)
    query = query.where(here.user_id == user_id, here.parent_id.in_(parents)).order_by(here.created_at, here.id)
    return list(await connection.execute(query))


async def list_roots(connection: AsyncConnection, user_id: int, conversation_id: int) -> list[Record]:
    """The messages without a parent, as `list_children`."""
    here = messages.c
    where = (here.user_id == user_id, here.conversation_id == conversation_id, here.line_id == here.id)
    query = select(here.parent_id, here.id, here.source_id, here.created_at).where(*where, here.depth == 0)
    return list(await connection.execute(query.order_by(here.created_at, here.id)))


async def find_name(connection: AsyncConnection, user_id: int, message_id: int) -> Record | None:
    """What a message is called, as `list_children`."""
    here = messages.c
    query = select(here.parent_id, here.id, here.source_id, here.created_at)
    return (await connection.execute(query.where(here.user_id == user_id, here.id == message_id))).first()


async def list_keys(connection: AsyncConnection, user_id: int, after: int) -> list[Record]:
    """The next keys, without their hashes."""
    shown = [column for column in keys.c if column.name not in ("hash", "user_id")]
    return await _by_number(connection, keys, user_id, shown=shown, after=after)


async def list_completions(connection: AsyncConnection, user_id: int, after: int) -> list[Record]:
    """The next completions without their text, each with the moment of the message that holds it."""
    here = completions.c
    answer = (messages.c.user_id == here.user_id) & (messages.c.id == here.message_id)
    query = select(*SHOWN, messages.c.created_at.label("answered_at")).outerjoin_from(completions, messages, answer)
    query = query.where(here.user_id == user_id, here.id > after).order_by(here.id)
    return list(await connection.execute(query.limit(MOST_ROWS)))


async def list_attempts(connection: AsyncConnection, user_id: int, ids: Sequence[int]) -> list[Record]:
    """All attempts of some completions."""
    here = attempts.c
    query = select(attempts).where(here.user_id == user_id, here.completion_id.in_(ids))
    return list(await connection.execute(query.order_by(here.completion_id, here.number)))


async def list_entries(connection: AsyncConnection, user_id: int, after: int) -> list[Record]:
    shown = list(ledger_entries.c)
    return await _by_number(connection, ledger_entries, user_id, shown=shown, after=after)


async def _by_number(
    connection: AsyncConnection, table: Table, user_id: int, *, shown: Sequence[Any], after: int
) -> list[Record]:
    query = select(*shown).where(table.c.user_id == user_id, table.c.id > after).order_by(table.c.id)
    return list(await connection.execute(query.limit(MOST_ROWS)))


@lru_cache
def _messages(dialect: str) -> Select[Any]:
    """A page with bound `owner`, `talk`, `moment` and `number`.

    The inner query looks only at how long the rows are, and cuts the page where it has enough text: so the longest
    messages do not make the largest page.
    """
    here, parent = messages.c, messages.alias("parent")
    length = func.octet_length if dialect == "postgresql" else func.length
    order = (here.created_at, here.id)
    size = (length(here.content) + func.coalesce(length(here.reasoning), 0)).label("size")
    beyond = tuple_(*order) > tuple_(bindparam("moment", type_=Instant), bindparam("number", type_=BigInteger))
    where = (here.user_id == bindparam("owner"), here.conversation_id == bindparam("talk"), beyond)
    page = select(here.id, here.created_at, size).where(*where).order_by(*order).limit(MOST_ROWS).subquery("page")
    so_far = func.sum(page.c.size).over(order_by=(page.c.created_at, page.c.id)) - page.c.size
    cut = select(page.c.id, so_far.label("so_far")).subquery("cut")
    up = (parent.c.user_id == here.user_id) & (parent.c.id == here.parent_id)
    return (
        select(messages, parent.c.source_id.label("parent_name"), parent.c.created_at.label("parent_created_at"))
        .join(cut, here.id == cut.c.id)
        .outerjoin(parent, up)
        .where(here.user_id == bindparam("owner"), cut.c.so_far < MOST_CHARACTERS)
        .order_by(*order)
    )
