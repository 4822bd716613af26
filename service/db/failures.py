"""What the databases say when they fail, and what it means: away, full, or only this once."""

import logging

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.errors import DatabaseFull, DatabaseUnavailable

log = logging.getLogger(__name__)

# SQLSTATE classes that say "not now" rather than "not so": connection, resources, operator intervention, I/O.
UNAVAILABLE_STATES = ("08", "53", "57", "58")
# Primary result codes: busy, locked, I/O error, cannot open.
SQLITE_UNAVAILABLE = (5, 6, 10, 14)
# disk_full. The write-ahead log's index that cannot grow (SQLITE_IOERR_SHMSIZE) means the same as SQLITE_FULL.
FULL_STATE = "53100"
SQLITE_FULL = (13, 4874)


class translated:  # noqa: N801  # a with-block, written as a class because it stands on the hot path
    """Turns "the database is away" into DatabaseUnavailable, of which a full one is a kind; other errors pass."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        if _is_full(error):
            log.warning("database full")
            raise DatabaseFull("The database has no room; nothing of this was stored.") from error
        if _is_outage(error):
            log.warning("database unavailable: %s", type(getattr(error, "orig", error)).__name__)
            raise DatabaseUnavailable from error


def is_rollback(error: BaseException) -> bool:
    """A deadlock or a serialization failure: nothing is wrong with the work, it only has to be done again."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", "")).startswith("40")


def _is_full(error: BaseException) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code in SQLITE_FULL or code & 0xFF in SQLITE_FULL
    return getattr(error.orig, "sqlstate", None) == FULL_STATE


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, PoolTimeout | OSError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if is_confused(error):
        return True
    if state := getattr(error.orig, "sqlstate", None):
        return str(state).startswith(UNAVAILABLE_STATES)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in SQLITE_UNAVAILABLE
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def is_confused(error: DBAPIError) -> bool:
    """asyncpg lost track of what its connection is doing, as it does when that is cut at a bad moment."""
    return type(getattr(error.orig, "__cause__", None)).__name__ == "InternalClientError"
