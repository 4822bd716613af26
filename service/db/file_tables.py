"""Files: what a user's paths name, the content that they name, and how much of it there is."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
)

from service.db.schema import metadata, moment, owned_by, owner, owner_of_parent
from service.db.types import Id, Instant

# Compared byte by byte on both databases: what has a prefix is then one stretch of the index.
Path = String(1024).with_variant(String(1024, collation="C"), "postgresql")

# Content, once for each of its owners: users do not share it, so nobody learns from a write what another one has.
# Who refers to a blob is counted by the rows that do, whose foreign keys keep it; `held_until` keeps one that a message
# is about to refer to. On disk it is named by sha256, user_id and token.
blobs = Table(
    "blobs",
    metadata,
    owner(),
    Column("sha256", String(64), nullable=False),
    Column("token", String(16), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("held_until", Instant),
    moment("created_at"),
    PrimaryKeyConstraint("user_id", "sha256"),
    CheckConstraint("size >= 0", name="size"),
)

files = Table(
    "files",
    metadata,
    owner(),
    Column("path", Path, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("content_type", String(200), nullable=False),
    moment("created_at"),
    moment("updated_at"),
    PrimaryKeyConstraint("user_id", "path"),
    ForeignKeyConstraint(["user_id", "sha256"], ["blobs.user_id", "blobs.sha256"]),
    Index(None, "user_id", "sha256"),
)

# Which content the images of messages are: written by triggers on messages, where a message has parts. A row keeps the
# blob when the file is deleted. The check waits for the end: an erasure takes blobs before messages.
message_blobs = Table(
    "message_blobs",
    metadata,
    owner_of_parent(),
    Column("message_id", Id, nullable=False),
    Column("sha256", String(64), nullable=False),
    PrimaryKeyConstraint("user_id", "message_id", "sha256"),
    owned_by(["messages.user_id", "messages.id"], "message_id"),
    ForeignKeyConstraint(
        ["user_id", "sha256"], ["blobs.user_id", "blobs.sha256"], deferrable=True, initially="DEFERRED"
    ),
    Index(None, "user_id", "sha256"),
)

# What a user has, for the quota: written with the rows that it counts. Its row is also the lock of all who change them.
file_usage = Table(
    "file_usage",
    metadata,
    owner(),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("files", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("user_id"),
    CheckConstraint("bytes >= 0 AND files >= 0", name="counts"),
)
