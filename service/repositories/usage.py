"""What was used, added up by bucket and by whatever else is asked.

From rollups, from what is not folded into them yet, and from single entries where they do not say enough.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.ledger_tables import DAY, HOUR, QUARTER, SUMS, usage_deltas, usage_rollups
from service.db.recordset import encode, recordset
from service.db.tables import conversation_tags, keys, ledger_entries, users
from service.db.types import Instant, from_micros
from service.domain.buckets import MICROS, Stretch

METERS = SUMS[3:-1]
EVERYBODY, ANYONE = 0, -1
WHO = bindparam("who", type_=BigInteger)
NO_LIMIT = 2**31 - 1
# What each group is told apart by, and the columns that show it.
SHOWN = {
    "user": ("user_id", "username"),
    "model": ("model",),
    "provider": ("provider",),
    "key": ("key_id", "key_name"),
    "conversation": ("conversation_id",),
    "tag": ("tag",),
}
COLUMN = {"user": "user_id", "key": "key_id", "conversation": "conversation_id"}
# Rollups do not know these.
SINGLE = {"conversation", "tag"}


@dataclass(frozen=True, slots=True)
class Question:
    """Whose usage, None everybody's, by which groups."""

    user_id: int | None
    groups: tuple[str, ...] = ()

    @property
    def spans(self) -> tuple[int, ...]:
        """The spans of the rollups that answer it, the largest first; none where only single entries do."""
        if SINGLE.intersection(self.groups):
            return ()
        return (DAY, HOUR, QUARTER) if self.whole else (DAY, HOUR)

    @property
    def whole(self) -> bool:
        """Whether the rollups of everybody answer it."""
        return self.user_id is None and not {"user", "key"}.intersection(self.groups)


class _Part(NamedTuple):
    """Rows of one table within a stretch, by groups; `beside` is a table that may have more to say of them."""

    table: FromClause
    groups: Sequence[ColumnElement[Any]]
    sums: Sequence[ColumnElement[int]]
    where: ColumnElement[bool]
    beside: tuple[FromClause, ColumnElement[bool]] | None = None


def add_up(dialect: str, question: Question, stretches: Sequence[Stretch]) -> tuple[Select[Any], dict[str, Any]]:
    """The statement, with its parameters, whose rows are (number, what is shown of each group, …SUMS), in this order.

    Groups and buckets in which nothing was used have no row. Erased users are one group, whose `user_id` is null.
    """
    values: dict[str, Any] = {} if question.user_id is None else {"who": question.user_id}
    spans = tuple(sorted({one.span for one in stretches if one.span}))
    for span in spans:
        values[f"spans_{span}"] = encode([_in_seconds(one) for one in stretches if one.span == span])
    if singles := [one for one in stretches if not one.span]:
        values["singles"] = encode([_as_instants(one, dialect) for one in singles])
    anyone = replace(question, user_id=None if question.user_id is None else ANYONE)
    return _statement(dialect, anyone, spans, bool(singles)), values


@lru_cache(maxsize=256)
def _statement(dialect: str, question: Question, spans: tuple[int, ...], singles: bool) -> Select[Any]:
    """Built once for each form: that takes longer than most of them run."""
    parts: list[Select[Any]] = []
    for span in spans:
        rows = recordset(dialect, f"spans_{span}", *_pieces(BigInteger()))
        parts += [_each(dialect, rows, _rolled(question, rows, span)), _unfolded(question, rows)]
    if singles:
        rows = recordset(dialect, "singles", *_pieces(Instant()))
        parts.append(_each(dialect, rows, _single(question, rows)))
    return _grouped(question, union_all(*parts).subquery("parts")).limit(bindparam("most", type_=Integer))


async def read_usage(
    connection: AsyncConnection, question: Question, stretches: Sequence[Stretch], *, most: int | None = None
) -> list[Row[Any]]:
    """The rows of `add_up`, `most` at the most."""
    query, values = add_up(connection.dialect.name, question, stretches)
    return list(await connection.execute(query, {**values, "most": most or NO_LIMIT}))


async def stream_usage(
    connection: AsyncConnection, question: Question, stretches: Sequence[Stretch], batch: int
) -> AsyncIterator[Sequence[Row[Any]]]:
    """The rows of `add_up` as they come, so many at a time."""
    query, values = add_up(connection.dialect.name, question, stretches)
    async for rows in (await connection.stream(query, {**values, "most": NO_LIMIT})).partitions(batch):
        yield rows


def _pieces(kind: Any) -> tuple[Column[Any], ...]:
    return Column("number", Integer), Column("opens", kind), Column("closes", kind)


