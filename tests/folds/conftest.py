"""A service that folds nothing by itself, on each kind of database, and a new user of it for each test."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache

import httpx2
import pytest

from tests.conftest import KINDS, Kind, MakeDatabase, Running, admin_key_for, bare_environment, new_user
from tests.folds.desk import Desk
from tests.servers.service import Service
from tests.turns.house import open_house


@pytest.fixture(scope="session")
def start_serving(
    make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Kind], Running]]:
    """Gives the session's service on a kind of database, and starts it when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def start(kind: Kind) -> Running:
            url = stack.enter_context(make_database(kind))
            key = admin_key_for(url)
            environment = bare_environment(url) | {"EVERTURN_JOURNAL_HOURS": "0"}
            return Running(stack.enter_context(Service(environment, tmp_path_factory.mktemp("service"))), url, key)

        yield start


@pytest.fixture(scope="session", params=KINDS)
def serving(request: pytest.FixtureRequest, start_serving: Callable[[Kind], Running]) -> Running:
    return start_serving(request.param)


@pytest.fixture
async def desk(serving: Running) -> AsyncIterator[Desk]:
    """Nothing runs before it, and nothing is left running: whatever is over is due."""
    clients = [httpx2.AsyncClient(base_url=serving.url, timeout=30, verify=False) for _ in range(2)]
    async with clients[0] as client, clients[1] as admin, open_house(serving.database_url, people=False) as house:
        admin.headers["Authorization"] = f"Bearer {serving.admin_key}"
        user_id, key = await new_user(admin)
        client.headers["Authorization"] = f"Bearer {key}"
        yield Desk(client, admin, user_id, house, serving.database_url)
