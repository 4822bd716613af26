"""Folded journals: rows that tell their text from the turn's message, and how far they are folded."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from service.db.types import Instant, Json

revision: str = "2026_11_26_folds"
down_revision: str | None = "2026_11_26_totals"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
AT_ONCE = 500
FOLDED = f"""
    SELECT e.user_id, e.completion_id, e.seq, e.data, e.spans, e.said, m.content, m.reasoning
    FROM events e
    JOIN completions c ON c.user_id = e.user_id AND c.id = e.completion_id
    LEFT JOIN messages m ON m.user_id = c.user_id AND m.id = c.message_id
    WHERE e.spans IS NOT NULL LIMIT {AT_ONCE}
"""
PLAIN = """
    UPDATE events SET data = :data, spans = NULL, said = NULL
    WHERE user_id = :user_id AND completion_id = :completion_id AND seq = :seq
"""


def upgrade() -> None:
    op.add_column("events", sa.Column("spans", Json, nullable=True))
    op.add_column("events", sa.Column("said", sa.Text(), nullable=True))
    op.create_table(
        "folded_until",
        sa.Column("noun", sa.String(length=32), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("completion_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("noun", name=op.f("pk_folded_until")),
    )


def downgrade() -> None:
    # The version before tells from its rows alone: each gets its text back.
    connection = op.get_bind()
    while rows := connection.execute(sa.text(FOLDED)).all():
        connection.execute(sa.text(PLAIN), [_plain(row) for row in rows])
    op.drop_table("folded_until")
    op.drop_column("events", "said")
    op.drop_column("events", "spans")


def _plain(row: Any) -> dict[str, Any]:
    spans = json.loads(row.spans) if isinstance(row.spans, str) else row.spans
    text_at, text_size, thought_at, thought_size = spans
    content, reasoning = row.content or "", row.reasoning or ""
    said = row.said
    if said is None:
        said = content[text_at : text_at + text_size] + reasoning[thought_at : thought_at + thought_size]
    at = {"text": 0, "reasoning": text_size}
    events: list[tuple[str, Any]] = []
    for kind, value in json.loads(row.data)["folded"]:
        if kind not in at:
            events.append((kind, value))
            continue
        for size in _sizes(value):
            events.append((kind, said[at[kind] : at[kind] + size]))
            at[kind] += size
    data = json.dumps(events, ensure_ascii=False, separators=(",", ":"))
    return {"data": data, "user_id": row.user_id, "completion_id": row.completion_id, "seq": row.seq}


def _sizes(digits: str) -> list[int]:
    """Lengths in base 32, least digit first, one of the upper half where more follow."""
    sizes, size, unit = [], 0, 1
    for digit in digits:
        value = DIGITS.index(digit)
        size, unit = size + value % 32 * unit, unit * 32
        if value < 32:
            sizes.append(size)
            size, unit = 0, 1
    return sizes
