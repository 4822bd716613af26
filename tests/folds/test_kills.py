"""Services that fold by themselves, two at once, one of which is killed while it does."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.conftest import admin_key_for, bare_environment, new_user
from tests.patience import until
from tests.servers import workers
from tests.servers.provider import Plan, provider
from tests.servers.service import Service
from tests.servers.workers import Pair
from tests.workers.steps import chat, events_of, resume

STREAMS, WORDS, THOUGHTS = 16, 50, 15
# A second and a bit.
HOURS = "0.0004"
LEFT = "SELECT count(*) AS rows, count(spans) AS folded FROM events"


@pytest.fixture
def pair(database_url: str, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        recorder = stack.enter_context(provider())
        key = admin_key_for(database_url)
        settings = {"EVERTURN_FILES_DIR": str(tmp_path / "files"), "EVERTURN_JOURNAL_HOURS": HOURS}
        environment = bare_environment(database_url) | workers.settings(recorder) | settings
        folders = [tmp_path / name for name in ("one", "two")]
        for folder in folders:
            folder.mkdir()
        one, two = (Service(environment, folder) for folder in folders)
        for service in (one, two):
            stack.callback(service.kill)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Service.start, (one, two)))
        yield Pair(one, two, recorder, database_url, key, tmp_path)


async def test_one_of_two_that_fold_is_killed_and_every_stream_is_as_it_was(pair: Pair) -> None:
    bearer = {"Authorization": f"Bearer {pair.admin_key}"}
    async with (
        httpx2.AsyncClient(base_url=pair.one.url, headers=bearer, timeout=30, verify=False) as here,
        httpx2.AsyncClient(base_url=pair.two.url, headers=bearer, timeout=30, verify=False) as there,
    ):
        _, key = await new_user(here)
        here.headers["Authorization"] = there.headers["Authorization"] = f"Bearer {key}"
        plans = [pair.provider.plan("Où? 🙂", words=WORDS, thoughts=THOUGHTS, pace=0.004) for _ in range(STREAMS)]
        asked = (_ask(here, plan) for plan in plans)
        first = [reply.content for reply in await asyncio.gather(*asked)]

        async def folding() -> bool:
            return bool((await pair.rows(LEFT))[0].folded)

        await until(folding, "the first journal to be folded")
        await asyncio.to_thread(pair.one.kill)

        async def folded() -> bool:
            return tuple((await pair.rows(LEFT))[0]) == (STREAMS, STREAMS)

        await until(folded, "the other one to fold the rest")
        await pair.start()
        for told, plan, client in zip(first, plans, [here, there] * (STREAMS // 2), strict=True):
            number, events = int(told.split(b":", 2)[1]), events_of(told)
            assert len(events) == WORDS + 3
            assert await resume(client, number) == told
            for seq in (0, THOUGHTS, WORDS - 1, WORDS + 1):
                assert await resume(client, number, seq) == b"".join(events[seq + 1 :])
            again = await _ask(client, plan)
            assert (again.content, again.headers["Idempotency-Replayed"]) == (told, "true")
    assert "could not be folded" not in pair.one.log_text() + pair.two.log_text()


async def _ask(client: httpx2.AsyncClient, plan: Plan) -> httpx2.Response:
    """The same each time, with the same key."""
    key = {"Idempotency-Key": plan.question.split("-")[1]}
    return await client.post("/chat/completions/stream", json=chat(plan), headers=key)
