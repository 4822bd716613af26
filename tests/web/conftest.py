"""A service behind a line that can be cut, and a provider that says its words slowly."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest

from tests.conftest import PEPPER, MakeDatabase, admin_key_for, new_user
from tests.evidence.provider import Provider
from tests.outages.relay import Relay
from tests.servers.service import Service

LEASE = 3


@dataclass(frozen=True, slots=True)
class Place:
    """What a page talks to: `url` is the line's end, `key` an ordinary user's."""

    service: Service
    provider: Provider
    relay: Relay
    admin_key: str
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.relay.port}"


@pytest.fixture(scope="module")
def standing(make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """On SQLite alone: a page knows nothing of databases."""
    provider = Provider()
    with make_database("sqlite") as url, provider.serving():
        environment = {
            "EVERTURN_DATABASE_URL": url,
            "EVERTURN_PEPPER": PEPPER,
            "EVERTURN_LOCAL_MODEL": "off",
            "EVERTURN_LEASE_SECONDS": str(LEASE),
            **provider.settings,
        }
        with Service(environment, tmp_path_factory.mktemp("web")) as service, Relay(service.port) as relay:
            yield Place(service, provider, relay, admin_key_for(url), "")


@pytest.fixture
async def place(standing: Place) -> Place:
    """The standing service, for somebody new."""
    headers = {"Authorization": f"Bearer {standing.admin_key}"}
    async with httpx2.AsyncClient(base_url=standing.service.url, headers=headers, verify=False) as admin:
        _, key = await new_user(admin)
    return Place(standing.service, standing.provider, standing.relay, standing.admin_key, key)