def _in_seconds(one: Stretch) -> dict[str, Any]:
    return {"number": one.number, "opens": one.opens // MICROS, "closes": one.closes // MICROS}


def _as_instants(one: Stretch, dialect: str) -> dict[str, Any]:
    opens, closes = one.opens, one.closes
    if dialect == "sqlite":
        return {"number": one.number, "opens": opens, "closes": closes}
    return {"number": one.number, "opens": from_micros(opens), "closes": from_micros(closes)}


def _columns(question: Question) -> list[str]:
    return [COLUMN.get(name, name) for name in question.groups]


def _rolled(question: Question, rows: FromClause, span: int) -> _Part:
    table = usage_rollups.c
    if question.whole:
        whose: ColumnElement[bool] = table.user_id == literal_column(str(EVERYBODY))
    elif question.user_id is None:
        whose = table.user_id > literal_column(str(EVERYBODY))
    else:
        whose = table.user_id == WHO
    within = (table.start >= rows.c.opens, table.start < rows.c.closes)
    groups, sums = [table[name] for name in _columns(question)], [table[name] for name in SUMS]
    return _Part(usage_rollups, groups, sums, and_(whose, table.span == literal_column(str(span)), *within))


def _unfolded(question: Question, rows: FromClause) -> Select[Any]:
    """Few rows, however many stretches: they are added up before they are laid against them."""
    table = usage_deltas.c
    what = [table.start, *(table[name] for name in _columns(question))]
    query = select(*what, *(func.sum(table[name]).label(name) for name in SUMS)).group_by(*what)
    if question.user_id is not None:
        query = query.where(table.user_id == WHO)
    sums = query.subquery()
    chosen = select(rows.c.number, *(sums.c[name] for name in (*_columns(question), *SUMS)))
    return chosen.join_from(rows, sums, and_(sums.c.start >= rows.c.opens, sums.c.start < rows.c.closes))


def _single(question: Question, rows: FromClause) -> _Part:
    entry, tags = ledger_entries.c, conversation_tags.c
    where = and_(entry.created_at >= rows.c.opens, entry.created_at < rows.c.closes)
    if question.user_id is not None:
        where = and_(entry.user_id == WHO, where)
    known = {"key_id": func.coalesce(entry.key_id, 0).label("key_id"), "tag": tags.tag}
    groups = [known[name] if name in known else entry[name] for name in _columns(question)]
    part = _Part(ledger_entries, groups, added(), where)
    if "tag" not in question.groups:
        return part
    same = and_(tags.user_id == entry.user_id, tags.conversation_id == entry.conversation_id)
    return part._replace(beside=(conversation_tags, same))


def _each(dialect: str, rows: FromClause, part: _Part) -> Select[Any]:
    """What a part has for each stretch.

    Postgres is told to add it up for one stretch after the other: it cannot know how few rows each of them has.
    """
    if dialect == "sqlite":
        source: FromClause = rows.join(part.table, part.where)
        source = source.outerjoin(*part.beside) if part.beside else source
        return select(rows.c.number, *part.groups, *part.sums).select_from(source)
    source = part.table.outerjoin(*part.beside) if part.beside else part.table
    sums = [func.sum(one).label(one.name) for one in part.sums]
    one = select(*part.groups, *sums).select_from(source).where(part.where).group_by(*part.groups)
    inner = one.having(func.count() > 0).lateral()
    return select(rows.c.number, *inner.c).select_from(rows.join(inner, true()))


def added() -> list[Any]:
    """What one ledger entry adds to each of SUMS; the trigger says the same."""
    entry = ledger_entries.c
    charge = entry.kind == "charge"
    return [
        case((charge, 1), else_=0).label("requests"),
        case((charge & entry.error_kind.is_not(None), 1), else_=0).label("errors"),
        case((entry.cost_nano.is_(None), 1), (entry.first_price, -1), else_=0).label("unpriced"),
        *(entry[name] for name in METERS),
        func.coalesce(entry.cost_nano, 0).label("cost_nano"),
    ]


def _grouped(question: Question, parts: FromClause) -> Select[Any]:
    source: FromClause = parts
    shown: list[ColumnElement[Any]] = []
    for name in question.groups:
        if name == "user":
            source = source.outerjoin(users, users.c.id == parts.c.user_id)
            shown += [users.c.id.label("user_id"), users.c.username]
        elif name == "key":
            mine = true() if question.user_id is None else keys.c.user_id == WHO
            source = source.outerjoin(keys, and_(keys.c.id == parts.c.key_id, mine))
            shown += [func.nullif(parts.c.key_id, 0).label("key_id"), keys.c.name.label("key_name")]
        else:
            shown.append(parts.c[COLUMN.get(name, name)])
    # Postgres adds bigints up to a numeric.
    sums = [cast(func.sum(parts.c[name]), BigInteger).label(name) for name in SUMS]
    order = [parts.c.number, *shown]
    return select(parts.c.number, *shown, *sums).select_from(source).group_by(*order).order_by(*order)
