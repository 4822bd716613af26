"""The administrator's part of the catalogue: models registered or changed over REST, and every price that they had."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, PrimaryKeyConstraint, String, Table, false

from service.db.schema import metadata, moment
from service.db.types import Json


def _prices() -> list[Column[int]]:
    """Nano-dollars per million tokens."""
    return [Column(name, BigInteger) for name in ("input_nano", "output_nano", "cache_read_nano", "cache_write_nano")]


# A column that is null says nothing: there the settings, the published list or the provider itself are heard. Rows are
# never deleted and every change counts `version` up, so that count(*) and sum(version) tell whether anything changed.
models = Table(
    "models",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("provider", String(64)),
    Column("upstream", String(200)),
    Column("max_tokens", Integer),
    Column("max_output_tokens", Integer),
    *_prices(),
    Column("price_version", Integer),
    Column("tools", Boolean),
    Column("images", Boolean),
    Column("reasoning", Boolean),
    Column("fallbacks", Json),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("version", Integer, nullable=False, server_default="1"),
    moment("created_at"),
    moment("updated_at"),
)

# Append-only: a ledger entry's price_version is a version here, so what an entry was charged by can be looked up.
model_prices = Table(
    "model_prices",
    metadata,
    Column("model_id", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    *_prices(),
    moment("created_at"),
    PrimaryKeyConstraint("model_id", "version"),
)
