"""How far journals are folded."""

from sqlalchemy import BigInteger, Column, String, Table

from service.db.schema import metadata
from service.db.types import Instant

# Completions up to this one, by `created_at` and number, were looked at: see turns/folds.py. One row, of the noun
# `journals`, once there was something to fold.
folded_until = Table(
    "folded_until",
    metadata,
    Column("noun", String(32), primary_key=True),
    Column("created_at", Instant, nullable=False),
    Column("completion_id", BigInteger, nullable=False),
)
