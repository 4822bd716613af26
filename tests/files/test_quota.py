"""What one user may have: in bytes and in files, exactly, however many writes come at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_bytes

import httpx2
import pytest
from llmock.testing import LLMockServer

from tests.conftest import MakeDatabase
from tests.files.shelves import Shelf, audit, half_a_put, shelf

PIECE = 100_000
LIMITS = {
    "EVERTURN_USER_FILE_BYTES": str(10 * PIECE),
    "EVERTURN_USER_FILES": "12",
    "EVERTURN_MAX_FILE_BYTES": str(6 * PIECE),
}


@pytest.fixture
def own(place: Shelf) -> Iterator[Shelf]:
    """A user who has nothing yet."""
    yield place.another()
    assert audit(place) == []


async def pieces(size: int) -> AsyncIterator[bytes]:
    """A body without a length."""
    for _ in range(size // 1000):
        yield token_bytes(1000)


async def codes(client: httpx2.AsyncClient, count: int) -> list[int]:
    jobs = (client.put(f"/files/{number}", content=token_bytes(PIECE)) for number in range(count))
    return [reply.status_code for reply in await asyncio.gather(*jobs)]


async def test_a_hundred_writes_at_once_fit_exactly_ten(own: Shelf) -> None:
    async with own.client() as client:
        assert sorted(await codes(client, 100)) == [201] * 10 + [413] * 90
        refused = await client.put("/files/more", content=b"x")
        assert (refused.status_code, refused.json()["code"]) == (413, "quota_exceeded")
        assert refused.json()["quota_bytes"] == 10 * PIECE


async def fill_up(own: Shelf) -> None:
    async with own.client() as client:
        assert 1 <= (await codes(client, 60)).count(201) <= 10
        # What failed because others were on their way fits one after the other, to the last byte.
        for number in range(60):
            await client.put(f"/files/{number}", content=token_bytes(PIECE))
        page = (await client.get("/files", params={"limit": 100})).json()
        assert sum(one["size"] for one in page["items"]) == 10 * PIECE


async def overwrite(own: Shelf) -> None:
    contents = [token_bytes(PIECE) for _ in range(4)]
    async with own.client() as client:
        for _ in range(10):
            work = [client.put(f"/files/{n % 3}", content=contents[n % 4]) for n in range(16)]
            work += [client.delete(f"/files/{n % 3}") for n in range(6)]
            assert {reply.status_code for reply in await asyncio.gather(*work)} <= {200, 201, 204, 404, 413}


@pytest.mark.slow
@pytest.mark.other
def test_several_workers_keep_one_truth(
    make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path: Path
) -> None:
    with shelf(make_database, llmock_server, tmp_path, kind="postgres", EVERTURN_WORKERS="3", **LIMITS) as own:
        asyncio.run(fill_up(own))
        asyncio.run(overwrite(own.another()))
        assert audit(own) == []


async def test_space_comes_back(own: Shelf) -> None:
    async with own.client() as client:
        assert await codes(client, 10) == [201] * 10
        assert (await client.put("/files/0", content=token_bytes(PIECE))).status_code == 200, "one in place of another"
        assert (await client.put("/files/0", content=token_bytes(PIECE + 1))).status_code == 413
        assert (await client.delete("/files/1")).status_code == 204
        assert (await client.put("/files/0", content=token_bytes(2 * PIECE))).status_code == 200


async def test_the_same_content_counts_once_and_each_path_as_a_file(own: Shelf) -> None:
    content = token_bytes(5 * PIECE)
    async with own.client() as client:
        for number in range(12):
            assert (await client.put(f"/files/{number}", content=content)).status_code == 201
        refused = await client.put("/files/13", content=content)
        assert (refused.status_code, refused.json()["quota_files"]) == (413, 12)


async def test_a_file_has_its_own_limit(own: Shelf) -> None:
    async with own.client() as client:
        for body in (token_bytes(6 * PIECE + 1), pieces(7 * PIECE)):
            refused = await client.put("/files/a", content=body)
            assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
        assert (await client.put("/files/a", content=pieces(6 * PIECE))).status_code == 201
        other = await client.put("/users/me", content=token_bytes(3_000_000))
        assert other.status_code == 413, "other bodies keep theirs"


async def test_unfinished_uploads_count_while_they_last(own: Shelf) -> None:
    """Nobody fills the disk with uploads that never end."""
    halves = []
    for number in range(2):
        before = len(own.on_disk())
        halves.append(await half_a_put(own, f"half/{number}", b"x", 5 * PIECE))
        async with asyncio.timeout(10):
            while len(own.on_disk()) == before:  # noqa: ASYNC110  # nothing else tells that it was let in
                await asyncio.sleep(0.01)
    async with own.client() as client:
        await wait_for(client, 413)
        for half in halves:
            half.close()
        await wait_for(client, 201)


async def wait_for(client: httpx2.AsyncClient, status: int) -> None:
    async with asyncio.timeout(10):
        while (await client.put("/files/a", content=token_bytes(PIECE))).status_code != status:
            await client.delete("/files/a")
            await asyncio.sleep(0.02)


async def test_an_announced_giant_is_refused_before_it_comes(own: Shelf) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", own.service.port)
    writer.write(
        f"PUT /files/a HTTP/1.1\r\nHost: x\r\nx-api-key: {own.key}\r\n"
        "Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()
