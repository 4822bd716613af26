"""The stock of databases: each comes as it was made, whatever the test before did to it."""

import asyncio
from contextlib import ExitStack

import asyncpg  # type: ignore[import-untyped]  # it ships none
import pytest
from sqlalchemy.engine import make_url

from tests.conftest import MakeDatabase
from tests.servers.postgres import Postgres

USER = "INSERT INTO users (id, username, username_key) VALUES (1, 'ada', 'ada')"
KEY = "INSERT INTO keys (user_id, id, kind, hash, scopes) VALUES (1, 1, 'user', '', '[]')"


def name_of(url: str) -> str:
    return str(make_url(url).database)


def lent(make_database: MakeDatabase, server: Postgres, *statements: str) -> str:
    """The database on which these statements were run, and which was given back."""
    with make_database("postgres") as url:
        assert server.ask(name_of(url), "SELECT count(*) FROM users") == 0
        server.ask(name_of(url), "SELECT 1", *statements)
        return url


def test_a_database_comes_back_empty(make_database: MakeDatabase, postgres_server: Postgres) -> None:
    url = lent(make_database, postgres_server, USER, KEY)
    assert lent(make_database, postgres_server) == url


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE users ADD COLUMN odd integer",
        "ALTER TABLE keys DROP CONSTRAINT ck_keys_kind",
        "ALTER TABLE users RENAME COLUMN email TO mail",
        "DROP TABLE events",
        "CREATE FUNCTION odd() RETURNS integer LANGUAGE sql RETURN 1",
        "UPDATE alembic_version SET version_num = 'odd'",
        "DROP TABLE alembic_version",
    ],
)
def test_one_with_another_schema_does_not_come_back(
    make_database: MakeDatabase, postgres_server: Postgres, change: str
) -> None:
    url = lent(make_database, postgres_server, change)
    assert lent(make_database, postgres_server) != url


def test_what_is_still_connected_is_cut_off(make_database: MakeDatabase, postgres_server: Postgres) -> None:
    """A transaction that a test left open neither holds the next one up nor is committed into it."""

    async def leave(url: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"BEGIN; {USER}")
        stack.pop_all().close()
        with pytest.raises(asyncpg.PostgresConnectionError):
            await connection.execute("COMMIT")

    with ExitStack() as stack:
        url = stack.enter_context(make_database("postgres"))
        asyncio.run(leave(url))
    assert lent(make_database, postgres_server) == url
