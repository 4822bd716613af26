"""The tables of accounts, conversations and turns; the migrations are compared with them by a test.

A row that a user owns has `user_id` first in its primary key, and foreign keys between owned rows carry it, so that the
database itself refuses a message in somebody else's conversation.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    text,
    true,
)

from service.db.schema import COMPLETION, CONVERSATION, metadata, moment, owned_by, owner, owner_of_parent
from service.db.types import Id, Instant, Json

id_blocks = Table(
    "id_blocks",
    metadata,
    Column("noun", String(32), primary_key=True),
    Column("next_id", BigInteger, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("username", String(100), nullable=False),
    Column("username_key", String(200), nullable=False, unique=True),
    Column("email", String(254)),
    Column("email_key", String(508), unique=True),
    Column("role", String(16), nullable=False, server_default="user"),
    Column("external_id", String(200), unique=True),
    Column("settings", Json, nullable=False, server_default="{}"),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    moment("created_at"),
    moment("updated_at"),
    CheckConstraint("role IN ('user', 'admin')", name="role"),
    Index(None, "created_at", "id"),
)

user_tags = Table(
    "user_tags",
    metadata,
    owner(),
    Column("tag", String(100), nullable=False),
    PrimaryKeyConstraint("user_id", "tag"),
    Index(None, "tag", "user_id"),
)

keys = Table(
    "keys",
    metadata,
    owner(),
    Column("id", Id, nullable=False),
    Column("name", String(100), nullable=False, server_default=""),
    Column("kind", String(16), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("hash", String(64), nullable=False),
    moment("created_at"),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("rotated_to", BigInteger),
    PrimaryKeyConstraint("user_id", "id"),
    UniqueConstraint("id"),
    CheckConstraint("kind IN ('user', 'service', 'admin')", name="kind"),
    Index(None, "user_id", "created_at", "id"),
)

conversations = Table(
    "conversations",
    metadata,
    owner(),
    Column("id", Id, nullable=False),
    Column("title", String(300)),
    Column("title_key", String(600), nullable=False, server_default=""),
    Column("system_prompt", Text),
    Column("model", String(200)),
    Column("metadata", Json, nullable=False, server_default="{}"),
    Column("archived", Boolean, nullable=False, server_default=false()),
    Column("pinned", Boolean, nullable=False, server_default=false()),
    Column("active_leaf_id", BigInteger),
    Column("message_count", Integer, nullable=False, server_default="0"),
    moment("created_at"),
    moment("updated_at"),
    moment("active_at"),
    PrimaryKeyConstraint("user_id", "id"),
    Index(None, "user_id", "active_at", "id"),
    Index(None, "user_id", "title_key", "id"),
)

conversation_tags = Table(
    "conversation_tags",
    metadata,
    owner_of_parent(),
    Column("conversation_id", Id, nullable=False),
    Column("tag", String(100), nullable=False),
    PrimaryKeyConstraint("user_id", "conversation_id", "tag"),
    owned_by(CONVERSATION, "conversation_id"),
    Index(None, "user_id", "tag", "conversation_id"),
)

# A message that is its parent's first child goes on with the parent's line; each further child opens a line named after
# itself. (line_id, depth) then names one message, so a page of a branch is an index range for each line that the branch
# runs through, and two sends that race to answer the same message meet at the unique index.
messages = Table(
    "messages",
    metadata,
    owner_of_parent(),
    Column("id", Id, nullable=False),
    Column("conversation_id", Id, nullable=False),
    Column("parent_id", BigInteger),
    Column("line_id", BigInteger, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    # Of a message with images: its text and what the images are, in their order. `content` is the text among them.
    Column("parts", Json),
    Column("reasoning", Text),
    Column("status", String(16), nullable=False, server_default="completed"),
    Column("model", String(200)),
    Column("completion_id", BigInteger),
    Column("source_id", String(200)),
    Column("metadata", Json, nullable=False, server_default="{}"),
    moment("created_at"),
    PrimaryKeyConstraint("user_id", "id"),
    owned_by(CONVERSATION, "conversation_id"),
    # No cascade: databases run one level of it inside another, and talks are thousands of levels deep.
    ForeignKeyConstraint(["user_id", "parent_id"], ["messages.user_id", "messages.id"]),
    UniqueConstraint("user_id", "conversation_id", "line_id", "depth"),
    CheckConstraint("role IN ('system', 'user', 'assistant')", name="role"),
    CheckConstraint("depth >= 0", name="depth"),
    Index(None, "user_id", "created_at", "id"),
    Index(None, "user_id", "conversation_id", "created_at", "id"),
    Index(None, "user_id", "parent_id"),
)

completions = Table(
    "completions",
    metadata,
    owner(),
    Column("id", Id, nullable=False),
    Column("conversation_id", BigInteger),
    Column("message_id", BigInteger),
    Column("key_id", BigInteger),
    Column("model", String(200), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("temperature", Float),
    Column("max_tokens", Integer),
    Column("parameters", Json, nullable=False, server_default="{}"),
    Column("streamed", Boolean, nullable=False, server_default=false()),
    Column("stored", Boolean, nullable=False, server_default=true()),
    Column("status", String(16), nullable=False),
    Column("finish_reason", String(32)),
    Column("error_code", String(64)),
    Column("error_detail", String(1000)),
    Column("warnings", Json, nullable=False, server_default="[]"),
    Column("attempt_count", Integer, nullable=False, server_default="1"),
    Column("input_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost_nano", BigInteger),
    Column("first_token_ms", Integer),
    Column("duration_ms", Integer),
    Column("worker", String(64)),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("lease_expires_at", Instant),
    Column("cancel_requested_at", Instant),
    moment("created_at"),
    Column("finished_at", Instant),
    PrimaryKeyConstraint("user_id", "id"),
    owned_by(CONVERSATION, "conversation_id"),
    CheckConstraint(
        "status IN ('queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled')", name="status"
    ),
    Index(None, "user_id", "created_at", "id"),
    Index(None, "created_at", "id"),
    Index(None, "id"),
    Index(None, "user_id", "conversation_id"),
    Index(
        "ix_completions_running",
        "lease_expires_at",
        postgresql_where=text("status IN ('queued', 'in_progress')"),
        sqlite_where=text("status IN ('queued', 'in_progress')"),
    ),
    # Of an ended completion that was not to be stored the lease says how long its events are kept.
    Index(
        "ix_completions_unstored",
        "lease_expires_at",
        postgresql_where=text("NOT stored AND lease_expires_at IS NOT NULL"),
        sqlite_where=text("NOT stored AND lease_expires_at IS NOT NULL"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    owner_of_parent(),
    Column("completion_id", Id, nullable=False),
    Column("number", Integer, nullable=False),
    Column("provider", String(64), nullable=False),
    Column("upstream_model", String(200), nullable=False),
    Column("upstream_id", String(200)),
    Column("status", String(16), nullable=False),
    Column("error_kind", String(32)),
    Column("error_detail", String(1000)),
    moment("started_at"),
    Column("finished_at", Instant),
    PrimaryKeyConstraint("user_id", "completion_id", "number"),
    owned_by(COMPLETION, "completion_id"),
)

# A row holds the events that one commit made of one turn: `data` is a JSON list whose first has the number `seq`.
# A row with `spans` is folded: its text is in those parts of the turn's message or, when that went, in `said`
# (domain/folds.py). Eight columns at most: with a ninth that may be null Postgres' rows grow by eight bytes.
events = Table(
    "events",
    metadata,
    owner_of_parent(),
    Column("completion_id", Id, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("data", Text, nullable=False),
    Column("spans", Json),
    Column("said", Text),
    PrimaryKeyConstraint("user_id", "completion_id", "seq"),
    owned_by(COMPLETION, "completion_id"),
)

# No foreign keys: what was used and charged outlives the user and the conversation that caused it. A charge has the
# revision 0; its corrections count up, have the charge's `created_at`, no meters, and as cost what is to be added.
# `first_price` marks the correction of a charge without a price. `provenance` says who counted the meters.
# A trigger writes each entry into usage_deltas too: see ledger_tables.py.
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("user_id", Id, nullable=False),
    Column("id", Id, nullable=False),
    Column("completion_id", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("kind", String(16), nullable=False, server_default="charge"),
    Column("first_price", Boolean, nullable=False, server_default=false()),
    Column("conversation_id", BigInteger),
    Column("key_id", BigInteger),
    Column("model", String(200), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger),
    Column("price_source", String(32), nullable=False),
    Column("price_version", String(32), nullable=False, server_default=""),
    Column("provenance", String(16), nullable=False),
    Column("error_kind", String(64)),
    moment("created_at"),
    moment("booked_at"),
    PrimaryKeyConstraint("user_id", "id"),
    UniqueConstraint("user_id", "completion_id", "attempt", "revision"),
    Index(None, "user_id", "created_at", "id"),
    Index(None, "created_at", "id"),
)

# Written out, not bound: a bound list would keep Postgres from using the partial index.
running = completions.c.status.in_([literal_column("'queued'"), literal_column("'in_progress'")])
