"""Corrections of ledger entries, and rollups that a trigger and a fold keep."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from service.db.types import Id, Instant, now

revision: str = "2026_11_25_ledger"
down_revision: str | None = "2026_11_25_imports"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

OLD_UNIQUE = "uq_ledger_entries_user_id_completion_id_attempt_kind"
NEW_UNIQUE = "uq_ledger_entries_user_id_completion_id_attempt_revision"
METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
SUMS = ("requests", "errors", "unpriced", *METERS, "cost_nano")
DIMENSIONS = ("start", "model", "provider", "key_id")
# What one entry adds. Only a charge is a request; a correction that gives the first price takes the mark back.
ADDED = (
    "CASE WHEN {0}kind = 'charge' THEN 1 ELSE 0 END",
    "CASE WHEN {0}kind = 'charge' AND {0}error_kind IS NOT NULL THEN 1 ELSE 0 END",
    "CASE WHEN {0}cost_nano IS NULL THEN 1 WHEN {0}first_price THEN -1 ELSE 0 END",
    *(f"{{0}}{name}" for name in METERS),
    "coalesce({0}cost_nano, 0)",
)
INTO_DELTAS = f"INSERT INTO usage_deltas (user_id, entry_id, {', '.join((*DIMENSIONS, *SUMS))})"
START = {
    "postgresql": "CAST(floor(extract(epoch FROM {0}created_at) / 900) AS BIGINT) * 900",
    "sqlite": "{0}created_at / 900000000 * 900",
}
# Statement by statement, and rows of their own: whoever inserts entries waits for nobody.
ON_POSTGRES = (
    f"""
CREATE FUNCTION everturn_add_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {INTO_DELTAS}
    SELECT user_id, min(id), {START["postgresql"].format("")}, model, provider, coalesce(key_id, 0),
        {", ".join(f"sum({one.format('')})" for one in ADDED)}
    FROM added GROUP BY 1, 3, 4, 5, 6;
    RETURN NULL;
END $$""",
    """
CREATE TRIGGER add_usage AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION everturn_add_usage()""",
)
ON_SQLITE = (
    f"""
CREATE TRIGGER add_usage AFTER INSERT ON ledger_entries BEGIN
    {INTO_DELTAS}
    VALUES (NEW.user_id, NEW.id, {START["sqlite"].format("NEW.")}, NEW.model, NEW.provider, coalesce(NEW.key_id, 0),
        {", ".join(one.format("NEW.") for one in ADDED)});
END""",
)


def upgrade() -> None:
    with op.batch_alter_table("ledger_entries") as batch:
        batch.add_column(sa.Column("revision", sa.Integer(), server_default="0", nullable=False))
        batch.add_column(sa.Column("first_price", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch.add_column(sa.Column("error_kind", sa.String(length=64), nullable=True))
        batch.add_column(sa.Column("booked_at", Instant(), server_default=now(), nullable=False))
        batch.drop_constraint(OLD_UNIQUE, type_="unique")
        batch.create_unique_constraint(NEW_UNIQUE, ["user_id", "completion_id", "attempt", "revision"])
    op.create_table(
        "usage_deltas",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("entry_id", Id, nullable=False),
        *_columns(),
        sa.PrimaryKeyConstraint("user_id", "entry_id", name=op.f("pk_usage_deltas")),
    )
    op.create_table(
        "usage_rollups",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("span", sa.Integer(), nullable=False),
        *_columns(),
        sa.PrimaryKeyConstraint("user_id", "span", *DIMENSIONS, name=op.f("pk_usage_rollups")),
    )
    op.create_index("ix_usage_rollups_span_start", "usage_rollups", ["span", "start"], unique=False)
    dialect = op.get_bind().dialect.name
    for statement in ON_POSTGRES if dialect == "postgresql" else ON_SQLITE:
        op.execute(statement)
    # What is there already is folded like all that comes.
    op.execute("UPDATE ledger_entries SET booked_at = created_at")
    what = ("user_id", "id", START[dialect], "model", "provider", "coalesce(key_id, 0)", *ADDED)
    op.execute(f"{INTO_DELTAS} SELECT {', '.join(one.format('') for one in what)} FROM ledger_entries")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER add_usage ON ledger_entries")
        op.execute("DROP FUNCTION everturn_add_usage()")
    else:
        op.execute("DROP TRIGGER add_usage")
    op.drop_index("ix_usage_rollups_span_start", "usage_rollups")
    op.drop_table("usage_rollups")
    op.drop_table("usage_deltas")
    # The schema before knows no corrections: they are lost.
    op.execute("DELETE FROM ledger_entries WHERE revision > 0")
    with op.batch_alter_table("ledger_entries") as batch:
        batch.drop_constraint(NEW_UNIQUE, type_="unique")
        batch.create_unique_constraint(OLD_UNIQUE, ["user_id", "completion_id", "attempt", "kind"])
        for name in ("booked_at", "error_kind", "first_price", "revision"):
            batch.drop_column(name)


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in SUMS),
    ]
