"""What turns need to be cancelled from anywhere, and requests to be carried out once."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Id, Instant, now

revision: str = "2026_11_25_turns"
down_revision: str | None = "2026_11_23_foundation"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("completions", sa.Column("cancel_requested_at", Instant(), nullable=True))
    op.create_table(
        "claims",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("holder", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("completion_id", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_claims_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "key", "holder", name=op.f("pk_claims")),
        sa.UniqueConstraint("user_id", "key", name=op.f("uq_claims_user_id_key")),
    )
    op.create_index("ix_claims_created_at", "claims", ["created_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_claims_created_at", "claims")
    op.drop_table("claims")
    op.drop_column("completions", "cancel_requested_at")
