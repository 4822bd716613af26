"""The database: one engine, short reads, and the only commit."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.db.failures import is_confused, is_rollback, translated
from service.domain.words import fold
from service.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

WRITES = "everturn_writes"
# The journal's statements find every row by its primary key. Left to itself the planner would plan them anew each time,
# or keep a plan from when the tables were small.
PLANNED_ONCE = (
    "SELECT set_config('plan_cache_mode', 'force_generic_plan', false),"
    " set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),"
    " set_config('enable_mergejoin', 'off', false)"
)
# A transaction that a deadlock or a serialization failure ended is tried so often, within about a second.
ROLLBACK_TRIES = 6
# A server that does not answer for so long is taken for gone; what was sent to it is sent again.
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 20
LOG_MILLISECONDS = 200
SQLITE_CONNECT = {"timeout": 30, "check_same_thread": False}

Result = TypeVar("Result")


class Database:
    """Connections to SQLite or Postgres. Repositories get a connection and never commit."""

    def __init__(
        self,
        url: str,
        *,
        pool: int = 10,
        synchronous: str = "full",
        statement_seconds: float | None = STATEMENT_SECONDS,
    ) -> None:
        self.url = async_url(url)
        self.dialect = self.url.get_backend_name()
        sqlite = self.dialect == "sqlite"
        self.engine = _sqlite(self.url, synchronous) if sqlite else _postgres(self.url, pool, statement_seconds)
        # The journal's own connection: it never queues behind readers, and its few large statements are planned once.
        self._journal = None if sqlite else _postgres(self.url, 1, statement_seconds, PLANNED_ONCE)
        self._thread = _WriterThread(self.url, synchronous) if self.dialect == "sqlite" else None
        self._writer = asyncio.Lock() if self.dialect == "sqlite" else None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose changes are thrown away. Raises DatabaseUnavailable."""
        with translated():
            async with self.engine.connect() as connection, _guarded(connection):
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose changes are committed when the block ends well. Raises DatabaseUnavailable.

        On SQLite one writer at a time: within the process by a lock, so that writers queue fairly and asleep, between
        processes by BEGIN IMMEDIATE and the busy timeout.
        """
        async with self._writer or nullcontext():
            with translated():
                async with self.engine.connect() as connection, _guarded(connection):
                    await connection.execution_options(**{WRITES: True})
                    await connection.begin()
                    yield connection
                    await connection.commit()

    async def atomically(self, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        """Do a whole transaction; again, when it was the victim of a deadlock or could not be serialized.

        Raises DatabaseUnavailable, also when that happened again and again.
        """
        for tries in range(ROLLBACK_TRIES):
            try:
                async with self.transaction() as connection:
                    return await work(connection)
            except DBAPIError as error:
                if not is_rollback(error):
                    raise
                log.info("a transaction was rolled back by the database: try %s", tries + 1)
            await asyncio.sleep(random.uniform(0.0, 0.02 * 2**tries))
        raise DatabaseUnavailable("The database rolled this back again and again; send again.")

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[AsyncConnection]:
        """The journal's connection to Postgres, where a statement commits itself: no BEGIN, no COMMIT."""
        assert self._journal, "for Postgres"
        with translated():
            async with self._journal.connect() as connection, _guarded(connection):
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def in_thread(self, work: Callable[[Connection], Result]) -> Result:
        """Do a whole SQLite transaction in the writer's thread: one change of threads instead of one a statement."""
        assert self._writer, "for SQLite"
        assert self._thread, "for SQLite"
        async with self._writer:
            with translated():
                return await asyncio.get_running_loop().run_in_executor(self._thread.executor, self._thread.run, work)

    async def empty_log(self) -> bool:
        """Have SQLite move its log into the file and cut it off; False where a reader stands in the way."""
        assert self._writer, "for SQLite"
        assert self._thread, "for SQLite"
        async with self._writer:
            with translated():
                return await asyncio.get_running_loop().run_in_executor(self._thread.executor, self._thread.empty_log)

    async def ping(self) -> None:
        """One round trip. Raises DatabaseUnavailable."""
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()
        if self._journal:
            await self._journal.dispose()
        if self._thread:
            self._thread.close()


