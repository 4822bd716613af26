"""A turn's rows: many begins, journal appends and finishes in one transaction, a statement for each table."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

from sqlalchemy import Update, and_, bindparam, exists, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.base import Executable

from service.db.recordset import encode, insert_rows, recordset, upsert
from service.db.tables import attempts, completions, conversations, events, ledger_entries, messages, running
from service.db.types import later, now

Row = Mapping[str, Any]

CONVERSATION = ("user_id", "id", "title", "title_key", "system_prompt", "model", "active_leaf_id", "message_count")
MOVED = ("user_id", "id", "model", "active_leaf_id", "message_count")
MESSAGE = (
    "user_id", "id", "conversation_id", "parent_id", "line_id", "depth",
    "role", "content", "status", "model", "completion_id", "metadata",
)  # fmt: skip
COMPLETION = (
    "user_id", "id", "conversation_id", "message_id", "key_id", "model", "provider", "temperature", "max_tokens",
    "parameters", "streamed", "stored", "status", "warnings", "worker", "epoch",
)  # fmt: skip
ATTEMPT = ("user_id", "completion_id", "number", "provider", "upstream_model", "status")
EVENTS = ("user_id", "completion_id", "seq", "last_seq", "data")
METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
OUTCOME = (
    "user_id", "id", "epoch", "status", "finish_reason", "error_code", "error_detail", "warnings", "attempt_count",
    *METERS, "cost_nano", "first_token_ms", "duration_ms",
)  # fmt: skip
ANSWER = ("user_id", "id", "content", "reasoning", "status")
ATTEMPT_END = ("user_id", "completion_id", "number", "status", "upstream_id", "error_kind", "error_detail")
ENTRY = (
    "user_id", "id", "completion_id", "attempt", "conversation_id", "key_id", "model", "provider", *METERS,
    "cost_nano", "price_source", "price_version", "provenance",
)  # fmt: skip


class Begin(NamedTuple):
    """The rows of an accepted turn. Their ids are known, so writing them twice changes nothing."""

    conversation: Row | None
    moved: Row | None
    messages: Sequence[Row]
    completion: Row
    attempt: Row


class Finish(NamedTuple):
    """The end of a turn. Only the first one with the right epoch is written; `entry` is never lost."""

    outcome: Row
    answer: Row | None
    attempt: Row
    events: Row
    entry: Row


async def begin_turns(connection: AsyncConnection, begins: Sequence[Begin], lease_seconds: float) -> None:
    """Write accepted turns. Raises IntegrityError when a message's place in its conversation is taken."""
    made = _statements(connection.dialect.name)
    rows: dict[str, list[Row]] = {
        "conversations": [begin.conversation for begin in begins if begin.conversation],
        "moved": [begin.moved for begin in begins if begin.moved],
        "messages": [message for begin in begins for message in begin.messages],
        "completions": [begin.completion for begin in begins],
        "attempts": [begin.attempt for begin in begins],
    }
    for name, some in rows.items():
        if some:
            values: dict[str, Any] = {name: encode(some)}
            if name == "completions":
                values["lease_seconds"] = lease_seconds
            await connection.execute(made[name], values)


