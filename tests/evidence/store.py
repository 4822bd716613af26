"""The database as it is, read beside the service: plain SQL through plain drivers, nothing of the service's."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships none
from sqlalchemy.engine import make_url

Row = dict[str, Any]
RUNNING = "status IN ('queued', 'in_progress')"
PATIENCE = 30.0
# Commits of one page: they fill the write-ahead log up to where SQLite empties it, and leave little to be moved.
FRAMES = 1100


@dataclass(frozen=True, slots=True)
class Store:
    """One database, named by its URL."""

    url: str

    @property
    def kind(self) -> str:
        return "sqlite" if self.url.startswith("sqlite") else "postgres"

    @property
    def path(self) -> str:
        """Of SQLite's file."""
        return str(make_url(self.url).database)

    def read(self, *queries: str) -> list[list[Row]]:
        """The rows of each query, all of one moment."""
        if self.kind == "sqlite":
            with closing(self._open()) as connection:
                connection.execute("BEGIN")
                return [[dict(row) for row in connection.execute(query)] for query in queries]
        return asyncio.run(_read(self.url, queries))

    def lapse(self, until: float) -> None:
        """End the leases that reach to `until` (seconds since 1970) at the most: those of a worker that is dead."""
        if self.kind == "sqlite":
            over, held = "1", f"lease_expires_at <= {int(until * 1_000_000)}"
        else:
            over, held = "now() - interval '1 second'", f"lease_expires_at <= to_timestamp({until})"
        self._write(f"UPDATE completions SET lease_expires_at = {over} WHERE finished_at IS NULL AND {held}")

    def running(self) -> int:
        """How many turns have not ended."""
        return int(self.read(f"SELECT count(*) AS n FROM completions WHERE {RUNNING}")[0][0]["n"])

    def settle(self) -> bool:
        """Wait until no turn runs; False where one still does after a long time."""
        return any(self.running() == 0 for _ in patiently())

    def damage(self) -> list[str]:
        """What SQLite finds wrong with its own file."""
        if self.kind != "sqlite":
            return []
        integrity, foreign = self.read("PRAGMA integrity_check", "PRAGMA foreign_key_check")
        return [str(row) for row in integrity if row != {"integrity_check": "ok"}] + [str(row) for row in foreign]

    def fill_log(self) -> None:
        """Make the next commit to SQLite's file a checkpoint as well."""
        if self.kind != "sqlite":
            return
        with closing(self._open()) as connection:
            for pragma in ("wal_autocheckpoint = 0", "synchronous = off"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("CREATE TABLE IF NOT EXISTS padding (n INTEGER)")
            for number in range(FRAMES):
                connection.execute("INSERT INTO padding VALUES (?) ON CONFLICT DO NOTHING", (number,))
                connection.execute("DELETE FROM padding")

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection

    def _write(self, statement: str) -> None:
        if self.kind == "sqlite":
            with closing(self._open()) as connection:
                connection.execute(statement)
        else:
            asyncio.run(_read(self.url, [statement]))


def patiently(seconds: float = PATIENCE) -> Iterator[int]:
    """Rounds with a little time between them, until it has been too long."""
    deadline = time.monotonic() + seconds
    round_ = 0
    while time.monotonic() < deadline:
        yield (round_ := round_ + 1)
        time.sleep(0.02)


async def _read(url: str, queries: tuple[str, ...] | list[str]) -> list[list[Row]]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            return [[dict(row) for row in await connection.fetch(query)] for query in queries]
    finally:
        await connection.close()
