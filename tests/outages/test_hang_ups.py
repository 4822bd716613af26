"""Clients that hang up in the middle of what is read for them: the next ones do not wait for it."""

import asyncio
import http.client
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.config import Settings
from service.db.engine import async_url
from service.db.tables import ledger_entries
from service.domain.history import Line
from service.main import build_core
from service.providers.registry import Registry
from service.usecases.conversations import Conversations, Draft
from service.usecases.keys import KeyDraft
from service.usecases.users import UserDraft
from tests.conftest import KINDS, PEPPER, MakeDatabase, bare_environment
from tests.evidence.client import head_of
from tests.ledger.house import entry
from tests.outages.readers import Reader
from tests.patience import until
from tests.servers.service import Service

TIMES = 10
# What an ordinary request may take meanwhile: it never waits for the pool, which gives up after ten seconds.
AT_ONCE = 6.0
LINES, LENGTH, ENTRIES = 150, 30_000, 6_000
SINCE = datetime(2026, 3, 1, tzinfo=UTC)
REPORT = "since=2026-03-01T00:00:00Z&until=2026-04-01T00:00:00Z&bucket=hour&group_by=conversation&group_by=model"
BUSY = """
    SELECT count(*) AS n FROM pg_stat_activity
    WHERE application_name = 'everturn' AND datname = current_database() AND state <> 'idle'
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """A service whose pool is two connections, and a user with megabytes of messages and of a report."""

    url: str
    service: Service
    key: str

    def hang_up(self, path: str, *, after: int) -> None:
        """Ask, and go away after so many bytes of the answer."""
        if after:
            with Reader(self.service.port, path, self.key) as reader:
                reader.more(after)
            return
        with socket.create_connection(("127.0.0.1", self.service.port)) as asking:
            asking.sendall(head_of("GET", path, key=self.key))
            time.sleep(0.03)

    def ask(self, path: str) -> float:
        """The seconds that a request takes that is answered as it should be."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.key}"})
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        reply.read()
        connection.close()
        return time.monotonic() - began


@pytest.fixture(scope="module", params=KINDS)
def shop(
    request: pytest.FixtureRequest, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with make_database(request.param) as url:
        key = asyncio.run(fill(url))
        environment = bare_environment(url) | {"EVERTURN_DATABASE_POOL": "2"}
        with Service(environment, tmp_path_factory.mktemp("shop")) as service:
            yield Shop(url, service, key)


async def fill(url: str) -> str:
    """Make the user; returns the key."""
    core = build_core(Settings(database_url=url, pepper=SecretStr(PEPPER)))
    try:
        user = await core.users.create(UserDraft("ada"))
        talks = Conversations(core.database, core.ids, core.pager, core.claims, core.images, Registry(()))
        lines = tuple(Line("user", f"{number} " * (LENGTH // 4)) for number in range(100, 100 + LINES))
        await talks.create(user.id, Draft(lines=lines))
        rows = [
            entry(n, user.id, SINCE + timedelta(minutes=n % 40_000), conversation_id=n % 997, model=f"m{n % 13}")
            for n in range(ENTRIES)
        ]
        async with core.database.transaction() as connection:
            await connection.execute(insert(ledger_entries), rows)
        return (await core.keys.create(user.id, KeyDraft(), None)).token
    finally:
        await core.close()


@pytest.mark.parametrize("after", [0, 1, 300_000], ids=["before it begins", "at its beginning", "in its middle"])
@pytest.mark.parametrize(
    "path", ["/users/me/export", "/users/me/export?format=chatgpt", f"/download/report?{REPORT}", f"/usage?{REPORT}"]
)
def test_one_who_hangs_up_holds_no_connection(shop: Shop, path: str, after: int) -> None:
    for _ in range(TIMES):
        shop.hang_up(path, after=after)
    assert shop.ask("/conversations") < AT_ONCE
    log = shop.service.log_text()
    assert "Z error" not in log, log[log.index("Z error") :][:3000]


async def test_what_nobody_waits_for_is_ended_by_the_database(shop: Shop) -> None:
    """Here it waits for a lock, as long as a report may take: two of them would fill the pool for ten seconds."""
    engine = create_async_engine(async_url(shop.url))
    if engine.dialect.name == "sqlite":
        pytest.skip("its readers wait for nobody")
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE ledger_entries IN ACCESS EXCLUSIVE MODE"))
        for path in (f"/download/report?{REPORT}", f"/usage?{REPORT}", f"/users/me/usage?{REPORT}") * 3:
            await asyncio.to_thread(shop.hang_up, path, after=0)
        assert await asyncio.to_thread(shop.ask, "/conversations") < AT_ONCE

        async def idle() -> bool:
            async with engine.connect() as looking:
                return not (await looking.execute(text(BUSY))).scalar_one()

        await until(idle, "the statements to end")
    await engine.dispose()
    assert await asyncio.to_thread(shop.ask, f"/usage?{REPORT}") < 10
