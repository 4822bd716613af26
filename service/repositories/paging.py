"""Pages of a list: by number with OFFSET, or by key, whose cost does not grow with the depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, literal, or_, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.types import Instant, from_micros, to_micros
from service.domain.cursors import Cursors, Value
from service.domain.paging import Ask, Page
from service.errors import BadCursor

FOREIGN = "This cursor was not given out for this list with these filters."


@dataclass(frozen=True, slots=True)
class Sort:
    """One column of an order. It must be NOT NULL and among the columns that the query selects."""

    column: ColumnElement[Any]
    descending: bool = False


class Pager:
    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    async def page(
        self,
        connection: AsyncConnection,
        query: Select[Any],
        *,
        sort: Sequence[Sort],
        ask: Ask,
        scope: Sequence[object],
        total: Select[Any] | int | None = None,
    ) -> Page[Row[Any]]:
        """A page of an unordered query without GROUP BY; `sort` ends in a unique column. Raises BadCursor.

        `scope` is all that tells this list from others: its name, the owner, the filters, the order. `total` is given,
        or counted by a query of the caller's, or by the query itself; on the last page it is known without, and by
        cursor it is None and nothing is counted.
        """
        named = repr(tuple(scope))
        if ask.cursor is None:
            ordered = query.order_by(*_order(sort, False)).limit(ask.limit + 1)
            rows = await _fetch(connection, ordered.offset(ask.skip) if ask.skip else ordered)
            if len(rows) <= ask.limit and (rows or not ask.skip):
                # The list ends here: there is nothing more to count.
                count = ask.skip + len(rows)
            else:
                count = total if isinstance(total, int) else await _count(connection, query, total)
            return self._page(rows, ask, named, sort, total=count, before=ask.skip > 0)
        values, backwards = self._open(named, ask.cursor, sort)
        ordered = query.where(_beyond(sort, values, backwards)).order_by(*_order(sort, backwards))
        rows = await _fetch(connection, ordered.limit(ask.limit + 1))
        if not backwards:
            return self._page(rows, Ask(0, ask.limit), named, sort, before=True)
        kept = rows[: ask.limit][::-1]
        prev = self._seal(named, sort, kept[0], True) if len(rows) > ask.limit else None
        onward = self._seal(named, sort, kept[-1], False) if kept else None
        return Page(kept, None, 0, ask.limit, onward, prev)

    def seal(self, scope: Sequence[object], values: Sequence[Value], backwards: bool) -> str:
        """A cursor of a list that pages by itself."""
        return self._cursors.seal(repr(tuple(scope)), values, backwards)

    def open(self, scope: Sequence[object], cursor: str) -> tuple[list[Any], bool]:
        """The values of such a cursor, and whether the page lies before them. Raises BadCursor."""
        try:
            return self._cursors.open(repr(tuple(scope)), cursor)
        except ValueError as error:
            raise BadCursor(FOREIGN) from error

    def _page(
        self,
        rows: list[Row[Any]],
        ask: Ask,
        scope: str,
        sort: Sequence[Sort],
        *,
        total: int | None = None,
        before: bool,
    ) -> Page[Row[Any]]:
        kept = rows[: ask.limit]
        onward = self._seal(scope, sort, kept[-1], False) if len(rows) > ask.limit else None
        prev = self._seal(scope, sort, kept[0], True) if before and kept else None
        return Page(kept, total, ask.skip, ask.limit, onward, prev)

    def _seal(self, scope: str, sort: Sequence[Sort], row: Row[Any], backwards: bool) -> str:
        return self._cursors.seal(scope, [_plain(row._mapping[one.column]) for one in sort], backwards)

    def _open(self, scope: str, cursor: str, sort: Sequence[Sort]) -> tuple[list[Any], bool]:
        try:
            values, backwards = self._cursors.open(scope, cursor)
            pairs = zip(values, sort, strict=True)
            return [from_micros(int(v or 0)) if isinstance(s.column.type, Instant) else v for v, s in pairs], backwards
        except ValueError as error:
            raise BadCursor(FOREIGN) from error


def _order(sort: Sequence[Sort], backwards: bool) -> list[ColumnElement[Any]]:
    return [one.column.desc() if one.descending != backwards else one.column.asc() for one in sort]


def _beyond(sort: Sequence[Sort], values: Sequence[Any], backwards: bool) -> ColumnElement[bool]:
    """The rows after the values in this order, or before them."""
    down = [one.descending != backwards for one in sort]
    columns = [one.column for one in sort]
    marks = [literal(value, column.type) for value, column in zip(values, columns, strict=True)]
    if len(sort) > 1 and len(set(down)) == 1:
        here, there = tuple_(*columns), tuple_(*marks)
        return here < there if down[0] else here > there
    steps = []
    for index, (column, mark) in enumerate(zip(columns, marks, strict=True)):
        same = [columns[at] == marks[at] for at in range(index)]
        steps.append(and_(*same, column < mark if down[index] else column > mark))
    return or_(*steps)


def _plain(value: Any) -> Value:
    return to_micros(value) if isinstance(value, datetime) else value


async def _fetch(connection: AsyncConnection, query: Select[Any]) -> list[Row[Any]]:
    return list(await connection.execute(query))


async def _count(connection: AsyncConnection, query: Select[Any], counted: Select[Any] | None) -> int:
    if counted is None:
        counted = query.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    return int((await connection.execute(counted)).scalar_one())
