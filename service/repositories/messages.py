"""Messages: one node each of a conversation's tree."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    CTE,
    BindParameter,
    Row,
    Select,
    bindparam,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.recordset import encode, insert_rows
from service.db.tables import conversations, messages
from service.domain.history import Line
from service.domain.paging import Ask, Page
from service.domain.parts import from_json, to_json
from service.domain.tree import Place, Position
from service.repositories.paging import Pager, Sort
from service.repositories.turn_statements import MESSAGE

SHOWN = [column for column in messages.c if column.name not in ("line_id",)]


async def find_message(connection: AsyncConnection, user_id: int, message_id: int) -> Row[Any] | None:
    query = select(messages).where(messages.c.user_id == user_id, messages.c.id == message_id)
    return (await connection.execute(query)).first()


async def find_position(
    connection: AsyncConnection, user_id: int, conversation_id: int, message_id: int
) -> Position | None:
    """Where a message of this conversation stands."""
    row = (await connection.execute(POSITION, {"owner": user_id, "talk": conversation_id, "node": message_id})).first()
    return Position(row.id, row.line_id, row.depth, not row.followed) if row else None


async def read_branch(
    connection: AsyncConnection, user_id: int, conversation_id: int, *, leaf: Position, limit: int
) -> list[Row[Any]]:
    """The newest `limit` messages of the branch that ends in a leaf, oldest of them first: id, parent_id, depth, role,
    content, parts, status, completion_id."""
    low = max(0, leaf.depth - limit + 1)
    return await _read_depths(connection, user_id, conversation_id, leaf=leaf, low=low, high=leaf.depth, query=SPOKEN)


async def page_branch(
    connection: AsyncConnection,
    pager: Pager,
    ask: Ask,
    *,
    leaf: Position,
    user_id: int,
    conversation_id: int,
    recent: bool,
) -> Page[Row[Any]]:
    """A page of the branch that ends in a leaf. Raises BadCursor.

    Each depth has one message of the branch, so a page is a stretch of depths: its cost is its own length and the
    branch's turnings, wherever it lies.
    """
    scope = ("branch", user_id, conversation_id, recent)
    low, high = _stretch(ask, pager, scope, leaf=leaf, recent=recent)
    rows = await _read_depths(connection, user_id, conversation_id, leaf=leaf, low=low, high=high, query=SHOWN_OF_LINE)
    if recent:
        rows.reverse()
    below, above = low > 0, high < leaf.depth
    onward, back = (below, above) if recent else (above, below)
    return Page(
        rows,
        None if ask.cursor else leaf.depth + 1,
        0 if ask.cursor else ask.skip,
        ask.limit,
        pager.seal(scope, [rows[-1].depth], False) if rows and onward else None,
        pager.seal(scope, [rows[0].depth], True) if rows and back else None,
    )


async def page_messages(
    connection: AsyncConnection, pager: Pager, ask: Ask, *, user_id: int, conversation_id: int | None, recent: bool
) -> Page[Row[Any]]:
    """A page of all messages of a user, or of one conversation with all its branches, by time."""
    query = select(*SHOWN).where(messages.c.user_id == user_id)
    if conversation_id is not None:
        query = query.where(messages.c.conversation_id == conversation_id)
    return await pager.page(
        connection,
        query,
        sort=[Sort(messages.c.created_at, recent), Sort(messages.c.id, recent)],
        ask=ask,
        scope=("messages", user_id, conversation_id, recent),
        total=None if ask.cursor else _count(user_id, conversation_id),
    )


async def add_messages(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert messages. Raises IntegrityError where a place is taken or a parent is not there."""
    insert = insert_rows(connection.dialect.name, "rows", table=messages, names=MESSAGE)
    await connection.execute(insert, {"rows": encode(rows)})


async def edit_metadata(connection: AsyncConnection, user_id: int, message_id: int, metadata: dict[str, Any]) -> None:
    where = (messages.c.user_id == user_id, messages.c.id == message_id)
    await connection.execute(update(messages).where(*where).values(metadata=metadata))


def row_of(user_id: int, conversation_id: int, where: Place, line: Line) -> dict[str, Any]:
    """A complete message at its place, as the inserts take it."""
    return {
        **where._asdict(),
        "user_id": user_id,
        "conversation_id": conversation_id,
        "role": line.role,
        "content": line.content,
        "parts": to_json(line.parts),
        "status": "completed",
        "model": None,
        "completion_id": None,
        "metadata": {},
    }


def line_of(row: Row[Any]) -> Line:
    """A message as models read it."""
    return Line(row.role, row.content, from_json(row.parts))


