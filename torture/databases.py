"""The run's database: made new, hurt by the nemesis, and read row by row at the end."""

import asyncio
import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg  # type: ignore[import-untyped]  # it ships none
from sqlalchemy.engine import make_url

from tests.servers import postgres as servers
from torture.plan import POOL, Kind

METERS = "input_tokens cache_read_tokens cache_write_tokens output_tokens reasoning_tokens cost_nano"
SUMS = f"requests errors unpriced {METERS}"
# What the checker reads, by table. Columns are named, so that one which is missing is noticed.
COLUMNS = {
    "conversations": "user_id id title system_prompt active_leaf_id message_count",
    "messages": "user_id id conversation_id parent_id line_id depth role content reasoning status completion_id",
    "completions": "user_id id conversation_id message_id model provider temperature max_tokens streamed stored status"
    " finish_reason error_code attempt_count input_tokens cache_read_tokens cache_write_tokens output_tokens"
    " reasoning_tokens cost_nano epoch",
    "attempts": "user_id completion_id number provider upstream_model status error_kind",
    "events": "user_id completion_id seq last_seq data spans said",
    "ledger_entries": "user_id id completion_id attempt kind key_id model provider input_tokens cache_read_tokens"
    " cache_write_tokens output_tokens reasoning_tokens cost_nano provenance error_kind second",
    "usage_rollups": f"user_id span start model provider key_id {SUMS}",
    "usage_deltas": f"user_id start model provider key_id {SUMS}",
}
# `second` is when an entry was made, in seconds since 1970.
SECOND = {
    "sqlite": "created_at / 1000000",
    "postgres": "CAST(floor(extract(epoch FROM created_at)) AS BIGINT)",
}
# What runs, and what has ended without being stored and is still to be forgotten.
UNFINISHED = (
    "SELECT count(*) FROM completions"
    " WHERE status IN ('queued', 'in_progress') OR (NOT stored AND lease_expires_at IS NOT NULL)"
)
SETTINGS = {"max_connections": "120", "deadlock_timeout": "200ms"}


class Store(Protocol):
    """A database of a run."""

    kind: Kind

    def url(self, port: int | None = None) -> str:
        """Its address; for a worker by way of the relay at `port`, where there can be one."""

    @property
    def port(self) -> int | None:
        """Where it listens, if it does."""

    async def snapshot(self, *queries: str) -> list[list[tuple[Any, ...]]]:
        """What the queries give, all at one moment, read beside the workers."""


@contextmanager
def store(kind: Kind, folder: Path) -> Iterator["Sqlite | Postgres"]:
    """A new database, empty. Postgres syncs as in production: what it loses when it is killed would be its fault."""
    if kind == "sqlite":
        yield Sqlite(folder / "everturn.db")
        return
    with servers.postgres(settings=SETTINGS) as server:
        server.create("torture")
        yield Postgres(server)


class Sqlite:
    """A file."""

    kind: Kind = "sqlite"
    port: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path

    def url(self, port: int | None = None) -> str:  # noqa: ARG002  # a file is reached directly
        return f"sqlite:///{self.path}"

    async def snapshot(self, *queries: str) -> list[list[tuple[Any, ...]]]:
        with closing(self._connect()) as connection:
            connection.execute("BEGIN")
            return [connection.execute(query).fetchall() for query in queries]

    async def lock(self, seconds: float) -> None:
        """Keep every writer out for a while, as another program's long transaction would."""
        with closing(self._connect()) as connection:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
            await asyncio.sleep(seconds)
            connection.rollback()

    async def look(self, seconds: float) -> None:
        """Hold an old snapshot for a while, so that the write-ahead log cannot be folded back."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN")
            connection.execute(UNFINISHED).fetchall()
            await asyncio.sleep(seconds)
            connection.rollback()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)


class Postgres:
    """A server of the run's own."""

    kind: Kind = "postgres"

    def __init__(self, server: servers.Postgres) -> None:
        self._server = server

    @property
    def port(self) -> int | None:
        return self._server.address.port

    def url(self, port: int | None = None) -> str:
        address = make_url(self._server.url("torture"))
        return (address.set(port=port) if port else address).render_as_string(hide_password=False)

    async def snapshot(self, *queries: str) -> list[list[tuple[Any, ...]]]:
        connection = await asyncpg.connect(self.url(), timeout=10)
        try:
            async with connection.transaction(isolation="repeatable_read"):
                return [[tuple(row) for row in await connection.fetch(query)] for query in queries]
        finally:
            await connection.close()

    async def terminate(self, chance: random.Random) -> int:
        """End some or all of the workers' connections, as an administrator does; return how many."""
        most = chance.choice((1, 3, POOL * 4))
        (rows,) = await self.snapshot(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
            f" WHERE application_name = 'everturn' ORDER BY (state = 'active') DESC, random() LIMIT {most}) AS them"
        )
        return len(rows)

    async def restart(self, immediate: bool) -> None:
        """Stop and start the server."""
        await asyncio.to_thread(self._server.restart, "immediate" if immediate else "fast")


async def dump(database: Store, folder: Path) -> None:
    """Write every row that the checker reads to `folder`, a file of JSON lines for each table."""
    queries = []
    for table, names in COLUMNS.items():
        chosen = [SECOND[database.kind] if name == "second" else name for name in names.split()]
        queries.append(f"SELECT {', '.join(chosen)} FROM {table}")
    found = await database.snapshot(*queries)
    for (table, names), rows in zip(COLUMNS.items(), found, strict=True):
        write_rows(folder / f"{table}.jsonl", names.split(), rows)


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    with path.open("w") as file:
        for row in rows:
            file.write(json.dumps(dict(zip(columns, row, strict=True))) + "\n")
