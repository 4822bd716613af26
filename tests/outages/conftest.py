"""Sites whose database can be taken away: behind a relay, or on a Postgres of their own that is restarted."""

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from service.db.migrate import upgrade
from tests.conftest import MakeDatabase
from tests.outages.relay import Relay
from tests.outages.site import Site, open_site
from tests.servers.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def own_server() -> Iterator[Postgres]:
    """A Postgres that nobody else uses. It is crashed, but not its machine: what it wrote is there without a sync."""
    with postgres(durable=False, settings={"synchronous_commit": "on"}) as server:
        yield server


@pytest.fixture(scope="session")
def restarted(own_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on the server that is restarted."""
    url = own_server.create("restarted")
    upgrade(url)
    with open_site(url, tmp_path_factory.mktemp("restarted")) as site:
        yield site


@pytest.fixture(scope="session")
def relay(postgres_url: str) -> Iterator[Relay]:
    """What stands between the site `relayed` and its database."""
    with Relay(make_url(postgres_url).port or 5432) as between:
        yield between


@pytest.fixture(scope="session")
def postgres_url(make_database: MakeDatabase) -> Iterator[str]:
    """A database for the sites that share one."""
    with make_database("postgres") as url:
        yield url


@pytest.fixture(scope="session")
def relayed(postgres_url: str, relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that reaches its database through the relay."""
    with open_site(postgres_url, tmp_path_factory.mktemp("relayed"), port=relay.port) as site:
        yield site
