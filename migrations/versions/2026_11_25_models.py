"""Models that an admin registers, re-prices or disables, and the prices that they had."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Instant, now

revision: str = "2026_11_25_models"
down_revision: str | None = "2026_11_25_turns"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=True),
        sa.Column("upstream", sa.String(length=200), nullable=True),
        sa.Column("max_tokens", sa.Integer(), nullable=True),
        sa.Column("max_output_tokens", sa.Integer(), nullable=True),
        sa.Column("input_nano", sa.BigInteger(), nullable=True),
        sa.Column("output_nano", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_nano", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_nano", sa.BigInteger(), nullable=True),
        sa.Column("price_version", sa.Integer(), nullable=True),
        sa.Column("tools", sa.Boolean(), nullable=True),
        sa.Column("images", sa.Boolean(), nullable=True),
        sa.Column("reasoning", sa.Boolean(), nullable=True),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.Column("updated_at", Instant(), server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
    )
    op.create_table(
        "model_prices",
        sa.Column("model_id", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("input_nano", sa.BigInteger(), nullable=True),
        sa.Column("output_nano", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_nano", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_nano", sa.BigInteger(), nullable=True),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", "version", name=op.f("pk_model_prices")),
    )


def downgrade() -> None:
    op.drop_table("model_prices")
    op.drop_table("models")
