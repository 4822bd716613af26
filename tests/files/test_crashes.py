"""Files survive what happens to a service: killed at any moment, clients cut off, several workers, a lost disk."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes

import httpx2
import pytest
from llmock.testing import LLMockServer

from tests.conftest import KINDS, MakeDatabase
from tests.files.shelves import Shelf, audit, half_a_put, shelf, sweep

MEGABYTE = 1_000_000


@pytest.fixture(params=KINDS)
def own(
    request: pytest.FixtureRequest, make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path: Path
) -> Iterator[Shelf]:
    with shelf(make_database, llmock_server, tmp_path, kind=request.param) as made:
        yield made


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does. Raises TimeoutError."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # another process does it
            await asyncio.sleep(0.01)


def test_a_client_that_is_cut_off_leaves_nothing(place: Shelf) -> None:
    own = place.another()

    async def run() -> None:
        async with own.client() as client:
            await client.put("/files/a", content=b"before")
        here = len(own.on_disk())
        writer = await half_a_put(own, "a", token_bytes(3 * MEGABYTE), 5 * MEGABYTE)
        await until(lambda: len(own.on_disk()) == here + 1)
        writer.close()
        await until(lambda: len(own.on_disk()) == here)
        async with own.client() as client:
            assert (await client.get("/files/a")).content == b"before"

    asyncio.run(run())
    assert audit(own) == []


def test_a_kill_in_the_middle_of_an_upload_keeps_what_was_there(own: Shelf) -> None:
    async def cut() -> None:
        async with own.client() as client:
            await client.put("/files/a", content=b"before")
        writer = await half_a_put(own, "a", token_bytes(3 * MEGABYTE), 5 * MEGABYTE)
        await until(lambda: len(own.on_disk()) == 2)
        own.service.kill()
        writer.close()

    asyncio.run(cut())
    assert len(audit(own)) == 1
    assert sweep(own).unfinished == 1
    assert audit(own) == []
    own.service.start()
    assert httpx2.get(f"{own.service.url}/files/a", headers={"x-api-key": own.key}, verify=False).content == b"before"


@dataclass(slots=True)
class Held:
    """What a path must hold after a crash: what was answered last, or what was asked since."""

    answered: bytes | None = None
    asked: bytes | None = None


async def storm(own: Shelf, states: list[Held], seconds: float) -> None:
    """Writes and deletes with few contents, each path by one client, until the service is killed under them."""
    chosen = random.Random(7)
    contents = [token_bytes(size) for size in (1, 1000, 300_000, 2 * MEGABYTE)]

    async def work(client: httpx2.AsyncClient, number: int) -> None:
        state, path = states[number], f"/files/{number}"
        while True:
            state.asked = None if chosen.random() < 0.3 else chosen.choice(contents)
            write = client.delete(path) if state.asked is None else client.put(path, content=state.asked)
            assert (await write).status_code in (200, 201, 204, 404)
            state.answered = state.asked

    async with own.client() as client:
        workers = [asyncio.ensure_future(work(client, number)) for number in range(len(states))]
        await asyncio.sleep(seconds)
        own.service.kill()
        ends = await asyncio.gather(*workers, return_exceptions=True)
    assert all(isinstance(end, httpx2.TransportError) for end in ends), ends


async def look(own: Shelf, states: list[Held]) -> None:
    async with own.client() as client:
        for number, state in enumerate(states):
            read = await client.get(f"/files/{number}")
            found = read.content if read.status_code == 200 else None
            assert found in (state.answered, state.asked), number
            state.answered = found


@pytest.mark.slow
@pytest.mark.other
def test_kills_at_any_moment_lose_no_content_and_leave_no_waste(own: Shelf) -> None:
    states = [Held() for _ in range(8)]
    for seconds in (0.4, 0.9, 1.3):
        asyncio.run(storm(own, states, seconds))
        assert [line for line in audit(own) if not line.startswith("no row")] == []
        sweep(own)
        assert audit(own) == []
        own.service.start()
        asyncio.run(look(own, states))


def test_what_a_disk_lost_is_told_and_mended_by_writing_it_again(place: Shelf) -> None:
    own = place.another()

    async def run() -> None:
        async with own.client() as client:
            before = set(own.on_disk())
            await client.put("/files/a", content=b"content")
            [written] = set(own.on_disk()) - before
            written.unlink()
            lost = await client.get("/files/a")
            assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
            assert (await client.put("/files/a", content=b"content")).status_code == 200
            assert (await client.get("/files/a")).content == b"content"

    asyncio.run(run())
    assert audit(own) == []


def test_a_sweep_takes_nothing_that_is_needed(place: Shelf) -> None:
    own = place.another()

    async def run() -> None:
        async with own.client() as client:
            for number in range(30):
                await client.put(f"/files/{number}", content=token_bytes(1000))

    asyncio.run(run())
    assert sweep(own).unknown == 0
    assert audit(own) == []
