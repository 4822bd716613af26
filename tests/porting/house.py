"""Imports and exports on a real database, without HTTP around them."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Row, insert, text

from service.blobs.arriving import Arriving, Quota
from service.blobs.store import Store
from service.db.engine import Database
from service.db.ids import Ids
from service.db.tables import conversation_tags, conversations, messages, users
from service.domain.cursors import Cursors
from service.domain.porting.trees import place_all, untangle
from service.domain.titles import title_key
from service.repositories.paging import Pager
from service.usecases.exports import Exports
from service.usecases.files import Files
from service.usecases.imports import Imports, Outcome, Summary
from tests.porting.samples import Shape, file_of


@dataclass
class House:
    database: Database
    ids: Ids
    imports: Imports
    exports: Exports
    files: Files

    async def user(self) -> int:
        number = (await self.ids.take("user"))[0]
        async with self.database.transaction() as connection:
            row = {"id": number, "username": f"u{number}", "username_key": f"u{number}"}
            await connection.execute(insert(users), row)
        return number

    async def take(self, user_id: int, data: bytes | Shape) -> tuple[list[Outcome], Summary]:
        """Import a file, or one item of one."""
        upload = io.BytesIO(data if isinstance(data, bytes) else file_of(data))
        told = [one async for one in self.imports.run(user_id, upload, "upload")]
        *outcomes, summary = told
        assert isinstance(summary, Summary)
        return [one for one in outcomes if isinstance(one, Outcome)], summary

    async def take_one(self, user_id: int, item: Shape) -> Outcome:
        [outcome], _ = await self.take(user_id, item)
        return outcome

    async def give(self, user_id: int, form: Literal["ndjson", "chatgpt"] = "ndjson") -> bytes:
        return b"".join([piece async for piece in await self.exports.open(user_id, form)])

    async def rows(self, query: str, **values: Any) -> list[Row[Any]]:
        async with self.database.reading() as connection:
            return list(await connection.execute(text(query), values))

    async def write(self, statement: str, **values: Any) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(text(statement), values)

    async def talk(self, user_id: int, fields: Shape, nodes: list[Shape], links: Any) -> int:
        """A conversation as turns would have left it: rows without any source. `links` is a Talk with its tree."""
        number = (await self.ids.take("conversation"))[0]
        order = untangle(links)
        ids = dict(zip((one.source_id for one in order.given), await self.ids.take("message", len(nodes)), strict=True))
        places = place_all(order, ids)
        tags = fields.pop("tags")
        row = {**fields, "user_id": user_id, "id": number, "title_key": title_key(fields["title"])}
        leaf = ids[order.leaf] if order.leaf else None
        rows = [
            {**places[name]._asdict(), **nodes[int(name)], "user_id": user_id, "conversation_id": number}
            for name in places
        ]
        async with self.database.transaction() as connection:
            await connection.execute(insert(conversations), {**row, "active_leaf_id": leaf, "message_count": len(rows)})
            for tag in tags:
                own = {"user_id": user_id, "conversation_id": number, "tag": tag}
                await connection.execute(insert(conversation_tags), own)
            for one in rows:
                await connection.execute(insert(messages), one)
        return number


def comparable(export: bytes) -> list[bytes]:
    """The lines that an import restores."""
    return [one for one in export.splitlines() if json.loads(one)["type"] in ("conversation", "message")]


@asynccontextmanager
async def open_house(url: str, folder: Path) -> AsyncIterator[House]:
    database = Database(url, synchronous="normal")
    ids = Ids(database)
    try:
        store = Store(folder.parent / "files", spare_bytes=0)
        quota = Quota(100_000_000, 100)
        files = Files(database, Pager(Cursors(b"x" * 32)), store, Arriving(quota.bytes), quota=quota)
        imports = Imports(database, ids, folder, bring=files.bring, most_bytes=50_000_000)
        yield House(database, ids, imports, Exports(database, store), files)
    finally:
        await database.close()
