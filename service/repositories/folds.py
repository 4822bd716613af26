"""Journals that are over for long: which are due, their rows, and folding them; see turns/folds.py."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    literal_column,
    null,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.fold_tables import folded_until
from service.db.recordset import encode, recordset, upsert
from service.db.tables import completions, events, messages
from service.db.types import EPOCH, Id, Instant, later
from service.domain.folds import Fold, Kept, Stored

Name = tuple[int, int]
NOUN = "journals"
FOLDED = ("user_id", "completion_id", "seq", "last_seq", "data", "spans")


class Place(NamedTuple):
    """The last completion that was looked at."""

    created_at: datetime
    completion_id: int


# Written so, a completion is held; and who sees one moment only, from before that was committed, fails at it and is
# done again.
UNCHANGED = {completions.c.epoch: completions.c.epoch}
START = Place(EPOCH, 0)


class Due(NamedTuple):
    """A completion. `over` for long enough; `forlorn`: it was begun so long ago that nobody waits for that."""

    user_id: int
    id: int
    created_at: datetime
    stored: bool
    over: bool
    forlorn: bool

    @property
    def name(self) -> Name:
        """The completion's (user_id, id)."""
        return self.user_id, self.id

    @property
    def place(self) -> Place:
        return Place(self.created_at, self.id)


async def read_place(connection: AsyncConnection) -> Place:
    """How far journals are folded."""
    query = select(folded_until.c.created_at, folded_until.c.completion_id).where(folded_until.c.noun == NOUN)
    row = (await connection.execute(query)).first()
    return Place(*row) if row else START


async def list_due(
    connection: AsyncConnection, place: Place, *, seconds: float, patience: float, most: int
) -> list[Due]:
    """The next completions after a place, in their order, that were begun so many seconds ago."""
    here = completions.c
    last = tuple_(literal(place.created_at, Instant), literal(place.completion_id, Id))
    over = func.coalesce(here.finished_at < later(-seconds), literal_column("false"))
    forlorn = here.created_at < later(-seconds - patience)
    query = (
        select(here.user_id, here.id, here.created_at, here.stored, over.label("over"), forlorn.label("forlorn"))
        .where(tuple_(here.created_at, here.id) > last, here.created_at < later(-seconds))
        .order_by(here.created_at, here.id)
        .limit(most)
    )
    return [Due(*row[:3], *map(bool, row[3:])) for row in await connection.execute(query)]


async def read_kept(connection: AsyncConnection, user_id: int, completion_id: int) -> Kept | None:
    """What the message of a stored completion holds; None where it is gone."""
    mine = (completions.c.user_id == user_id, completions.c.id == completion_id, completions.c.stored)
    same = (messages.c.user_id == completions.c.user_id) & (messages.c.id == completions.c.message_id)
    query = select(messages.c.content, messages.c.reasoning).join_from(completions, messages, same).where(*mine)
    row = (await connection.execute(query)).first()
    return Kept(row.content, row.reasoning or "") if row else None


async def list_rows(connection: AsyncConnection, user_id: int, completion_id: int) -> list[Stored]:
    """The journal of a completion, in order."""
    values = {"owner": user_id, "turn": completion_id}
    found: str | None = (await connection.execute(_journal(connection.dialect.name), values)).scalar()
    return sorted(Stored(*row) for row in json.loads(found or "[]"))


async def move(connection: AsyncConnection, before: Place, after: Place) -> bool:
    """Go on to another place; False where somebody else did."""
    here = folded_until.c
    at = (here.noun == NOUN, here.created_at == before.created_at, here.completion_id == before.completion_id)
    moved = await connection.execute(update(folded_until).where(*at).values(after._asdict()))
    if not moved.rowcount and before == START:
        first = upsert(connection.dialect.name, folded_until).values(noun=NOUN, **after._asdict())
        moved = await connection.execute(first.on_conflict_do_nothing())
    return moved.rowcount == 1


async def write_folds(connection: AsyncConnection, folds: Iterable[tuple[Name, Fold]]) -> None:
    """Put folded rows in the place of others, for completions that nobody erases, and whose message nobody deletes.

    Whoever does that holds the completion first, as this does. The rest of the journal stays, so that some of its rows
    may be folded now and others later.
    """
    statements, chosen = _statements(connection.dialect.name), list(folds)
    names = [{"user_id": name[0], "id": name[1]} for name in {name for name, _ in chosen}]
    held = {tuple(row) for row in await connection.execute(statements["held"], {"names": encode(names)})}
    mine = [
        {"user_id": name[0], "completion_id": name[1], **one._asdict(), "spans": list(one.spans)}
        for name, one in chosen
        if name in held
    ]
    if not mine:
        return
    made = await connection.execute(statements["folded"], {"folds": encode(mine)})
    if gone := [row._asdict() for row in made if row.last > row.first]:
        await connection.execute(statements["replaced"], gone)


