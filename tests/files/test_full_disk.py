"""A full disk is a 507 that leaves no half file: by the kernel's limit, on a tiny file system, by what is kept free."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from secrets import token_bytes

import pytest
from llmock.testing import LLMockServer

from tests.conftest import MakeDatabase
from tests.files.shelves import Shelf, audit, shelf
from tests.servers.service import EVERTURN

MEGABYTE = 1_000_000


async def fill(own: Shelf, *, size: int) -> None:
    """A file that does not fit is refused and leaves nothing; what was there stays, and small ones still fit."""
    async with own.client() as client:
        assert (await client.put("/files/a", content=token_bytes(1000))).status_code == 201
        before, kept = own.on_disk(), (await client.get("/files/a")).content
        for path in ("/files/a", "/files/b"):
            refused = await client.put(path, content=token_bytes(size))
            assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
            assert own.on_disk() == before
        assert (await client.get("/files/a")).content == kept
        assert (await client.get("/files/b")).status_code == 404
        assert (await client.put("/files/b", content=token_bytes(1000))).status_code == 201


def test_a_file_that_may_not_grow(make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path: Path) -> None:
    """The kernel refuses to write past the limit, as it does on a disk without room."""
    limited = ("sh", "-c", f"ulimit -f 4096 && exec {' '.join(EVERTURN)} serve")
    with shelf(make_database, llmock_server, tmp_path, kind="postgres", command=limited) as own:
        asyncio.run(fill(own, size=6 * MEGABYTE))
        assert audit(own) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where this user may mount one."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_without_room(
    make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path: Path, tiny_disk: Path
) -> None:
    where = {"EVERTURN_FILES_DIR": str(tiny_disk)}
    with shelf(make_database, llmock_server, tmp_path, kind="sqlite", **where) as own:
        asyncio.run(fill(own, size=3 * MEGABYTE))
        asyncio.run(crowd(own))
        assert audit(own) == []


async def crowd(own: Shelf) -> None:
    """Many at once on a disk for few: each is whole or refused, and with room again all goes on."""
    async with own.client() as client:
        paths = [f"/files/crowd/{number}" for number in range(20)]
        replies = await asyncio.gather(*(client.put(path, content=token_bytes(300_000)) for path in paths))
        codes = [reply.status_code for reply in replies]
        assert set(codes) == {201, 507}
        for path, code in zip(paths, codes, strict=True):
            read = await client.get(path)
            assert (read.status_code, len(read.content) == 300_000) == ((200, True) if code == 201 else (404, False))
            if code == 201:
                assert (await client.delete(path)).status_code == 204
        assert (await client.put(paths[0], content=token_bytes(300_000))).status_code == 201


def test_what_is_kept_free_is_not_written_to(
    make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path: Path
) -> None:
    """The database may live on the same disk, and must not stop because files fill it."""
    spare = {"EVERTURN_SPARE_DISK_BYTES": str(2**60)}
    with shelf(make_database, llmock_server, tmp_path, kind="sqlite", **spare) as own:

        async def run() -> None:
            async with own.client() as client:
                refused = await client.put("/files/a", content=b"x")
                assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")

        asyncio.run(run())
        assert own.on_disk() == []
