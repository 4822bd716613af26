"""Idempotency keys: which request was already carried out, and what came of it."""

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, String, Table, Text, UniqueConstraint

from service.db.schema import metadata, moment, owner

# A request whose commit was ambiguous is written again and meets its own row, by the primary key; another request with
# the same key meets the unique constraint. `holder` is the completion's id, or a random number where there is none.
claims = Table(
    "claims",
    metadata,
    owner(),
    Column("key", String(255), nullable=False),
    Column("holder", BigInteger, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("completion_id", BigInteger),
    Column("answer", Text),
    moment("created_at"),
    PrimaryKeyConstraint("user_id", "key", "holder"),
    UniqueConstraint("user_id", "key"),
    Index(None, "created_at"),
)
