"""Which conversation came from where, so that importing it again changes only what is new."""

from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, String, Table, UniqueConstraint

from service.db.schema import CONVERSATION, metadata, moment, owned_by, owner_of_parent

# `source` is a shape's name, `source_id` what the source calls the conversation; messages have their own in their row.
imports = Table(
    "imports",
    metadata,
    owner_of_parent(),
    Column("source", String(32), nullable=False),
    Column("source_id", String(200), nullable=False),
    Column("conversation_id", BigInteger, nullable=False),
    moment("created_at"),
    PrimaryKeyConstraint("user_id", "source", "source_id"),
    UniqueConstraint("user_id", "conversation_id"),
    owned_by(CONVERSATION, "conversation_id"),
)
