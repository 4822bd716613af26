"""Every table: importing this module fills the metadata that migrations are compared with."""

from service.db import (
    claim_tables,
    file_tables,
    fold_tables,
    import_tables,
    ledger_tables,
    limit_tables,
    model_tables,
    tables,
)
from service.db.schema import metadata

__all__ = [
    "claim_tables",
    "file_tables",
    "fold_tables",
    "import_tables",
    "ledger_tables",
    "limit_tables",
    "metadata",
    "model_tables",
    "tables",
]