class _WriterThread:
    """A synchronous connection to SQLite that belongs to one thread."""

    def __init__(self, url: URL, synchronous: str) -> None:
        self.executor = ThreadPoolExecutor(1, "sqlite-writer")
        self._engine = create_engine(
            url.set(drivername="sqlite"), pool_size=1, max_overflow=0, connect_args=SQLITE_CONNECT
        )
        _prepare_sqlite(self._engine, synchronous)

    def run(self, work: Callable[[Connection], Result]) -> Result:
        with self._engine.connect().execution_options(**{WRITES: True}) as connection:
            connection.begin()
            result = work(connection)
            connection.commit()
            return result

    def empty_log(self) -> bool:
        raw = self._engine.raw_connection()
        try:
            cursor = raw.cursor()
            # Writers wait meanwhile: a reader is not waited for long.
            cursor.execute(f"PRAGMA busy_timeout = {LOG_MILLISECONDS}")
            busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            cursor.execute(f"PRAGMA busy_timeout = {SQLITE_CONNECT['timeout'] * 1000}")
            return not busy
        finally:
            raw.close()

    def close(self) -> None:
        self.executor.shutdown()
        self._engine.dispose()


def async_url(url: str) -> URL:
    """The URL with the async driver that Everturn uses for its database. Raises ValueError for another database."""
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            return parsed.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres":
            # What libpq calls sslmode, as hosted databases' addresses do, asyncpg calls ssl.
            mode = parsed.query.get("sslmode")
            query = {name: value for name, value in parsed.query.items() if name != "sslmode"}
            return parsed.set(drivername="postgresql+asyncpg", query=query | ({"ssl": mode} if mode else {}))
        case other:
            raise ValueError(f"database_url names {other!r}; Everturn stores in sqlite or postgresql")


def _postgres(url: URL, pool: int, statement_seconds: float | None, setting: str = "") -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=False,
        pool_use_lifo=True,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": statement_seconds,
            "server_settings": {"application_name": "everturn", "timezone": "UTC"},
        },
    )
    if setting:
        event.listen(engine.sync_engine, "connect", lambda connection, _record: _execute(connection, setting))
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool connect anew where the driver has seen the server go: that costs no round trip, as a ping would."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server closed it")


def _execute(connection: Any, statement: str) -> None:
    """Set a new connection up, outside any transaction."""
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.close()
    connection.autocommit = False


def _sqlite(url: URL, synchronous: str) -> AsyncEngine:
    # The last one used is taken first: its cache is warm, and few are filled.
    engine = create_async_engine(url, pool_size=8, max_overflow=0, pool_use_lifo=True, connect_args=SQLITE_CONNECT)
    _prepare_sqlite(engine.sync_engine, synchronous)
    return engine


def _prepare_sqlite(engine: Engine, synchronous: str) -> None:
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        add_functions(connection)
        cursor = connection.cursor()
        for pragma in (
            "journal_mode = WAL",
            "foreign_keys = ON",
            f"synchronous = {synchronous}",
            # What is deleted is overwritten: not every SQLite is built so.
            "secure_delete = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)


def add_functions(connection: Any, _record: object = None) -> None:
    """What SQLite's triggers call, on a new connection: see migrations/versions/2026_11_25_search.py."""
    connection.create_function("search_words", 1, fold, deterministic=True)


@asynccontextmanager
async def together(connection: AsyncConnection) -> AsyncIterator[None]:
    """Several statements on the journal's connection to Postgres as one transaction."""
    committed = False
    await connection.exec_driver_sql("BEGIN")
    try:
        yield
        await connection.exec_driver_sql("COMMIT")
        committed = True
    finally:
        if not committed:
            # Whoever gets the connection next would be inside of it.
            await connection.invalidate()


@asynccontextmanager
async def _guarded(connection: AsyncConnection) -> AsyncIterator[None]:
    """Throws a connection away that did not answer in time: nobody knows what it is still doing."""
    try:
        yield
    except TimeoutError:
        await connection.invalidate()
        raise
    except DBAPIError as error:
        if is_confused(error):
            await connection.invalidate()
        raise
