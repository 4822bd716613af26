"""Completions as records: what was asked, how it went, what it used."""

from typing import Any

from sqlalchemy import ColumnElement, Row, delete, exists, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import attempts, completions, events, ledger_entries, messages
from service.domain.filters import CompletionFilter
from service.domain.paging import Ask, Page
from service.repositories.paging import Pager, Sort

HIDDEN = ("worker", "epoch", "lease_expires_at")
SHOWN = [column for column in completions.c if column.name not in HIDDEN]


async def page_completions(
    connection: AsyncConnection, pager: Pager, ask: Ask, chosen: CompletionFilter
) -> Page[Row[Any]]:
    """A page of completions without their text."""
    columns = completions.c
    query = select(*SHOWN)
    names = ("user_id", "model", "provider", "status", "temperature", "max_tokens", "conversation_id")
    for name in names:
        if (value := getattr(chosen, name)) is not None:
            query = query.where(columns[name] == value)
    if chosen.since:
        query = query.where(columns.created_at >= chosen.since)
    if chosen.until:
        query = query.where(columns.created_at < chosen.until)
    scope = ("completions", *(str(getattr(chosen, name)) for name in CompletionFilter.__slots__))
    sort = [Sort(columns.created_at, chosen.recent), Sort(columns.id, chosen.recent)]
    return await pager.page(connection, query, sort=sort, ask=ask, scope=scope)


async def find_record(connection: AsyncConnection, user_id: int | None, completion_id: int) -> Row[Any] | None:
    """A completion without its text, of one user or, for an admin, of anyone."""
    return (await connection.execute(select(*SHOWN).where(*_named(user_id, completion_id)))).first()


async def find_completion(
    connection: AsyncConnection, user_id: int | None, completion_id: int
) -> tuple[Row[*tuple[Any, ...]], str | None, str | None] | None:
    """A completion with its text and reasoning, of one user or, for an admin, of anyone."""
    answer = (messages.c.user_id == completions.c.user_id) & (messages.c.id == completions.c.message_id)
    query = (
        select(*SHOWN, messages.c.content.label("text"), messages.c.reasoning.label("thought"))
        .outerjoin(messages, answer)
        .where(*_named(user_id, completion_id))
    )
    row = (await connection.execute(query)).first()
    return (row, row.text, row.thought) if row else None


def _named(user_id: int | None, completion_id: int) -> tuple[ColumnElement[bool], ...]:
    """The completion of one user or, for an admin, of anyone."""
    named = (completions.c.id == completion_id,)
    return named if user_id is None else (*named, completions.c.user_id == user_id)


async def list_attempts(connection: AsyncConnection, user_id: int, completion_id: int) -> list[Row[Any]]:
    where = (attempts.c.user_id == user_id, attempts.c.completion_id == completion_id)
    return list(await connection.execute(select(attempts).where(*where).order_by(attempts.c.number)))


async def list_entries(connection: AsyncConnection, user_id: int, completion_id: int) -> list[Row[Any]]:
    where = (ledger_entries.c.user_id == user_id, ledger_entries.c.completion_id == completion_id)
    return list(await connection.execute(select(ledger_entries).where(*where).order_by(ledger_entries.c.id)))


async def is_first_answer(connection: AsyncConnection, user_id: int, completion_id: int, conversation_id: int) -> bool:
    """Whether a completion has ended, and no other one of its conversation has been answered before it."""
    other, mine = completions.alias(), completions.c
    before = tuple_(other.c.finished_at, other.c.id) < tuple_(mine.finished_at, mine.id)
    answered = exists().where(
        other.c.user_id == user_id,
        other.c.conversation_id == conversation_id,
        other.c.status.in_(("completed", "incomplete")),
        before,
    )
    query = select(mine.id).where(mine.user_id == user_id, mine.id == completion_id, mine.finished_at.is_not(None))
    return (await connection.execute(query.where(~answered))).first() is not None


async def erase_text(connection: AsyncConnection, user_id: int, completion_id: int) -> bool:
    """Empty the answer, purge its events and what providers said about it; False while the completion runs."""
    mine = (completions.c.user_id == user_id, completions.c.id == completion_id, completions.c.finished_at.is_not(None))
    changed = await connection.execute(update(completions).where(*mine).values(stored=False, error_detail=None))
    if not changed.rowcount:
        return False
    answer = (messages.c.user_id == user_id, messages.c.completion_id == completion_id)
    await connection.execute(update(messages).where(*answer).values(content="", reasoning=None))
    tried = (attempts.c.user_id == user_id, attempts.c.completion_id == completion_id)
    await connection.execute(update(attempts).where(*tried).values(error_detail=None))
    journalled = (events.c.user_id == user_id, events.c.completion_id == completion_id)
    await connection.execute(delete(events).where(*journalled))
    return True
