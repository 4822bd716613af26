"""Find the completions that were not to be stored and whose events are to go."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "2026_11_25_unstored"
down_revision: str | None = "2026_11_25_limits"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

WHERE = sa.text("NOT stored AND lease_expires_at IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_completions_unstored",
        "completions",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=WHERE,
        sqlite_where=WHERE,
    )


def downgrade() -> None:
    op.drop_index("ix_completions_unstored", "completions")
