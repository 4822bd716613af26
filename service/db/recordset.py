"""Many rows as one JSON parameter: a statement keeps its text and has one bind, whatever the number of rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    JSON,
    Column,
    FromClause,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement


def recordset(dialect: str, parameter: str, *columns: Column[Any]) -> FromClause:
    """The rows of the JSON list bound as `parameter`, with fields named and typed as `columns`.

    Postgres reads the list with json_to_recordset, SQLite with json_each.
    """
    if dialect == "postgresql":
        fields = [column(one.name, one.type) for one in columns]
        rows = func.json_to_recordset(cast(bindparam(parameter, type_=Text), JSON))
        return rows.table_valued(*fields).render_derived(name=f"{parameter}_rows", with_types=True)
    each = func.json_each(bindparam(parameter, type_=Text)).table_valued("value", name=f"{parameter}_each")
    extracts = [
        func.json_extract(each.c.value, literal_column(f"'$.{one.name}'"), type_=one.type).label(one.name)
        for one in columns
    ]
    return select(*extracts).subquery(f"{parameter}_rows")


def insert_rows(
    dialect: str,
    parameter: str,
    *,
    table: Table,
    names: Sequence[str],
    fixed: Mapping[str, ColumnElement[Any]] | None = None,
    where: Callable[[FromClause], ColumnElement[bool]] | None = None,
    marks: Sequence[Column[Any]] = (),
) -> Any:
    """INSERT … SELECT from a recordset, leaving out rows whose primary key is there already.

    `fixed` columns have one expression for all rows; `where` chooses among the rows, also by fields that are no columns
    of the table, `marks`.
    """
    rows = recordset(dialect, parameter, *(table.c[name] for name in names), *marks)
    extra = fixed or {}
    # SQLite takes the ON of an upsert for a join's without a WHERE before it.
    chosen = select(*(rows.c[name] for name in names), *extra.values()).where(where(rows) if where else true())
    insert = upsert(dialect, table).from_select([*names, *extra], chosen, False)
    return insert.on_conflict_do_nothing(index_elements=list(table.primary_key.columns))


def encode(rows: Sequence[Mapping[str, Any]]) -> str:
    """The value for a recordset's parameter."""
    return to_json(rows).decode()


def upsert(dialect: str, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, which both databases have and spell alike."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
