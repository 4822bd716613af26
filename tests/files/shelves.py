"""What the tests of files share: a service of their own, an audit of rows against the disk, and requests by hand."""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

import httpx2
from llmock.testing import LLMockServer
from sqlalchemy import func, select

from service.blobs.store import Store
from service.db.engine import Database
from service.db.file_tables import blobs, file_usage, files, message_blobs
from service.usecases.upkeep import Swept, Upkeep
from tests.conftest import Kind, MakeDatabase, admin_key_for, service_environment
from tests.servers.service import EVERTURN, Service


@dataclass(frozen=True, slots=True)
class Shelf:
    """A service with a folder of files of its own, and the key of an ordinary user."""

    service: Service
    database_url: str
    folder: Path
    admin_key: str
    key: str
    user_id: int

    def another(self) -> "Shelf":
        """The same service with a new user."""
        user_id, key = new_user(self.service, self.admin_key)
        return replace(self, user_id=user_id, key=key)

    def client(self) -> httpx2.AsyncClient:
        headers = {"x-api-key": self.key}
        limits = httpx2.Limits(max_connections=200)
        return httpx2.AsyncClient(base_url=self.service.url, headers=headers, timeout=60, verify=False, limits=limits)

    def on_disk(self) -> list[Path]:
        """Every file below the folder, finished or not."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@contextmanager
def shelf(
    make_database: MakeDatabase,
    provider: LLMockServer,
    folder: Path,
    *,
    kind: Kind,
    command: Sequence[str] = (*EVERTURN, "serve"),
    **settings: str,
) -> Iterator[Shelf]:
    """A service with these settings, its files in `folder`/files unless they say where."""
    with make_database(kind) as url:
        admin = admin_key_for(url)
        where = settings.get("EVERTURN_FILES_DIR", str(folder / "files"))
        own = {"EVERTURN_FILES_DIR": where, "EVERTURN_SPARE_DISK_BYTES": "0", **settings}
        with Service(service_environment(url, provider) | own, folder, command=command) as service:
            user_id, key = new_user(service, admin)
            yield Shelf(service, url, Path(where), admin, key, user_id)


def new_user(service: Service, admin_key: str) -> tuple[int, str]:
    """An ordinary user's number and key."""
    with httpx2.Client(base_url=service.url, headers={"x-api-key": admin_key}, verify=False) as client:
        user_id = client.post("/users", json={"username": token_hex(6)}).json()["id"]
        return user_id, client.post(f"/users/{user_id}/keys", json={}).json()["key"]


def audit(shelf: Shelf) -> list[str]:
    """Where rows and disk do not agree: a row without its content, content without a row, a wrong count."""
    return asyncio.run(_audit(shelf))


def sweep(shelf: Shelf) -> Swept:
    """What the service does an hour after the fact, now."""

    async def run() -> Swept:
        database, store = Database(shelf.database_url), Store(shelf.folder)
        try:
            return await Upkeep(database, store, grace_seconds=-1).sweep()
        finally:
            store.close()
            await database.close()

    return asyncio.run(run())


async def _audit(shelf: Shelf) -> list[str]:
    database = Database(shelf.database_url)
    try:
        async with database.reading() as connection:
            rows = (await connection.execute(select(blobs))).all()
            named = {(row.user_id, row.sha256) for row in await connection.execute(select(files))}
            named |= {(row.user_id, row.sha256) for row in await connection.execute(select(message_blobs))}
            counts = select(files.c.user_id, func.count()).group_by(files.c.user_id)
            paths = {row[0]: row[1] for row in await connection.execute(counts)}
            usage = (await connection.execute(select(file_usage))).all()
    finally:
        await database.close()
    known = {f"{row.sha256}.{row.user_id}.{row.token}": row for row in rows}
    lying = {path.name: path for path in shelf.on_disk()}
    wrong = [f"no content: {name}" for name in known.keys() - lying.keys()]
    wrong += [f"no row: {name}" for name in lying.keys() - known.keys()]
    wrong += [f"nothing refers to {row.sha256}" for row in rows if (row.user_id, row.sha256) not in named]
    for name in known.keys() & lying.keys():
        content = lying[name].read_bytes()
        if hashlib.sha256(content).hexdigest() != known[name].sha256 or len(content) != known[name].size:
            wrong.append(f"other content: {name}")
    for row in usage:
        size = sum(one.size for one in rows if one.user_id == row.user_id)
        if (row.bytes, row.files) != (size, paths.get(row.user_id, 0)):
            wrong.append(f"counted {row.bytes}, {row.files}; there are {size}, {paths.get(row.user_id, 0)}")
    return wrong


async def half_a_put(shelf: Shelf, path: str, content: bytes, announced: int) -> asyncio.StreamWriter:
    """A PUT whose client has sent the head and some of the body, over a socket that stays open."""
    _, writer = await asyncio.open_connection("127.0.0.1", shelf.service.port)
    head = f"PUT /files/{path} HTTP/1.1\r\nHost: x\r\nx-api-key: {shelf.key}\r\nContent-Length: {announced}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    return writer
