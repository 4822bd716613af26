"""Migrated databases on a Postgres server, lent to one test after the other: emptying one is quicker than copying."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Self

import asyncpg  # type: ignore[import-untyped]  # it ships none
from sqlalchemy.engine import make_url

from tests.servers.postgres import Postgres

# What an interrupted test or a killed service left open ends; none of it writes to the next one's database.
ALONE = """
    SELECT bool_and(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""
# Whatever changes a schema writes rows of the catalog anew, or takes some away.
CATALOGS = ("pg_class", "pg_attribute", "pg_constraint", "pg_index", "pg_proc", "pg_trigger", "pg_type")
SHAPE = "SELECT concat_ws(' ', (SELECT version_num FROM alembic_version), {})".format(
    ", ".join(f"(SELECT count(*) || '/' || max(xmin::text::bigint) FROM {name})" for name in CATALOGS)
)
ROWS = """
    DO $$
    DECLARE name text;
    BEGIN
      SET LOCAL session_replication_role = replica;  -- neither foreign keys nor triggers
      FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('DELETE FROM %I', name);
      END LOOP;
    END $$"""


class Stock:
    """Databases as `copy` makes them, thrown away at the end. One whose schema was changed is lent only once."""

    def __init__(self, server: Postgres, copy: Callable[[], AbstractContextManager[str]]) -> None:
        self._server = server
        self._copy = copy
        self._copies = ExitStack()
        self._shapes: dict[str, object] = {}
        self._free: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copies.close()

    @contextmanager
    def lent(self) -> Iterator[str]:
        """The URL of a database without rows, for the time of a with-block."""
        url = self._free.pop() if self._free else self._new()
        yield url
        if self._emptied(url):
            self._free.append(url)

    def _new(self) -> str:
        url = self._copies.enter_context(self._copy())
        self._shapes[url] = self._server.ask(_name(url), SHAPE)
        return url

    def _emptied(self, url: str) -> bool:
        """Whether it is again as it was made: not after a change of its schema, nor where one may do too little."""
        try:
            if self._server.ask(_name(url), ALONE, SHAPE) != self._shapes[url]:
                return False
            self._server.ask(_name(url), ROWS)
        except asyncpg.PostgresError:
            return False
        return True


def _name(url: str) -> str:
    return str(make_url(url).database)
