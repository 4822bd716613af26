"""Two workers on each kind of database, started once, and a new user of them for each test."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache

import httpx2
import pytest

from tests.conftest import KINDS, Kind, MakeDatabase, admin_key_for, bare_environment, new_user
from tests.servers import workers
from tests.servers.provider import Provider, provider
from tests.servers.service import Service
from tests.servers.workers import Pair, Two


@pytest.fixture(scope="session")
def recorder() -> Iterator[Provider]:
    """The provider of all workers."""
    with provider() as made:
        yield made


@pytest.fixture(scope="session")
def start_pair(
    make_database: MakeDatabase, recorder: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Kind], Pair]]:
    """Gives the session's pair on a kind of database, and starts it when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def start(kind: Kind) -> Pair:
            url, files = stack.enter_context(make_database(kind)), tmp_path_factory.mktemp("files")
            environment = bare_environment(url) | workers.settings(recorder) | {"EVERTURN_FILES_DIR": str(files)}
            one, two = (Service(environment, tmp_path_factory.mktemp(name)) for name in ("one", "two"))
            for service in (one, two):
                stack.callback(service.kill)
            with ThreadPoolExecutor() as pool:
                list(pool.map(Service.start, (one, two)))
            return Pair(one, two, recorder, url, admin_key_for(url), files)

        yield start


@pytest.fixture(scope="session", params=KINDS)
def pair(request: pytest.FixtureRequest, start_pair: Callable[[Kind], Pair]) -> Pair:
    return start_pair(request.param)


@pytest.fixture
async def two(pair: Pair) -> AsyncIterator[Two]:
    """Both run, and somebody new may ask both."""
    await pair.start()
    async with httpx2.AsyncClient(base_url=pair.one.url, headers=bearer(pair.admin_key), verify=False) as admin:
        user_id, key = await new_user(admin)
    here, there = (
        httpx2.AsyncClient(base_url=one.url, headers=bearer(key), timeout=30, verify=False) for one in pair.services
    )
    async with here, there:
        yield Two(pair, user_id, here, there)


@pytest.fixture
async def stranger(two: Two) -> AsyncIterator[httpx2.AsyncClient]:
    """Another user."""
    pair = two.pair
    async with httpx2.AsyncClient(base_url=pair.one.url, headers=bearer(pair.admin_key), verify=False) as admin:
        _, key = await new_user(admin)
    async with httpx2.AsyncClient(base_url=pair.two.url, headers=bearer(key), timeout=30, verify=False) as made:
        yield made


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
