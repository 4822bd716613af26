"""Databases, a provider, services and people for the tests: all of them real."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from secrets import token_hex
from types import SimpleNamespace
from typing import Literal

import httpx2
import pytest
from llmock.testing import LLMockServer
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from service.config import Settings
from service.db.migrate import upgrade
from service.domain.callers import SCOPES
from service.main import build_core
from service.usecases.keys import KeyDraft
from service.usecases.users import UserDraft
from tests.servers.postgres import Postgres, existing, postgres
from tests.servers.service import FOREIGN, Service
from tests.servers.stock import Stock

Kind = Literal["sqlite", "postgres"]
CopyDatabase = Callable[[Kind, str | None], AbstractContextManager[str]]
MakeDatabase = Callable[[Kind], AbstractContextManager[str]]
KINDS: tuple[Kind, ...] = ("sqlite", "postgres")
OTHER_SERVER = "EVERTURN_TEST_DATABASE_URL"
# Tests of what is decided before a statement is sent, or after: they are many, and any database will do for them.
EDGE = (
    "tests/contract/",
    *(f"tests/api/test_{noun}.py" for noun in ("attacks", "bad_input", "file_attacks", "keys", "lists", "matrix")),
    *(f"tests/api/test_{noun}.py" for noun in ("image_refusals", "openapi", "places")),
    *(f"tests/api/test_{noun}.py" for noun in ("model_changes", "models", "once", "prompts", "service_keys", "users")),
)
# Tests of several services, of services that are killed, of disks that are full: they take seconds each.
COSTLY = (
    *("tests/crash/", "tests/files/", "tests/outages/", "tests/workers/"),
    *("tests/api/test_titles.py", "tests/folds/test_kills.py"),
)
# A run of several processes is over sooner where they come first, with others that start processes and wait.
LONG = (*COSTLY, "tests/torture/", "tests/web/", "tests/unit/test_cli.py", "tests/api/test_serving.py")
NO_CALLSPEC = SimpleNamespace(params={})
PEPPER = "a pepper for tests, long enough to pass"


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are processors: tests of several services wait for most of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the edge decides, and what is costly, is tried on Postgres each time, and on SQLite with the slow tests."""
    items.sort(key=lambda item: not item.location[0].startswith(LONG))
    for item in items:
        kinds = getattr(item, "callspec", NO_CALLSPEC).params.values()
        known = item.get_closest_marker("slow")
        if "sqlite" in kinds and item.location[0].startswith((*EDGE, *COSTLY)) and not known:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.other)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever configures a service on this machine does not reach the tests."""
    for name in [name for name in os.environ if name.startswith(FOREIGN) and name != OTHER_SERVER]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def start_postgres() -> Iterator[Callable[[], Postgres]]:
    """Gives the session's Postgres, and starts it when it is first asked for: a run on SQLite alone needs none."""
    with ExitStack() as stack:

        @cache
        def start() -> Postgres:
            if given := os.environ.get(OTHER_SERVER):
                return existing(given)
            return stack.enter_context(postgres(durable=False, settings={"max_connections": "200"}))

        yield start


@pytest.fixture(scope="session")
def postgres_server(start_postgres: Callable[[], Postgres]) -> Postgres:
    """A Postgres server: our own, or the one that EVERTURN_TEST_DATABASE_URL names."""
    return start_postgres()


@pytest.fixture(scope="session")
def copy_database(start_postgres: Callable[[], Postgres], tmp_path_factory: pytest.TempPathFactory) -> CopyDatabase:
    """Makes a database of a kind, empty or the copy of a template, for the time of a with-block."""

    @contextmanager
    def copy(kind: Kind, template: str | None) -> Iterator[str]:
        if kind == "sqlite":
            path = tmp_path_factory.mktemp("database") / "everturn.db"
            if template:
                shutil.copyfile(template, path)
            yield f"sqlite:///{path}"
            return
        server, name = start_postgres(), f"everturn_test_{token_hex(6)}"
        try:
            yield server.create(name, template)
        finally:
            server.drop(name)

    return copy


@pytest.fixture(scope="session")
def make_database(copy_database: CopyDatabase, start_postgres: Callable[[], Postgres]) -> Iterator[MakeDatabase]:
    """Makes a migrated database of a kind, for the time of a with-block: the copy of one that is migrated once."""
    with ExitStack() as stack:

        @cache
        def stock() -> Stock:
            copy = partial(copy_database, "postgres", template("postgres"))
            return stack.enter_context(Stock(start_postgres(), copy))

        @cache
        def template(kind: Kind) -> str | None:
            url = make_url(stack.enter_context(copy_database(kind, None)))
            upgrade(url.render_as_string(hide_password=False))
            return url.database

        yield lambda kind: stock().lent() if kind == "postgres" else copy_database(kind, template(kind))


