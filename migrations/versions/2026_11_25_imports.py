"""Where imported conversations and messages came from."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Id, Instant, now

revision: str = "2026_11_25_imports"
down_revision: str | None = "2026_11_25_models"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("source_id", sa.String(length=200), nullable=True))
    op.create_table(
        "imports",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("source_id", sa.String(length=200), nullable=False),
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name=op.f("fk_imports_user_id_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "source", "source_id", name=op.f("pk_imports")),
        sa.UniqueConstraint("user_id", "conversation_id", name=op.f("uq_imports_user_id_conversation_id")),
    )


def downgrade() -> None:
    op.drop_table("imports")
    op.drop_column("messages", "source_id")
