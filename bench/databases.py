"""The databases of a run, all of them new and thrown away, and what is counted in them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import asyncpg  # type: ignore[import-untyped]  # it ships none

from bench.processes import BenchError
from service.db.engine import add_functions
from tests.servers import postgres as servers

Kind = Literal["sqlite", "postgres"]
Use = Literal["turns", "floor", "bare", "listing", "usage", "limits", "folding"]
USES: tuple[Use, ...] = ("turns", "floor", "listing", "usage", "limits", "folding")


@dataclass(frozen=True, slots=True)
class Databases:
    """Makes databases: files in `directory`, or databases of the Postgres server at `server` (a URL without a path)."""

    directory: Path
    server: str = ""

    def new(self, kind: Kind, use: Use) -> str:
        """The URL of a new, empty database. Once a run for each use."""
        if kind == "sqlite":
            return f"sqlite:///{self.directory / use}.db"
        execute(f"{self.server}/postgres", [f"CREATE DATABASE {_name(use)}"])
        return f"{self.server}/{_name(use)}"


class Stored(NamedTuple):
    """Rows of turns that are over and whole. They rise by one each with every answered turn."""

    completions: int
    answers: int
    entries: int

    def since(self, before: Stored) -> Stored:
        return Stored(*(now - then for now, then in zip(self, before, strict=True)))


@contextmanager
def postgres() -> Iterator[str]:
    """A Postgres server's URL without a path: EVERTURN_BENCH_POSTGRES, or a server of the run's own.

    Raises BenchError where it would not sync its commits: such figures would flatter.
    """
    given = os.environ.get("EVERTURN_BENCH_POSTGRES", "").rstrip("/")
    with nullcontext(given) if given else _own_server() as url:
        _check_durable(url)
        _drop(url)
        try:
            yield url
        finally:
            _drop(url)


@contextmanager
def _own_server() -> Iterator[str]:
    with servers.postgres() as server:
        yield server.url("").rstrip("/")


def stored(url: str, text: str) -> Stored:
    """Counts what the service wrote of turns that were answered with `text`."""
    answers = f"SELECT count(*) FROM messages WHERE role = 'assistant' AND status = 'completed' AND content = '{text}'"
    return Stored(
        number(url, "SELECT count(*) FROM completions WHERE status = 'completed'"),
        number(url, answers),
        number(url, "SELECT count(*) FROM ledger_entries"),
    )


def number(url: str, query: str) -> int:
    """The one number that a query gives."""
    if not is_postgres(url):
        with closing(sqlite3.connect(sqlite_path(url))) as connection:
            return int(connection.execute(query).fetchone()[0])

    async def fetch() -> int:
        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close()

    return asyncio.run(fetch())


def word(url: str, query: str) -> str:
    """The one text that a query gives, on Postgres."""

    async def fetch() -> str:
        connection = await asyncpg.connect(url)
        try:
            return str(await connection.fetchval(query))
        finally:
            await connection.close()

    return asyncio.run(fetch())


def execute(url: str, statements: Sequence[str]) -> None:
    """Runs statements, each committed on its own."""
    if not is_postgres(url):
        with closing(sqlite3.connect(sqlite_path(url), isolation_level=None)) as connection:
            add_functions(connection)
            for statement in statements:
                connection.execute(statement)
        return

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def is_postgres(url: str) -> bool:
    return url.startswith("postgresql://")


def sqlite_path(url: str) -> str:
    return url.removeprefix("sqlite:///")


def _name(use: Use) -> str:
    return f"everturn_bench_{use}"


def _drop(server_url: str) -> None:
    execute(f"{server_url}/postgres", [f"DROP DATABASE IF EXISTS {_name(use)} WITH (FORCE)" for use in USES])


def _check_durable(server_url: str) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        if not number(f"{server_url}/postgres", f"SELECT (current_setting('{setting}') = 'on')::int"):
            raise BenchError(f"Postgres runs with {setting} off; the figures would flatter")