async def append_events(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Journal events, each row with the epoch of its writer; a row whose turn is over or fenced is left out."""
    await connection.execute(_statements(connection.dialect.name)["events"], {"events": encode(rows)})


async def finish_turns(connection: AsyncConnection, finishes: Sequence[Finish]) -> set[tuple[int, int]]:
    """Finish turns and return the (user_id, completion_id) of those that were still running under their epoch.

    A turn whose completion was erased meanwhile is still accounted; one that was finished before changes nothing.
    """
    made = _statements(connection.dialect.name)
    result = await connection.execute(made["outcomes"], {"outcomes": encode([one.outcome for one in finishes])})
    won = {(row.user_id, row.id) for row in result}
    mine = [one for one in finishes if _name(one) in won]
    if mine:
        rows: dict[str, list[Row]] = {
            "answers": [one.answer for one in mine if one.answer],
            "tails": [one.events for one in mine],
            "ends": [one.attempt for one in mine],
        }
        for name, some in rows.items():
            if some:
                await connection.execute(made[name], {name: encode(some)})
    entries = [one.entry for one in mine]
    lost = [one for one in finishes if _name(one) not in won]
    if lost:
        entries += [one.entry for one in lost if not await _exists(connection, one)]
    if entries:
        await connection.execute(made["entries"], {"entries": encode(entries)})
    return won


async def renew_leases(connection: AsyncConnection, worker: str, lease_seconds: float) -> None:
    """Hold on to the running turns of a worker for so many seconds more."""
    await connection.execute(
        _statements(connection.dialect.name)["renew"], {"of_worker": worker, "lease_seconds": lease_seconds}
    )


def _name(one: Finish) -> tuple[int, int]:
    return one.outcome["user_id"], one.outcome["id"]


async def _exists(connection: AsyncConnection, one: Finish) -> bool:
    user_id, completion_id = _name(one)
    query = select(completions.c.id).where(completions.c.user_id == user_id, completions.c.id == completion_id)
    return (await connection.execute(query)).first() is not None


@lru_cache
def _statements(dialect: str) -> Mapping[str, Executable]:
    def added(name: str, table: Any, names: Sequence[str], **fixed: Any) -> Any:
        return insert_rows(dialect, name, table, names, fixed).on_conflict_do_nothing(
            index_elements=list(table.primary_key.columns)
        )

    return {
        "conversations": added("conversations", conversations, CONVERSATION),
        "moved": _moved(dialect),
        "messages": added("messages", messages, MESSAGE),
        "completions": added(
            "completions", completions, COMPLETION, lease_expires_at=later(bindparam("lease_seconds"))
        ),
        "attempts": added("attempts", attempts, ATTEMPT),
        "events": _events(dialect),
        "outcomes": _outcomes(dialect),
        "answers": _answers(dialect),
        "tails": added("tails", events, EVENTS),
        "ends": _ends(dialect),
        "entries": added("entries", ledger_entries, ENTRY),
        "renew": update(completions)
        .where(completions.c.worker == bindparam("of_worker"), running)
        .values(lease_expires_at=later(bindparam("lease_seconds"))),
    }


def _moved(dialect: str) -> Update:
    rows = recordset(dialect, "moved", [conversations.c[name] for name in MOVED])
    return (
        update(conversations)
        .where(conversations.c.user_id == rows.c.user_id, conversations.c.id == rows.c.id)
        .where(~exists().where(messages.c.user_id == rows.c.user_id, messages.c.id == rows.c.active_leaf_id))
        .values(
            active_leaf_id=rows.c.active_leaf_id,
            message_count=conversations.c.message_count + rows.c.message_count,
            model=func.coalesce(rows.c.model, conversations.c.model),
            active_at=now(),
        )
    )


def _events(dialect: str) -> Executable:
    rows = recordset(dialect, "events", [*(events.c[name] for name in EVENTS), completions.c.epoch])
    fence = and_(
        completions.c.user_id == rows.c.user_id,
        completions.c.id == rows.c.completion_id,
        completions.c.epoch == rows.c.epoch,
        running,
    )
    chosen = select(*(rows.c[name] for name in EVENTS)).join_from(rows, completions, fence).where(true())
    insert = upsert(dialect, events).from_select(list(EVENTS), chosen, False)
    return cast(Executable, insert.on_conflict_do_nothing(index_elements=list(events.primary_key.columns)))


def _outcomes(dialect: str) -> Executable:
    rows = recordset(dialect, "outcomes", [completions.c[name] for name in OUTCOME])
    return (
        update(completions)
        .where(completions.c.user_id == rows.c.user_id, completions.c.id == rows.c.id)
        .where(completions.c.epoch == rows.c.epoch, running)
        .values(
            {name: rows.c[name] for name in OUTCOME if name not in ("user_id", "id", "epoch")}
            | {"finished_at": now(), "lease_expires_at": None}
        )
        .returning(completions.c.user_id, completions.c.id)
    )


def _answers(dialect: str) -> Update:
    rows = recordset(dialect, "answers", [messages.c[name] for name in ANSWER])
    return (
        update(messages)
        .where(messages.c.user_id == rows.c.user_id, messages.c.id == rows.c.id)
        .values(content=rows.c.content, reasoning=rows.c.reasoning, status=rows.c.status)
    )


def _ends(dialect: str) -> Update:
    rows = recordset(dialect, "ends", [attempts.c[name] for name in ATTEMPT_END])
    match = (attempts.c[name] == rows.c[name] for name in ("user_id", "completion_id", "number"))
    return (
        update(attempts)
        .where(and_(*match))
        .values({name: rows.c[name] for name in ATTEMPT_END[3:]} | {"finished_at": now()})
    )
