"""A database whose disk is full: a 507 that leaves nothing, and turns that wait until there is room again."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from service.db.engine import Database
from service.db.migrate import upgrade
from service.db.tables import ledger_entries
from tests.conftest import KINDS, MakeDatabase
from tests.evidence.client import Seen
from tests.evidence.store import patiently
from tests.ledger.house import entry
from tests.outages.site import Asking, Site, known, open_site
from tests.servers.postgres import NOBODY, Postgres

MIB = 1024 * 1024
# Postgres' own catalogue takes 8 MB of it.
SIZE = 32 * MIB
COUNTS = [f"SELECT count(*) AS n FROM {table}" for table in ("conversations", "messages", "completions", "blobs")]
NOTICED = "database full"


@dataclass(frozen=True, slots=True)
class Disk:
    """A small file system with nothing on it but a database and the ballast."""

    place: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is free within the block."""
        ballast = self.place / "ballast"
        file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
        try:
            with suppress(OSError):
                while True:
                    os.write(file, bytes(MIB))
            with suppress(OSError):
                while True:
                    os.write(file, bytes(4096))
            yield
        finally:
            os.close(file)
            ballast.unlink()


@pytest.fixture
def disk() -> Iterator[Disk]:
    place = Path(tempfile.mkdtemp(prefix="everturn-tiny-", dir="/tmp"))  # where nobody, who is Postgres, gets as well
    options = f"size={SIZE},uid={NOBODY},gid={NOBODY},mode=0700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        place.rmdir()
        pytest.skip("this user may not mount a file system")
    yield Disk(place)
    subprocess.run(["umount", "--lazy", place], check=True)
    place.rmdir()


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, disk: Disk, tmp_path: Path) -> Iterator[Site]:
    """A site whose database lies on the small disk, and the files on another one."""
    settings = {"EVERTURN_FILES_DIR": str(tmp_path / "files")}
    with _placed(request, disk) as url:
        upgrade(url)
        with open_site(url, tmp_path, settings=settings) as made:
            yield made


@contextmanager
def _placed(request: pytest.FixtureRequest, disk: Disk) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{disk.place}/everturn.db"
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    if server.control is None:
        pytest.skip("that server's disks are somebody else's")
    space = disk.place / "space"
    space.mkdir()
    os.chown(space, NOBODY, NOBODY)
    server.execute(f"CREATE TABLESPACE tiny LOCATION '{space}'")
    try:
        server.execute("CREATE DATABASE tiny TABLESPACE tiny")
        yield server.url("tiny")
    finally:
        server.drop("tiny")
        server.execute("DROP TABLESPACE tiny")


def test_turns_wait_until_there_is_room_and_are_whole(site: Site, disk: Disk) -> None:
    """What was said before can be read; what runs loses nothing; what comes new is refused as a whole."""
    running = [site.ask("say:400 every:15 long:1500"), site.ask("say:60 every:15")]
    cases = [site.witnesses.new_case("say:4", streamed=False) for _ in range(20)]
    site.wait_for_words(running, 5)
    with disk.full():
        assert any(NOTICED in site.service.log_text() for _ in patiently()), "the disk was not full"
        # On Postgres small rows may find room in pages that are there already.
        askings = [site.send(case) for case in cases]
        seen = refused(askings)
        assert (seen.status, seen.json()["code"], seen.headers.get("retry-after")) == (507, "storage_full", None)
        for path in (f"/conversations/{cases[0].conversation}/messages", "/health/ready"):
            assert site.witnesses.ask("GET", path).status == 200
        assert not running[0].seen.done()
    accepted = [asking for asking in askings if asking.seen.result(60).status == 201]
    for asking in running:
        assert asking.seen.result(60).body.endswith(b"data: [DONE]\n\n")
    assert site.judge([*running, *accepted]) == []
    again = [asking for asking in askings if asking not in accepted]
    assert {asking.seen.result().status for asking in again} == {507}
    assert site.judge([known(asking.case, site.witnesses.send(asking.case)) for asking in again]) == []


def refused(askings: list[Asking]) -> Seen:
    for _ in patiently():
        for asking in askings:
            if asking.seen.done() and asking.seen.result().status != 201:
                return asking.seen.result()
    raise AssertionError("everything was let in")


def test_what_is_refused_leaves_nothing(site: Site, disk: Disk, tmp_path: Path) -> None:
    """Of what writes each is a 507 without a row or a file, and goes through when there is room again."""
    large = os.urandom(300_000).hex()
    history = [{"role": "user", "content": large}, {"role": "assistant", "content": "Yes."}]
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/conversation", {"messages": history}),
        ("POST", "/chat", {"role": "user", "content": large}),
        ("PUT", "/files/notes.json", {"a": 1}),
    ]
    # Before the disk is full: the first connection to a database of Postgres writes a file.
    before = site.witnesses.store.read(*COUNTS)
    with disk.full():
        for method, path, body in requests:
            seen = site.witnesses.ask(method, path, body)
            assert (seen.status, seen.json()["code"]) == (507, "storage_full"), (path, seen)
        assert site.witnesses.store.read(*COUNTS) == before
        assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
    for method, path, body in requests:
        assert site.witnesses.ask(method, path, body).status == 201, path
    assert site.witnesses.store.damage() == []


def test_report_without_room_is_refused_as_a_whole(make_database: MakeDatabase, disk: Disk, tmp_path: Path) -> None:
    """A large report is written to the disk for passing files before its first byte is sent."""
    path = "/download/report?bucket=hour&group_by=model&since=2026-01-01T00:00:00Z&until=2026-01-03T00:00:00Z"
    with make_database("postgres") as url:
        asyncio.run(book(url, datetime(2026, 1, 1, tzinfo=UTC), models=150))
        with open_site(url, tmp_path, settings={"TMPDIR": str(disk.place)}) as site:
            with disk.full():
                seen = site.witnesses.ask("GET", path)
                assert (seen.status, seen.json()["code"]) == (507, "storage_full"), seen
                assert "report" in seen.json()["detail"]
                assert site.witnesses.ask("GET", path.replace("hour", "month")).status == 200
            assert list(disk.place.glob("tmp*")) == []
            seen = site.witnesses.ask("GET", path)
            assert (seen.status, seen.body.count(b"\n")) == (200, 1 + 48 * 150)


async def book(url: str, since: datetime, *, models: int) -> None:
    """An entry in every hour of two days for each of many models with long names."""
    database = Database(url)
    rows = [
        entry(number, 1, since + timedelta(hours=number % 48), model=f"{number // 48}".rjust(200, "m"))
        for number in range(48 * models)
    ]
    async with database.transaction() as connection:
        for start in range(0, len(rows), 200):
            await connection.execute(insert(ledger_entries).values(rows[start : start + 200]))
    await database.close()
