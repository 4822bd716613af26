"""The statements that write turns, built once for each database.

Each takes a JSON list for each table that it writes. SQLite runs them one after the other. Postgres runs a whole
flush as one statement whose parts are data-modifying WITH queries (PostgreSQL manual, 7.8.4): one round trip, no
BEGIN, no COMMIT.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    CompoundSelect,
    Float,
    FromClause,
    Select,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    case,
    cast,
    column,
    exists,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
    update,
)

from service.db.claim_tables import claims
from service.db.limit_tables import holds
from service.db.recordset import insert_rows, recordset, upsert
from service.db.tables import attempts, completions, conversations, events, ledger_entries, messages
from service.db.types import later, now
from service.repositories.comparisons import passing

Chosen = Callable[[FromClause], ColumnElement[bool]]
CONVERSATION = ("user_id", "id", "title", "title_key", "system_prompt", "model", "active_leaf_id", "message_count")
MOVED = ("user_id", "id", "title", "title_key", "model", "active_leaf_id", "message_count")
MESSAGE = (
    "user_id", "id", "conversation_id", "parent_id", "line_id", "depth",
    "role", "content", "parts", "status", "model", "completion_id", "metadata",
)  # fmt: skip
COMPLETION = (
    "user_id", "id", "conversation_id", "message_id", "key_id", "model", "provider", "temperature", "max_tokens",
    "parameters", "streamed", "stored", "status", "warnings", "attempt_count", "worker", "epoch",
)  # fmt: skip
CLAIM = ("user_id", "key", "holder", "fingerprint", "completion_id")
ATTEMPT = ("user_id", "completion_id", "number", "provider", "upstream_model", "status")
EVENTS = ("user_id", "completion_id", "seq", "last_seq", "data")
METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
OUTCOME = (
    "user_id", "id", "epoch", "status", "finish_reason", "error_code", "error_detail", "warnings", "attempt_count",
    *METERS, "cost_nano", "first_token_ms", "duration_ms",
)  # fmt: skip
HOLD = ("user_id", "id", "epoch")
ANSWER = ("user_id", "id", "completion_id", "content", "reasoning", "status", "model")
ATTEMPT_END = ("user_id", "completion_id", "number", "status", "upstream_id", "error_kind", "error_detail")
ENTRY = (
    "user_id", "id", "completion_id", "attempt", "conversation_id", "key_id", "model", "provider", *METERS,
    "cost_nano", "price_source", "price_version", "provenance", "error_kind",
)  # fmt: skip

# The same as `running`, but for finding a row by its key: the index of the running ones is full of ended ones.
unfinished = completions.c.finished_at.is_(None)

KEPT_SECONDS = 10

BEGIN = ("conversations", "moved", "messages", "completions", "attempts", "claims")
HELD = ("holds", *BEGIN)
APPEND = ("events",)
FINISH = ("outcomes", "answers", "tails", "ends", "entries", "settled")
# The completion whose begin a row belongs to, where a begin may be refused.
TURN: Column[int] = Column("turn", BigInteger)


@lru_cache
def statements(dialect: str) -> Mapping[str, Any]:
    """The statements by the list that each takes. `completions` and `renewals` also take lease_seconds."""
    lease = later(bindparam("lease_seconds"))
    return {
        **_beginning(dialect),
        "events": _events(dialect),
        "outcomes": _outcomes(dialect),
        **_finishing(dialect, None),
        "passed": passing(dialect),
        "renewals": _renewals(dialect).values(lease_expires_at=lease),
    }


@lru_cache
def combined(names: tuple[str, ...]) -> CompoundSelect[Any]:
    """One Postgres statement for these lists.

    It returns (list, user_id, completion_id, refused, allowances): `outcomes` for a completion that it finished,
    `events` for one whose events it journalled, `holds` for one that limits let pass or refused.
    """
    parts = statements("postgresql")
    held = _holding().cte("w_holds") if "holds" in names else None
    if held is not None:
        parts = {**parts, "holds": held, **_beginning("postgresql", held)}
    won = parts["outcomes"].cte("w_outcomes") if "outcomes" in names else None
    if won is not None:
        parts = {**parts, "outcomes": won, **_finishing("postgresql", won)}
    made = {name: parts[name] if isinstance(parts[name], CTE) else parts[name].cte(f"w_{name}") for name in names}
    plain = (false(), cast(null(), Text))
    told = [
        select(literal_column(f"'{name}'"), *made[name].c, *plain) for name in ("outcomes", "events") if name in names
    ]
    if held is not None:
        told.append(select(literal_column("'holds'"), *held.c))
    nothing: Any = select(literal_column("''"), literal_column("0"), literal_column("0"), *plain).where(false())
    quiet = [cte for name, cte in made.items() if name not in ("outcomes", "events", "holds")]
    return union_all(nothing, *told).add_cte(*quiet)


def _holding() -> Select[Any]:
    """What limits say to each of the turns that begin. See migrations/versions/2026_11_26_holds.py."""
    asked, seconds = cast(bindparam("holds", type_=Text), JSON), bindparam("hold_seconds", type_=Float)
    fields = (column("user_id", BigInteger), column("completion_id", BigInteger))
    answers = func.everturn_hold(asked, seconds).table_valued(
        *fields, column("refused", Boolean), column("allowances", Text), name="answers"
    )
    return select(*answers.c)


def _beginning(dialect: str, held: CTE | None = None) -> dict[str, Any]:
    """The statements of a begin. With `held` they leave out the rows of turns that were refused in it."""

    def accepted(rows: FromClause) -> ColumnElement[bool]:
        if held is None:
            return true()
        return ~exists().where(held.c.refused, held.c.completion_id == rows.c.turn)

    def insert(name: str, table: Table, names: Sequence[str], *, fixed: Mapping[str, Any] | None = None) -> Any:
        marks = () if held is None else (TURN,)
        return insert_rows(dialect, name, table=table, names=names, fixed=fixed, where=accepted, marks=marks)

    lease = later(bindparam("lease_seconds"))
    return {
        "conversations": insert("conversations", conversations, CONVERSATION),
        "moved": _moved(dialect, accepted),
        "messages": insert("messages", messages, MESSAGE),
        "completions": insert("completions", completions, COMPLETION, fixed={"lease_expires_at": lease}),
        "attempts": insert("attempts", attempts, ATTEMPT),
        "claims": insert("claims", claims, CLAIM),
    }


def _finishing(dialect: str, won: CTE | None) -> dict[str, Any]:
    """What follows from an outcome. With `won` only for the completions in it, and the entries of erased ones."""

    def finished(rows: FromClause) -> ColumnElement[bool]:
        if won is None:
            return true()
        return exists().where(won.c.user_id == rows.c.user_id, won.c.id == rows.c.completion_id)

    def accounted(rows: FromClause) -> ColumnElement[bool]:
        same = (completions.c.user_id == rows.c.user_id, completions.c.id == rows.c.completion_id)
        # A scalar subquery is a look-up by key; NOT EXISTS would be hashed: the whole table read for one row.
        kept = select(completions.c.id).where(*same).scalar_subquery()
        return true() if won is None else or_(finished(rows), kept.is_(None))

    return {
        "answers": _answers(dialect, finished),
        "tails": insert_rows(dialect, "tails", table=events, names=EVENTS, where=finished),
        "ends": _ends(dialect, finished),
        "entries": insert_rows(dialect, "entries", table=ledger_entries, names=ENTRY, where=accounted),
        "settled": _settled(dialect, accounted),
    }


def _moved(dialect: str, chosen: Chosen) -> Update:
    rows = recordset(dialect, "moved", *(conversations.c[name] for name in MOVED), TURN)
    return (
        update(conversations)
        .where(conversations.c.user_id == rows.c.user_id, conversations.c.id == rows.c.id, chosen(rows))
        .where(~exists().where(messages.c.user_id == rows.c.user_id, messages.c.id == rows.c.active_leaf_id))
        .values(
            # One that has no title yet is named by its first turn.
            title=func.coalesce(conversations.c.title, rows.c.title),
            title_key=case((conversations.c.title.is_(None), rows.c.title_key), else_=conversations.c.title_key),
            active_leaf_id=rows.c.active_leaf_id,
            message_count=conversations.c.message_count + rows.c.message_count,
            model=func.coalesce(rows.c.model, conversations.c.model),
            active_at=now(),
        )
    )


def _events(dialect: str) -> Any:
    """Events of completions that still run under their writer's epoch."""
    rows = recordset(dialect, "events", *(events.c[name] for name in EVENTS), completions.c.epoch)
    fence = and_(
        completions.c.user_id == rows.c.user_id,
        completions.c.id == rows.c.completion_id,
        completions.c.epoch == rows.c.epoch,
        unfinished,
    )
    chosen = select(*(rows.c[name] for name in EVENTS)).join_from(rows, completions, fence).where(true())
    insert = upsert(dialect, events).from_select(list(EVENTS), chosen, False)
    insert = insert.on_conflict_do_nothing(index_elements=list(events.primary_key.columns))
    return insert.returning(events.c.user_id, events.c.completion_id)


