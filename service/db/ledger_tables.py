"""What the ledger adds up to, so that a report reads few rows.

Each insert into ledger_entries puts what it adds into `usage_deltas`, by a trigger that a migration makes: rows of its
own, so that no turn waits for another. A background task folds them into `usage_rollups` and deletes them, in one
transaction; a report reads both. Neither table has foreign keys, as the ledger has none.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, String, Table

from service.db.schema import metadata
from service.db.types import Id

SUMS = (
    "requests",
    "errors",
    "unpriced",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nano",
)
QUARTER, HOUR, DAY = 900, 3600, 86_400


def _where_and_what() -> list[Column[Any]]:
    """`start` is in seconds since 1970. A `key_id` of 0 is none."""
    return [
        Column("start", BigInteger, nullable=False),
        Column("model", String(200), nullable=False),
        Column("provider", String(64), nullable=False),
        Column("key_id", BigInteger, nullable=False),
    ]


def _sums() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in SUMS]


# Of a user and a quarter of an hour, for the time zones whose offset is no whole hour. `entry_id` is the first entry's.
usage_deltas = Table(
    "usage_deltas",
    metadata,
    Column("user_id", Id, nullable=False),
    Column("entry_id", Id, nullable=False),
    *_where_and_what(),
    *_sums(),
    PrimaryKeyConstraint("user_id", "entry_id"),
)

# Of a user by the hour and by the day, and of everybody (user and key 0) by the quarter of an hour, the hour and the
# day; `span` is in seconds, and days are UTC's.
usage_rollups = Table(
    "usage_rollups",
    metadata,
    Column("user_id", Id, nullable=False),
    Column("span", Integer, nullable=False),
    *_where_and_what(),
    *_sums(),
    PrimaryKeyConstraint("user_id", "span", "start", "model", "provider", "key_id"),
    Index(None, "span", "start"),
    Index(None, "key_id", "span", "start"),
)
