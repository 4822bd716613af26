"""Budgets and limits, and the holds of running turns."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Id, Instant, now

revision: str = "2026_11_25_limits"
down_revision: str | None = "2026_11_25_search"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "limits",
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("subject_id", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("day_nano", "week_nano", "month_nano")),
        *(sa.Column(name, sa.Integer(), nullable=True) for name in ("requests_minute", "tokens_minute", "streams")),
        sa.CheckConstraint("scope IN ('all', 'key', 'user')", name=op.f("ck_limits_scope")),
        sa.PrimaryKeyConstraint("scope", "subject_id", name=op.f("pk_limits")),
    )
    op.create_table(
        "holds",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("completion_id", Id, nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("nano", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_holds_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "completion_id", name=op.f("pk_holds")),
    )
    op.create_index("ix_holds_created_at", "holds", ["created_at"], unique=False)
    op.create_index("ix_holds_key_id_created_at", "holds", ["key_id", "created_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_holds_key_id_created_at", "holds")
    op.drop_index("ix_holds_created_at", "holds")
    op.drop_table("holds")
    op.drop_table("limits")