async def keep_said(connection: AsyncConnection, user_id: int, message_ids: Sequence[int]) -> None:
    """Have folded journals keep the text of messages that are going to be deleted in this transaction.

    Turns that run are not held: what they write would wait for it, and with it what others of their worker write.
    """
    of = select(messages.c.completion_id).where(messages.c.user_id == user_id, messages.c.id.in_(message_ids))
    over = (completions.c.user_id == user_id, completions.c.id.in_(of), completions.c.finished_at.is_not(None))
    held = update(completions).where(*over).values(UNCHANGED).returning(completions.c.id)
    turns = list((await connection.execute(held)).scalars())
    if turns:
        own = (completions.c.user_id == events.c.user_id, completions.c.id == events.c.completion_id)
        folded = (events.c.user_id == user_id, events.c.completion_id.in_(turns), events.c.spans.is_not(null()))
        kept = update(events).where(*own, *folded, events.c.said.is_(None)).values(said=_part_of_message())
        await connection.execute(kept)


def said_of_row() -> ColumnElement[str | None]:
    """The text of a folded row, in a statement with its completion; null for another, for which nothing is looked up.

    It is read with the row: no fold, and no deletion, can come between.
    """
    return case((events.c.spans.is_(null()), null()), else_=func.coalesce(events.c.said, _part_of_message()))


def _part_of_message() -> ColumnElement[str]:
    """What a folded row tells, out of its completion's message."""
    text_at, text_size, thought_at, thought_size = (events.c.spans[number].as_integer() for number in range(4))
    one: ColumnElement[int] = literal_column("1")
    text = func.substr(messages.c.content, text_at + one, text_size)
    thought = func.substr(messages.c.reasoning, thought_at + one, thought_size)
    same = (messages.c.user_id == completions.c.user_id, messages.c.id == completions.c.message_id)
    return select(text.concat(func.coalesce(thought, literal_column("''")))).where(*same).scalar_subquery()


@lru_cache
def _journal(dialect: str) -> Select[str]:
    """All rows as one JSON list: journals have hundreds of short ones, and each has its price on the way here."""
    postgres = dialect == "postgresql"
    listed, array = (func.json_agg, func.json_build_array) if postgres else (func.json_group_array, func.json_array)
    row = events.c
    spans = row.spans if postgres else func.json(row.spans)
    mine = (row.user_id == bindparam("owner", type_=Id), row.completion_id == bindparam("turn", type_=Id))
    return select(cast(listed(array(row.seq, row.last_seq, row.data, spans, row.said)), Text)).where(*mine)


@lru_cache
def _statements(dialect: str) -> dict[str, Any]:
    names = recordset(dialect, "names", completions.c.user_id, completions.c.id)
    named = (completions.c.user_id == names.c.user_id) & (completions.c.id == names.c.id)
    free = (
        select(completions.c.user_id, completions.c.id)
        .join_from(names, completions, named)
        .where(completions.c.stored)
        .with_for_update(of=completions, skip_locked=True, key_share=True)
    )
    held = (
        update(completions)
        .where(tuple_(completions.c.user_id, completions.c.id).in_(free))
        .values(UNCHANGED)
        .returning(completions.c.user_id, completions.c.id)
    )
    rows = recordset(dialect, "folds", *(events.c[name] for name in FOLDED))
    same = (events.c[name] == rows.c[name] for name in ("user_id", "completion_id", "seq"))
    own = (completions.c.user_id == events.c.user_id, completions.c.id == events.c.completion_id)
    there = (messages.c.user_id == completions.c.user_id, messages.c.id == completions.c.message_id)
    folded = (
        update(events)
        .where(*same, events.c.spans.is_(null()), *own, *there)
        .values({name: rows.c[name] for name in ("last_seq", "data", "spans")})
        .returning(
            events.c.user_id.label("owner"),
            events.c.completion_id.label("turn"),
            events.c.seq.label("first"),
            events.c.last_seq.label("last"),
        )
    )
    replaced = delete(events).where(
        events.c.user_id == bindparam("owner", type_=Id),
        events.c.completion_id == bindparam("turn", type_=Id),
        events.c.seq > bindparam("first"),
        events.c.seq <= bindparam("last"),
    )
    return {"held": held, "folded": folded, "replaced": replaced}
