"""Copies of a branch in another conversation of the same user."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, insert, literal, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.recordset import encode, recordset
from service.db.tables import messages
from service.db.types import Id

# What a copy keeps of its original. Which completion made that is the original's to tell.
KEPT = ("role", "content", "parts", "reasoning", "status", "model", "metadata", "created_at")
PLACE = ("id", "parent_id", "line_id", "depth")


async def copy_messages(
    connection: AsyncConnection, user_id: int, conversation_id: int, *, places: Sequence[dict[str, Any]]
) -> int:
    """Copy messages into a conversation; return how many. `places` have id, parent_id, line_id, depth, `original`."""
    original: Column[int] = Column("original", BigInteger)
    shape = [Column("id", Id), *(messages.c[name] for name in PLACE[1:]), original]
    rows = recordset(connection.dialect.name, "places", *shape)
    values = {
        **{name: rows.c[name] for name in PLACE},
        **{name: messages.c[name] for name in KEPT},
        "user_id": literal(user_id, Id),
        "conversation_id": literal(conversation_id, Id),
        "completion_id": null(),
    }
    same = (messages.c.user_id == user_id) & (messages.c.id == rows.c.original)
    chosen = select(*(value.label(name) for name, value in values.items())).join_from(rows, messages, same)
    copied = insert(messages).from_select(list(values), chosen, include_defaults=False).returning(messages.c.id)
    return len((await connection.execute(copied, {"places": encode(places)})).all())
