"""The schema's way up and down on both databases, and a service that refuses one that it does not know."""

import asyncio
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from service.db.all_tables import metadata
from service.db.engine import Database
from service.db.migrate import SCHEMA, check, downgrade, upgrade
from tests.conftest import PEPPER
from tests.servers.service import EVERTURN, UVICORN, Service, run_everturn

ENVIRONMENT = {"EVERTURN_PEPPER": PEPPER, "EVERTURN_LOCAL_MODEL": "off"}


def test_up_check_down_and_up_again(empty_database_url: str) -> None:
    for _ in range(2):
        upgrade(empty_database_url)
        check(empty_database_url)
        assert {name for name in tables(empty_database_url) if not name.startswith("search_")} == set(metadata.tables)
        upgrade(empty_database_url)
        downgrade(empty_database_url)
        assert tables(empty_database_url) == set()


def test_it_refuses_a_database_without_a_schema_and_says_how_to_make_it(
    empty_database_url: str, tmp_path: Path
) -> None:
    said = refusal(empty_database_url, tmp_path, UVICORN)
    assert f"The database's schema is empty, this version needs {SCHEMA}: run `everturn migrate`." in said
    done = run_everturn("migrate", environment={**ENVIRONMENT, "EVERTURN_DATABASE_URL": empty_database_url})
    assert (done.returncode, SCHEMA in done.stderr) == (0, True)
    check(empty_database_url)


def test_it_refuses_a_schema_that_it_does_not_know(database_url: str, tmp_path: Path) -> None:
    asyncio.run(_execute(database_url, "UPDATE alembic_version SET version_num = '2099_01_01_future'"))
    said = refusal(database_url, tmp_path, (*EVERTURN, "serve"))
    assert "2099_01_01_future" in said
    assert SCHEMA in said


def refusal(url: str, folder: Path, command: tuple[str, ...]) -> str:
    """What a service says that ends by itself, with an error, and answers nobody."""
    service = Service({**ENVIRONMENT, "EVERTURN_DATABASE_URL": url}, folder, command=command)
    service.launch()
    try:
        assert service.wait(30) != 0
    finally:
        service.kill()
    return service.log_text()


def tables(url: str) -> set[str]:
    """The tables of a database, beside alembic's own."""

    def read(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}

    async def ask() -> set[str]:
        database = Database(url)
        try:
            async with database.reading() as connection:
                return await connection.run_sync(read)
        finally:
            await database.close()

    return asyncio.run(ask())


async def _execute(url: str, statement: str) -> None:
    database = Database(url)
    try:
        async with database.transaction() as connection:
            await connection.execute(text(statement))
    finally:
        await database.close()