def _outcomes(dialect: str) -> Any:
    rows = recordset(dialect, "outcomes", *(completions.c[name] for name in OUTCOME))
    # The events of one that was not to be stored stay for those who follow it, and then go: events.purge_unstored.
    kept = case((completions.c.stored, null()), else_=later(KEPT_SECONDS))
    return (
        update(completions)
        .where(completions.c.user_id == rows.c.user_id, completions.c.id == rows.c.id)
        .where(completions.c.epoch == rows.c.epoch, unfinished)
        .values(
            {name: rows.c[name] for name in OUTCOME if name not in ("user_id", "id", "epoch")}
            | {"finished_at": now(), "lease_expires_at": kept}
        )
        .returning(completions.c.user_id, completions.c.id)
    )


def _renewals(dialect: str) -> Any:
    rows = recordset(dialect, "renewals", *(completions.c[name] for name in HOLD))
    match = (completions.c[name] == rows.c[name] for name in HOLD)
    return update(completions).where(*match, unfinished).returning(completions.c.user_id, completions.c.id)


def _settled(dialect: str, chosen: Chosen) -> Update:
    """What was used takes the place of what was held for it."""
    rows = recordset(dialect, "settled", holds.c.user_id, holds.c.completion_id)
    match = (holds.c.user_id == rows.c.user_id, holds.c.completion_id == rows.c.completion_id)
    return update(holds).where(*match, holds.c.settled_at.is_(None), chosen(rows)).values(settled_at=now())


def _answers(dialect: str, chosen: Chosen) -> Update:
    rows = recordset(dialect, "answers", *(messages.c[name] for name in ANSWER))
    return (
        update(messages)
        .where(messages.c.user_id == rows.c.user_id, messages.c.id == rows.c.id, chosen(rows))
        .values({name: rows.c[name] for name in ("content", "reasoning", "status", "model")})
    )


def _ends(dialect: str, chosen: Chosen) -> Update:
    rows = recordset(dialect, "ends", *(attempts.c[name] for name in ATTEMPT_END))
    match = (attempts.c[name] == rows.c[name] for name in ("user_id", "completion_id", "number"))
    return (
        update(attempts)
        .where(*match, chosen(rows))
        .values({name: rows.c[name] for name in ATTEMPT_END[3:]} | {"finished_at": now()})
    )
