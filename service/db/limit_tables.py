"""Budgets and limits, and what running turns hold of them."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text

from service.db.schema import metadata, moment, owner
from service.db.types import Id, Instant

BUDGETS = ("day_nano", "week_nano", "month_nano")
RATES = ("requests_minute", "tokens_minute", "streams")

# Of a user, of a key, or (subject 0) of all together. Null: no such limit.
limits = Table(
    "limits",
    metadata,
    Column("scope", String(8), nullable=False),
    Column("subject_id", BigInteger, nullable=False),
    *(Column(name, BigInteger) for name in BUDGETS),
    *(Column(name, Integer) for name in RATES),
    PrimaryKeyConstraint("scope", "subject_id"),
    CheckConstraint("scope IN ('all', 'key', 'user')", name="scope"),
)

# What a turn may cost and use: written with its begin, settled with its end. One that nobody settles counts until
# `expires_at`, which is put off while its completion runs. `allowances` is what was found when it was taken.
holds = Table(
    "holds",
    metadata,
    owner(),
    Column("completion_id", Id, nullable=False),
    Column("key_id", BigInteger),
    Column("nano", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    moment("created_at"),
    Column("expires_at", Instant, nullable=False),
    Column("settled_at", Instant),
    Column("allowances", Text, nullable=False, server_default="[]"),
    PrimaryKeyConstraint("user_id", "completion_id"),
    Index(None, "created_at"),
    Index(None, "user_id", "created_at"),
    Index(None, "key_id", "created_at"),
)
Index(
    "ix_holds_open",
    holds.c.expires_at,
    postgresql_where=holds.c.settled_at.is_(None),
    sqlite_where=holds.c.settled_at.is_(None),
)
