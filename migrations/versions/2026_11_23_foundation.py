"""The foundation: users, keys, conversations, messages, completions, events, ledger."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Id, Instant, Json, now

revision: str = "2026_11_23_foundation"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "id_blocks",
        sa.Column("noun", sa.String(length=32), nullable=False),
        sa.Column("next_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("noun", name=op.f("pk_id_blocks")),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("completion_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), server_default="charge", nullable=False),
        sa.Column("conversation_id", sa.BigInteger(), nullable=True),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=True),
        sa.Column("price_source", sa.String(length=32), nullable=False),
        sa.Column("price_version", sa.String(length=32), server_default="", nullable=False),
        sa.Column("provenance", sa.String(length=16), nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_ledger_entries")),
        sa.UniqueConstraint(
            "user_id",
            "completion_id",
            "attempt",
            "kind",
            name=op.f("uq_ledger_entries_user_id_completion_id_attempt_kind"),
        ),
    )
    op.create_index("ix_ledger_entries_created_at_id", "ledger_entries", ["created_at", "id"], unique=False)
    op.create_index(
        "ix_ledger_entries_user_id_created_at_id", "ledger_entries", ["user_id", "created_at", "id"], unique=False
    )

    op.create_table(
        "users",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("username", sa.String(length=100), nullable=False),
        sa.Column("username_key", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("email_key", sa.String(length=508), nullable=True),
        sa.Column("role", sa.String(length=16), server_default="user", nullable=False),
        sa.Column("external_id", sa.String(length=200), nullable=True),
        sa.Column("settings", Json, server_default="{}", nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.Column("updated_at", Instant(), server_default=now(), nullable=False),
        sa.CheckConstraint("role IN ('user', 'admin')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email_key", name=op.f("uq_users_email_key")),
        sa.UniqueConstraint("external_id", name=op.f("uq_users_external_id")),
        sa.UniqueConstraint("username_key", name=op.f("uq_users_username_key")),
    )
    op.create_index("ix_users_created_at_id", "users", ["created_at", "id"], unique=False)

    op.create_table(
        "conversations",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("title", sa.String(length=300), nullable=True),
        sa.Column("title_key", sa.String(length=600), server_default="", nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("model", sa.String(length=200), nullable=True),
        sa.Column("metadata", Json, server_default="{}", nullable=False),
        sa.Column("archived", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("pinned", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("active_leaf_id", sa.BigInteger(), nullable=True),
        sa.Column("message_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.Column("updated_at", Instant(), server_default=now(), nullable=False),
        sa.Column("active_at", Instant(), server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_conversations_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_conversations")),
    )
    op.create_index(
        "ix_conversations_user_id_active_at_id", "conversations", ["user_id", "active_at", "id"], unique=False
    )
    op.create_index(
        "ix_conversations_user_id_title_key_id", "conversations", ["user_id", "title_key", "id"], unique=False
    )

    op.create_table(
        "keys",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(length=100), server_default="", nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.Column("rotated_to", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind IN ('user', 'service', 'admin')", name=op.f("ck_keys_kind")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_keys_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_keys")),
        sa.UniqueConstraint("id", name=op.f("uq_keys_id")),
    )
    op.create_index("ix_keys_user_id_created_at_id", "keys", ["user_id", "created_at", "id"], unique=False)

    op.create_table(
        "user_tags",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("tag", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_tags_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "tag", name=op.f("pk_user_tags")),
    )
    op.create_index("ix_user_tags_tag_user_id", "user_tags", ["tag", "user_id"], unique=False)

    op.create_table(
        "completions",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("conversation_id", sa.BigInteger(), nullable=True),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("temperature", sa.Float(), nullable=True),
        sa.Column("max_tokens", sa.Integer(), nullable=True),
        sa.Column("parameters", Json, server_default="{}", nullable=False),
        sa.Column("streamed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("stored", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("finish_reason", sa.String(length=32), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.String(length=1000), nullable=True),
        sa.Column("warnings", Json, server_default="[]", nullable=False),
        sa.Column("attempt_count", sa.Integer(), server_default="1", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_nano", sa.BigInteger(), nullable=True),
        sa.Column("first_token_ms", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("worker", sa.String(length=64), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled')",
            name=op.f("ck_completions_status"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name=op.f("fk_completions_user_id_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_completions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_completions")),
    )
    op.create_index("ix_completions_created_at_id", "completions", ["created_at", "id"], unique=False)
    op.create_index("ix_completions_id", "completions", ["id"], unique=False)
    op.create_index(
        "ix_completions_running",
        "completions",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'in_progress')"),
        sqlite_where=sa.text("status IN ('queued', 'in_progress')"),
    )
    op.create_index(
        "ix_completions_user_id_conversation_id", "completions", ["user_id", "conversation_id"], unique=False
    )
    op.create_index(
        "ix_completions_user_id_created_at_id", "completions", ["user_id", "created_at", "id"], unique=False
    )

    op.create_table(
        "conversation_tags",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("conversation_id", Id, nullable=False),
        sa.Column("tag", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name=op.f("fk_conversation_tags_user_id_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "conversation_id", "tag", name=op.f("pk_conversation_tags")),
    )
    op.create_index(
        "ix_conversation_tags_user_id_tag_conversation_id",
        "conversation_tags",
        ["user_id", "tag", "conversation_id"],
        unique=False,
    )

    op.create_table(
        "messages",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("conversation_id", Id, nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("reasoning", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="completed", nullable=False),
        sa.Column("model", sa.String(length=200), nullable=True),
        sa.Column("completion_id", sa.BigInteger(), nullable=True),
        sa.Column("metadata", Json, server_default="{}", nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.CheckConstraint("role IN ('system', 'user', 'assistant')", name=op.f("ck_messages_role")),
        sa.CheckConstraint("depth >= 0", name=op.f("ck_messages_depth")),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name=op.f("fk_messages_user_id_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "parent_id"],
            ["messages.user_id", "messages.id"],
            name=op.f("fk_messages_user_id_parent_id"),
        ),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_messages")),
        sa.UniqueConstraint(
            "user_id",
            "conversation_id",
            "line_id",
            "depth",
            name=op.f("uq_messages_user_id_conversation_id_line_id_depth"),
        ),
    )
    op.create_index(
        "ix_messages_user_id_conversation_id_created_at_id",
        "messages",
        ["user_id", "conversation_id", "created_at", "id"],
        unique=False,
    )
    op.create_index("ix_messages_user_id_created_at_id", "messages", ["user_id", "created_at", "id"], unique=False)
    op.create_index("ix_messages_user_id_parent_id", "messages", ["user_id", "parent_id"], unique=False)

    op.create_table(
        "attempts",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("completion_id", Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("upstream_model", sa.String(length=200), nullable=False),
        sa.Column("upstream_id", sa.String(length=200), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_kind", sa.String(length=32), nullable=True),
        sa.Column("error_detail", sa.String(length=1000), nullable=True),
        sa.Column("started_at", Instant(), server_default=now(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id", "completion_id"],
            ["completions.user_id", "completions.id"],
            name=op.f("fk_attempts_user_id_completion_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "completion_id", "number", name=op.f("pk_attempts")),
    )
    op.create_table(
        "events",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("completion_id", Id, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "completion_id"],
            ["completions.user_id", "completions.id"],
            name=op.f("fk_events_user_id_completion_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "completion_id", "seq", name=op.f("pk_events")),
    )


def downgrade() -> None:
    op.drop_table("events")
    op.drop_table("attempts")
    op.drop_index("ix_messages_user_id_parent_id", "messages")
    op.drop_index("ix_messages_user_id_created_at_id", "messages")
    op.drop_index("ix_messages_user_id_conversation_id_created_at_id", "messages")

    op.drop_table("messages")
    op.drop_index("ix_conversation_tags_user_id_tag_conversation_id", "conversation_tags")

    op.drop_table("conversation_tags")
    op.drop_index("ix_completions_user_id_created_at_id", "completions")
    op.drop_index("ix_completions_user_id_conversation_id", "completions")
    op.drop_index(
        "ix_completions_running",
        "completions",
        postgresql_where=sa.text("status IN ('queued', 'in_progress')"),
        sqlite_where=sa.text("status IN ('queued', 'in_progress')"),
    )
    op.drop_index("ix_completions_id", "completions")
    op.drop_index("ix_completions_created_at_id", "completions")

    op.drop_table("completions")
    op.drop_index("ix_user_tags_tag_user_id", "user_tags")

    op.drop_table("user_tags")
    op.drop_index("ix_keys_user_id_created_at_id", "keys")

    op.drop_table("keys")
    op.drop_index("ix_conversations_user_id_title_key_id", "conversations")
    op.drop_index("ix_conversations_user_id_active_at_id", "conversations")

    op.drop_table("conversations")
    op.drop_index("ix_users_created_at_id", "users")

    op.drop_table("users")
    op.drop_index("ix_ledger_entries_user_id_created_at_id", "ledger_entries")
    op.drop_index("ix_ledger_entries_created_at_id", "ledger_entries")

    op.drop_table("ledger_entries")
    op.drop_table("id_blocks")
