"""Column types and SQL expressions that mean the same on SQLite and Postgres."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import JSON, TypeDecorator, TypeEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SQLITE_NOW = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"

# SQLite gives only an INTEGER primary key the row's own number.
Id = BigInteger().with_variant(Integer(), "sqlite")
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Instant(TypeDecorator[datetime]):
    """A moment in UTC: TIMESTAMPTZ on Postgres, an integer of microseconds since 1970 on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return to_micros(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value  # type: ignore[no-any-return]  # the driver's datetime
        return from_micros(value)


class now(FunctionElement[datetime]):  # noqa: N801  # reads as the SQL function that it is
    """The database's clock. On Postgres the statement's own moment, not its transaction's start."""

    type = Instant()
    inherit_cache = True


class later(FunctionElement[datetime]):  # noqa: N801
    """The database's clock and so many seconds, a number or a bound parameter."""

    type = Instant()
    inherit_cache = True


class after(FunctionElement[datetime]):  # noqa: N801
    """The next moment after an Instant."""

    type = Instant()
    inherit_cache = True


class epoch(FunctionElement[int]):  # noqa: N801
    """Whole seconds since 1970 of an Instant, rounded down."""

    type = BigInteger()
    inherit_cache = True


def spell(function: type[FunctionElement[Any]], *, postgresql: str, sqlite: str) -> None:
    """How both databases spell a function; {} are its arguments."""
    for dialect, pattern in (("postgresql", postgresql), ("sqlite", sqlite)):
        compiles(function, dialect)(partial(_process, pattern))


def _process(pattern: str, element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    return pattern.replace("{}", compiler.process(element.clauses, **kw))


spell(now, postgresql="statement_timestamp()", sqlite=SQLITE_NOW)
spell(
    later,
    postgresql="(statement_timestamp() + make_interval(secs => {}))",
    sqlite=f"({SQLITE_NOW} + CAST({{}} * 1000000 AS INTEGER))",
)
spell(after, postgresql="({} + interval '1 microsecond')", sqlite="({} + 1)")
spell(epoch, postgresql="CAST(floor(extract(epoch FROM {})) AS BIGINT)", sqlite="({} / 1000000)")


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exactly."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
