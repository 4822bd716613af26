"""The fallbacks of a model, as an admin has them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Json

revision: str = "2026_11_26_fallbacks"
down_revision: str | None = "2026_11_26_parts"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("models", sa.Column("fallbacks", Json, nullable=True))


def downgrade() -> None:
    op.drop_column("models", "fallbacks")