@pytest.fixture(params=KINDS)
def empty_database_url(request: pytest.FixtureRequest, copy_database: CopyDatabase) -> Iterator[str]:
    """A database of the test's own without any schema, of each kind."""
    with copy_database(request.param, None) as url:
        yield url


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, make_database: MakeDatabase) -> Iterator[str]:
    """A migrated database of the test's own, of each kind."""
    with make_database(request.param) as url:
        yield url


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs, its database, and the key of its first admin."""

    service: Service
    database_url: str
    admin_key: str

    @property
    def url(self) -> str:
        return self.service.url


@pytest.fixture(scope="session")
def start_service(
    make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Kind], Running]]:
    """Gives the session's service on a kind of database, and starts it when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def start(kind: Kind) -> Running:
            url = stack.enter_context(make_database(kind))
            key = admin_key_for(url)
            service = Service(service_environment(url, llmock_server), tmp_path_factory.mktemp("service"))
            return Running(stack.enter_context(service), url, key)

        yield start


@pytest.fixture(scope="session", params=KINDS)
def running_service(request: pytest.FixtureRequest, start_service: Callable[[Kind], Running]) -> Running:
    """One service on each kind of database, for all tests that do not stop it; its provider is llmock.

    `llmock` in a test's arguments scripts the provider's answers and faults, and forgets those of the test before.
    """
    return start_service(request.param)


@dataclass(frozen=True, slots=True)
class People:
    """Clients of one service: its admin, two users who know nothing of each other, and somebody without a key."""

    admin: httpx2.AsyncClient
    owner: httpx2.AsyncClient
    other: httpx2.AsyncClient
    anonymous: httpx2.AsyncClient
    owner_id: int
    other_id: int


@pytest.fixture
async def people(running_service: Running) -> AsyncIterator[People]:
    """New users of the running service, so that tests do not see each other's data."""
    async with AsyncExitStack() as stack:

        async def client(key: str | None) -> httpx2.AsyncClient:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            # Plain HTTP: without this each client loads the machine's certificates, which takes 35 ms.
            made = httpx2.AsyncClient(base_url=running_service.url, headers=headers, timeout=30, verify=False)
            return await stack.enter_async_context(made)

        admin = await client(running_service.admin_key)
        (owner_id, owner_key), (other_id, other_key) = await new_user(admin), await new_user(admin)
        yield People(admin, await client(owner_key), await client(other_key), await client(None), owner_id, other_id)


@pytest.fixture
def http(people: People) -> httpx2.AsyncClient:
    """A client with the key of an ordinary, new user."""
    return people.owner


def bare_environment(database_url: str) -> dict[str, str]:
    """A service on this database, without any model."""
    return {
        "EVERTURN_DATABASE_URL": database_url,
        "EVERTURN_PEPPER": PEPPER,
        "EVERTURN_LOCAL_MODEL": "off",
        "EVERTURN_SQLITE_SYNCHRONOUS": "normal",
        "EVERTURN_DRAIN_SECONDS": "5",
        "EVERTURN_RETRIES": "0",
        "EVERTURN_BREAKER_FAILURES": "0",
    }


def service_environment(database_url: str, provider: LLMockServer) -> dict[str, str]:
    """A service on this database, with llmock for both wires: a priced, a known, an unpriced and a small model."""
    return bare_environment(database_url) | {
        "EVERTURN_OPENAI_API_KEY": "sk-test-openai-canary",
        "EVERTURN_OPENAI_BASE_URL": provider.base_url("openai"),
        "EVERTURN_ANTHROPIC_API_KEY": "sk-ant-test-canary",
        "EVERTURN_ANTHROPIC_BASE_URL": provider.base_url("anthropic"),
        "EVERTURN_MODELS": '[{"id": "gpt-4.1-mini", "provider": "openai", "input_price": "1", "output_price": "2"},'
        ' {"id": "claude-sonnet-4-5", "provider": "anthropic"}, {"id": "unpriced", "provider": "openai"},'
        ' {"id": "small", "provider": "openai", "max_tokens": 200, "input_price": "0", "output_price": "0"}]',
    }


def admin_key_for(database_url: str) -> str:
    """Make an admin and a key, as the command line does."""

    async def make() -> str:
        core = build_core(Settings(database_url=database_url, pepper=SecretStr(PEPPER)))
        try:
            admin = await core.users.create(UserDraft(username=f"root-{token_hex(4)}", role="admin"))
            return (await core.keys.create(admin.id, KeyDraft(kind="admin", scopes=SCOPES), None)).token
        finally:
            await core.close()

    return asyncio.run(make())


async def new_user(admin: httpx2.AsyncClient) -> tuple[int, str]:
    """A user's id and key."""
    made = await admin.post("/users", json={"username": f"user-{token_hex(6)}"})
    assert made.status_code == 201, made.text
    user_id = int(made.json()["id"])
    key = await admin.post(f"/users/{user_id}/keys", json={"name": "test"})
    assert key.status_code == 201, key.text
    return user_id, str(key.json()["key"])