def _branch_lines() -> CTE:
    """The stretches of lines from a leaf to its root, with bound `owner`, `talk` and `leaf`.

    Each has line_id, low and high (depths, inclusive), and parent_id, the message that the line branched off from.
    """
    owner: BindParameter[int] = bindparam("owner")
    talk: BindParameter[int] = bindparam("talk")
    leaf, head = messages.alias("leaf"), messages.alias("head")
    fork, origin = messages.alias("fork"), messages.alias("origin")
    lines = (
        select(leaf.c.line_id, head.c.depth.label("low"), leaf.c.depth.label("high"), head.c.parent_id)
        .join_from(leaf, head, (head.c.user_id == leaf.c.user_id) & (head.c.id == leaf.c.line_id))
        .where(leaf.c.user_id == owner, leaf.c.conversation_id == talk, leaf.c.id == bindparam("leaf"))
        .cte("lines", recursive=True)
    )
    return lines.union_all(
        select(fork.c.line_id, origin.c.depth, fork.c.depth, origin.c.parent_id)
        .join_from(lines, fork, (fork.c.user_id == owner) & (fork.c.id == lines.c.parent_id))
        .join(origin, (origin.c.user_id == fork.c.user_id) & (origin.c.id == fork.c.line_id))
    )


def _stretch(ask: Ask, pager: Pager, scope: Sequence[object], *, leaf: Position, recent: bool) -> tuple[int, int]:
    """The depths that are asked for, both inclusive. A cursor names a depth, which no later message changes."""
    if ask.cursor:
        (depth,), backwards = pager.open(scope, ask.cursor)
        down = recent != backwards
        low, high = (depth - ask.limit, depth - 1) if down else (depth + 1, depth + ask.limit)
    elif recent:
        high = leaf.depth - ask.skip
        low = high - ask.limit + 1
    else:
        low, high = ask.skip, ask.skip + ask.limit - 1
    return max(low, 0), min(high, leaf.depth)


async def _read_depths(
    connection: AsyncConnection, owner: int, talk: int, *, leaf: Position, low: int, high: int, query: Select[Any]
) -> list[Row[Any]]:
    """The branch's messages at these depths, inclusive, in order.

    One statement finds the branch's lines, and one for each that has a part in this reads a range of the unique index:
    joined into one, Postgres would rather read the whole talk.
    """
    if low > high:
        return []
    names = {"owner": owner, "talk": talk}
    lines = await connection.execute(LINES, names | {"leaf": leaf.id})
    parts = [(line.line_id, max(low, line.low), min(high, line.high)) for line in lines]
    rows: list[Row[Any]] = []
    for line_id, first, last in sorted((part for part in parts if part[1] <= part[2]), key=itemgetter(1)):
        rows += await connection.execute(query, names | {"line": line_id, "first": first, "last": last})
    return rows


def _of_line(*columns: Any) -> Select[Any]:
    """A range of one line, with bound `owner`, `talk`, `line`, `first` and `last`."""
    here = (
        messages.c.user_id == bindparam("owner"),
        messages.c.conversation_id == bindparam("talk"),
        messages.c.line_id == bindparam("line"),
        messages.c.depth.between(bindparam("first"), bindparam("last")),
    )
    return select(*columns).where(*here).order_by(messages.c.depth)


def _count(user_id: int, conversation_id: int | None) -> Select[Any]:
    """How many messages there are, from the conversations' own counts."""
    counts = select(func.coalesce(func.sum(conversations.c.message_count), 0)).where(conversations.c.user_id == user_id)
    return counts if conversation_id is None else counts.where(conversations.c.id == conversation_id)


def _position() -> Select[Any]:
    after = messages.alias("after")
    followed = exists().where(
        after.c.user_id == messages.c.user_id,
        after.c.conversation_id == messages.c.conversation_id,
        after.c.line_id == messages.c.line_id,
        after.c.depth == messages.c.depth + 1,
    )
    return select(messages.c.id, messages.c.line_id, messages.c.depth, followed.label("followed")).where(
        messages.c.user_id == bindparam("owner"),
        messages.c.conversation_id == bindparam("talk"),
        messages.c.id == bindparam("node"),
    )


# Built once: building costs more than running.
LINES = select(_branch_lines())
SPOKEN = _of_line(
    messages.c.id,
    messages.c.parent_id,
    messages.c.depth,
    messages.c.role,
    messages.c.content,
    messages.c.parts,
    messages.c.status,
    messages.c.completion_id,
)
SHOWN_OF_LINE = _of_line(*SHOWN)
POSITION = _position()
