"""What was used, added up by bucket and by whatever else is asked.

From rollups, from what is not folded into them yet, and from single entries where they do not say enough.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
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
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.figures import dollars, joined, total, written
from service.db.ledger_tables import DAY, HOUR, QUARTER, SUMS, usage_deltas, usage_rollups
from service.db.recordset import encode, recordset
from service.db.tables import conversation_tags, keys, ledger_entries, users
from service.db.types import Instant, from_micros
from service.domain.buckets import MICROS, Run

METERS = SUMS[3:-1]
EVERYBODY, ANYONE = 0, -1
WHO = bindparam("who", type_=BigInteger)
NO_LIMIT = 2**31 - 1
NUMBER = Column("number", Integer)
RUN = (NUMBER, *(Column(name, BigInteger) for name in ("opens", "closes", "period", "length")))
SINGLE_RUN: tuple[Column[Any], ...] = (NUMBER, Column("opens", Instant()), Column("closes", Instant()))
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
    """Rows of one table within the runs, by groups; `beside` is a table that may have more to say of them."""

    table: FromClause
    number: ColumnElement[int]
    groups: Sequence[ColumnElement[Any]]
    sums: Sequence[ColumnElement[int]]
    where: ColumnElement[bool]
    beside: tuple[FromClause, ColumnElement[bool]] | None = None


async def read_usage(connection: AsyncConnection, question: Question, runs: Sequence[Run]) -> Sequence[Row[Any]]:
    """Rows of (number, what is shown of each group, …SUMS), in this order.

    Groups and buckets in which nothing was used have no row. Erased users are one group, whose `user_id` is null.
    """
    found: Sequence[Row[Any]] = (await connection.execute(*_question(connection, question, runs))).all()
    return found


async def write_usage(
    connection: AsyncConnection, question: Question, runs: Sequence[Run], *, most: int
) -> Sequence[Row[Any]]:
    """Rows of (number, `size`, `groups`, `unpriced_models`, …SUMS) for the buckets in which something was used.

    `groups` are the rows of `read_usage` as JSON objects with commas between them, in dollars: to read thousands takes
    longer than to add them up. `most` of them at the most, all buckets together; `size` is how many. Where models are a
    group, `unpriced_models` are such objects too, of those without a price.
    """
    statement, values = _question(connection, question, runs, most=most)
    found: Sequence[Row[Any]] = (await connection.execute(_written(question.groups, statement), values)).all()
    return found


async def stream_usage(
    connection: AsyncConnection, question: Question, runs: Sequence[Run], batch: int
) -> AsyncIterator[Sequence[Row[Any]]]:
    """The rows of `read_usage` as they come, so many at a time."""
    async for rows in (await connection.stream(*_question(connection, question, runs))).partitions(batch):
        yield rows


def _question(
    connection: AsyncConnection, question: Question, runs: Sequence[Run], *, most: int = NO_LIMIT
) -> tuple[Select[Any], dict[str, Any]]:
    """The statement and its parameters."""
    dialect = connection.dialect.name
    values: dict[str, Any] = {"most": most} if question.user_id is None else {"most": most, "who": question.user_id}
    spans = tuple(sorted({one.span for one in runs if one.span}))
    for span in spans:
        values[f"spans_{span}"] = encode([_in_seconds(one) for one in runs if one.span == span])
    if singles := [one for one in runs if not one.span]:
        values["singles"] = encode([_as_instants(one, dialect) for one in singles])
    anyone = replace(question, user_id=None if question.user_id is None else ANYONE)
    return _statement(dialect, anyone, spans, bool(singles)), values


@lru_cache(maxsize=256)
def _statement(dialect: str, question: Question, spans: tuple[int, ...], singles: bool) -> Select[Any]:
    """Built once for each form: that takes longer than most of them run."""
    parts: list[Select[Any]] = []
    for span in spans:
        rows = _rows(dialect, f"spans_{span}", RUN)
        parts += [_each(dialect, rows, _rolled(question, rows, span)), _unfolded(question, rows)]
    if singles:
        rows = _rows(dialect, "singles", SINGLE_RUN)
        parts.append(_each(dialect, rows, _single(question, rows)))
    return _grouped(question, union_all(*parts).subquery("parts")).limit(bindparam("most", type_=Integer))


@lru_cache(maxsize=256)
def _written(asked: tuple[str, ...], statement: Select[Any]) -> Select[Any]:
    rows = statement.subquery("rows")
    names = [name for group in asked for name in SHOWN[group]]
    told: dict[str, ColumnElement[Any]] = {name: rows.c[name] for name in (*names, *SUMS[:-1])}
    # What has no price at all costs null, not 0.
    priced = or_(rows.c.requests == 0, rows.c.unpriced < rows.c.requests)
    told["cost_usd"] = case((priced, dollars(rows.c.cost_nano)))
    unpriced: ColumnElement[Any] = null()
    if "model" in asked:
        unpriced = joined(case((rows.c.unpriced > 0, _object({"model": rows.c.model}))))
    groups = joined(_object(told)).label("groups")
    bucket = (rows.c.number, func.count().label("size"), groups, unpriced.label("unpriced_models"))
    sums = [total(rows.c[name]).label(name) for name in SUMS]
    return select(*bucket, *sums).group_by(rows.c.number).order_by(rows.c.number)


def _object(fields: Mapping[str, ColumnElement[Any]]) -> ColumnElement[str]:
    return written(*(one for name, value in fields.items() for one in (literal_column(f"'{name}'"), value)))


def _rows(dialect: str, parameter: str, fields: Sequence[Column[Any]]) -> FromClause:
    """The runs as a table. It is made once: SQLite would read the fields anew for each row that it lays beside them."""
    return select(recordset(dialect, parameter, *fields)).cte(parameter).prefix_with("MATERIALIZED")


def _in_seconds(one: Run) -> dict[str, Any]:
    moments = ("opens", "closes", "period", "length")
    return {"number": one.number} | {name: getattr(one, name) // MICROS for name in moments}


def _as_instants(one: Run, dialect: str) -> dict[str, Any]:
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
    groups, sums = [table[name] for name in _columns(question)], [table[name] for name in SUMS]
    where = and_(whose, table.span == literal_column(str(span)), _within(rows, table.start))
    return _Part(usage_rollups, _number(rows, table.start), groups, sums, where)


def _unfolded(question: Question, rows: FromClause) -> Select[Any]:
    """Few rows, however many runs: they are added up before they are laid against them."""
    table = usage_deltas.c
    what = [table.start, *(table[name] for name in _columns(question))]
    query = select(*what, *(total(table[name]).label(name) for name in SUMS)).group_by(*what)
    if question.user_id is not None:
        query = query.where(table.user_id == WHO)
    sums = query.subquery()
    chosen = select(_number(rows, sums.c.start), *(sums.c[name] for name in (*_columns(question), *SUMS)))
    return chosen.join_from(rows, sums, _within(rows, sums.c.start))


def _within(rows: FromClause, start: ColumnElement[int]) -> ColumnElement[bool]:
    run = rows.c
    return and_(start >= run.opens, start < run.closes, (start - run.opens) % run.period < run.length)


def _number(rows: FromClause, start: ColumnElement[int]) -> ColumnElement[int]:
    return (rows.c.number + (start - rows.c.opens) // rows.c.period).label("number")


def _single(question: Question, rows: FromClause) -> _Part:
    entry, tags = ledger_entries.c, conversation_tags.c
    where = and_(entry.created_at >= rows.c.opens, entry.created_at < rows.c.closes)
    if question.user_id is not None:
        where = and_(entry.user_id == WHO, where)
    known = {"key_id": func.coalesce(entry.key_id, 0).label("key_id"), "tag": tags.tag}
    groups = [known[name] if name in known else entry[name] for name in _columns(question)]
    part = _Part(ledger_entries, rows.c.number, groups, added(), where)
    if "tag" not in question.groups:
        return part
    same = and_(tags.user_id == entry.user_id, tags.conversation_id == entry.conversation_id)
    return part._replace(beside=(conversation_tags, same))


def _each(dialect: str, rows: FromClause, part: _Part) -> Select[Any]:
    """What a part has for each run.

    Postgres is told to read it for one run after the other: it cannot know how few rows each of them has.
    """
    what = select(part.number, *part.groups, *part.sums)
    if dialect == "sqlite":
        source: FromClause = rows.join(part.table, part.where)
        return what.select_from(source.outerjoin(*part.beside) if part.beside else source)
    source = part.table.outerjoin(*part.beside) if part.beside else part.table
    fence = what.select_from(source).where(part.where).correlate(rows).offset(literal_column("0"))
    inner = fence.lateral()
    return select(*inner.c).select_from(rows.join(inner, true()))


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
    sums = [total(parts.c[name]).label(name) for name in SUMS]
    order = [parts.c.number, *shown]
    return select(parts.c.number, *shown, *sums).select_from(source).group_by(*order).order_by(*order)
