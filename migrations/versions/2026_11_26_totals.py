"""An aggregate for sums of bigints, of which Postgres makes numerics: a report makes thousands."""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_26_totals"
down_revision: str | None = "2026_11_26_fallbacks"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "CREATE AGGREGATE everturn_total(bigint)"
            " (SFUNC = int8pl, STYPE = bigint, COMBINEFUNC = int8pl, PARALLEL = SAFE)"
        )


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP AGGREGATE everturn_total(bigint)")
