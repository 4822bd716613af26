"""Deadlocks and serialization failures: what the database rolled back is done again, as a whole."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships none
import pytest

from tests.outages.relay import Relay
from tests.outages.site import Asking, Site, check

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'everturn' AND datname = current_database() AND wait_event_type = 'Lock'
"""
OLDER = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'everturn' AND datname = current_database() AND backend_start < $1
"""
STRICT = "ALTER DATABASE {} {} default_transaction_isolation"
# Of one conversation: its last message, which an end writes after the completion, and its completion.
ANSWER = (
    "SELECT id FROM messages WHERE conversation_id = $1 AND role = 'assistant' AND status = 'in_progress' FOR UPDATE"
)
COMPLETION = "UPDATE completions SET temperature = temperature WHERE conversation_id = $1"


class Rival:
    """Somebody else's transaction on the service's database."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def wait_until_it_blocks(self) -> None:
        """Return when a statement of the service's waits for a lock."""
        async with asyncio.timeout(20):
            while not await self.connection.fetchval(BLOCKED):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.02)


@pytest.fixture
async def rival(relayed: Site) -> AsyncIterator[Rival]:
    connection = await asyncpg.connect(relayed.witnesses.store.url)
    try:
        yield Rival(connection)
    finally:
        await connection.close()


@pytest.fixture
async def strict(rival: Rival, relayed: Site, relay: Relay) -> AsyncIterator[None]:
    """Every transaction of the service sees one moment, and fails where another one changed its rows since."""
    name = relayed.witnesses.store.url.rpartition("/")[2]
    await rival.connection.execute(STRICT.format(name, "SET") + " = 'repeatable read'")
    set_at = await rival.connection.fetchval("SELECT clock_timestamp()")
    relay.cut()
    async with asyncio.timeout(20):
        while await rival.connection.fetchval(OLDER, set_at):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.02)
    yield
    await rival.connection.execute(STRICT.format(name, "RESET"))
    relay.cut()


async def begun(site: Site, words: str) -> Asking:
    """A streamed turn of which something was said."""
    asking = await asyncio.to_thread(site.ask, words)
    await asyncio.to_thread(site.wait_for_words, [asking], 2)
    return asking


async def test_end_that_is_the_victim_of_a_deadlock_is_written_again(relayed: Site, rival: Rival) -> None:
    asking = await begun(relayed, "say:6 every:60")
    # It waits so long before it looks for a deadlock that the service's statement is found to be in one first.
    await rival.connection.execute("SET deadlock_timeout = '20s'")
    async with rival.connection.transaction():
        assert await rival.connection.fetchval(ANSWER, asking.case.conversation)
        await rival.wait_until_it_blocks()
        await asyncio.wait_for(rival.connection.execute(COMPLETION, asking.case.conversation), 15)
    await asyncio.to_thread(check, relayed, [asking], [])


@pytest.mark.usefixtures("strict")
async def test_end_that_cannot_be_serialized_is_written_again(relayed: Site, rival: Rival) -> None:
    asking = await begun(relayed, "say:6 every:60")
    async with rival.connection.transaction():
        await rival.connection.execute(COMPLETION, asking.case.conversation)
        await rival.wait_until_it_blocks()
    await asyncio.to_thread(check, relayed, [asking], [])


@pytest.mark.usefixtures("strict")
async def test_change_that_cannot_be_serialized_is_done_again(relayed: Site, rival: Rival) -> None:
    made = await asyncio.to_thread(relayed.witnesses.ask, "POST", "/conversations", {"title": "Before"})
    path, number = f"/conversations/{made.json()['id']}", made.json()["id"]
    async with rival.connection.transaction():
        await rival.connection.execute("UPDATE conversations SET pinned = true WHERE id = $1", number)
        change = asyncio.create_task(asyncio.to_thread(relayed.witnesses.ask, "PATCH", path, {"title": "After"}))
        await rival.wait_until_it_blocks()
    changed = await change
    assert (changed.status, changed.json()["title"], changed.json()["pinned"]) == (200, "After", True)
