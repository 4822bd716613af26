"""Erasure leaves no word of a user anywhere: a canary that is in every text of theirs is looked for in every place."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships none
import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from sqlalchemy import JSON, String
from sqlalchemy.engine import make_url

from service.db.all_tables import metadata
from tests.api.images import put, shown
from tests.api.steps import OPENAI, Json, ask, call, start_talk, stream
from tests.conftest import People, Running
from tests.patience import until
from tests.pictures import png
from tests.porting.samples import chatgpt, file_of

# Their texts are hashes, or our own.
WORDLESS = {"blobs", "message_blobs", "holds"}
LASTING = {"ledger_entries", "usage_deltas", "usage_rollups"}
TALKATIVE = (
    {
        table.name
        for table in metadata.sorted_tables
        if "user_id" in table.c and any(isinstance(column.type, String | JSON) for column in table.c)
    }
    - WORDLESS
    - LASTING
)
# What SQLite keeps beside: the documents and the index of the search.
SHADOWS = {"sqlite": {"search_documents", "search_index_data"}, "postgresql": {"search_documents"}}


@pytest.fixture
def where(running_service: Running) -> "Places":
    return Places(running_service)


class Places:
    """Everywhere that a service leaves something."""

    def __init__(self, running: Running) -> None:
        self._url = make_url(running.database_url)
        self._data = Path(running.service.environment["EVERTURN_DATA_DIR"])
        self._log = running.service.log
        self.kind = self._url.get_backend_name()

    def tables(self, word: str) -> set[str]:
        """The tables that hold a word, whatever their columns are."""
        rows = self._sqlite() if self.kind == "sqlite" else asyncio.run(self._postgres())
        return {name for name, row in rows if word in row.lower()}

    def files(self, word: str) -> set[str]:
        """The files that hold it anywhere in their bytes; those of a Postgres are not ours."""
        found = [path for path in self._data.rglob("*") if path.is_file()]
        if self.kind == "sqlite":
            found += Path(self._url.database or "").parent.glob("*.db*")
        return {path.name for path in (*found, self._log) if word.encode() in path.read_bytes().lower()}

    def _sqlite(self) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(self._url.database or "")) as connection:
            connection.text_factory = bytes
            made = "SELECT name FROM sqlite_master WHERE type = 'table'"
            names = [name.decode() for (name,) in connection.execute(made)]
            return [(name, str(row)) for name in names for row in connection.execute(f'SELECT * FROM "{name}"')]

    async def _postgres(self) -> list[tuple[str, str]]:
        connection = await asyncpg.connect(self._url.render_as_string(hide_password=False))
        try:
            found = []
            for (name,) in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
                rows = await connection.fetch(f'SELECT t::text FROM "{name}" AS t')
                found += [(name, said) for (said,) in rows]
            return found
        finally:
            await connection.close()


async def live(admin: httpx2.AsyncClient, client: httpx2.AsyncClient, llmock: LLMock, *, word: str) -> int:
    """A user who leaves a word wherever a user can leave one; → their number."""
    account = {
        "username": word,
        "email": f"{word}@example.org",
        "external_id": f"ext-{word}",
        "tags": [word],
        "settings": {"theme": word},
    }
    admin.headers["Idempotency-Key"] = token_hex(8)
    number: int = (await call(admin, "POST", "/users", account, expect=201))["id"]
    del admin.headers["Idempotency-Key"]
    made = await call(admin, "POST", f"/users/{number}/keys", {"name": word}, expect=201)
    await call(admin, "PATCH", f"/users/{number}", {"limits": {"requests_per_minute": 1000}}, expect=200)
    client.headers["Authorization"] = f"Bearer {made['key']}"
    more = {"title": word, "system_prompt": f"Say {word}", "tags": [word], "metadata": {"k": word}}
    talk = (await start_talk(client, f"Hello {word}", f"Hi {word} {'so ' * 3000}", **more))["id"]
    client.headers["Idempotency-Key"] = f"turn-{word}"
    llmock.reply(f"Answered by {word} in {word}")
    body = {"model": OPENAI, "content": f"What of {word}?", "stop": [f"stop {word}"], "stream": True}
    await stream(client, f"/conversations/{talk}/completions", body)
    client.headers["Idempotency-Key"] = f"message-{word}"
    await call(client, "POST", f"/conversations/{talk}/messages", {"role": "user", "content": word}, expect=201)
    del client.headers["Idempotency-Key"]
    llmock.fail(400, message=f"No {word} here")
    refused = {"model": OPENAI, "content": f"And {word}?"}
    await call(client, "POST", f"/conversations/{talk}/completions", refused, expect=422)
    llmock.reply(word)
    await ask(client, talk, f"Again: {word}", stop=[word])
    await call(client, "PATCH", f"/conversations/{talk}", {"title": f"Renamed {word}"}, expect=200)
    gone = (await start_talk(client, f"Deleted {word}"))["id"]
    await call(client, "DELETE", f"/conversations/{gone}", expect=204)
    await put(client, f"{word}/notes.txt", f"Notes on {word}".encode(), "text/plain")
    await put(client, f"{word}.png", png())
    seen = {"role": "user", "content": [{"type": "text", "text": f"See {word}"}, shown(f"{word}.png")]}
    await call(client, "POST", f"/conversations/{talk}/messages", seen, expect=201)
    report = await client.post("/users/me/import", content=file_of(chatgpt(f"c-{word}", title=word)))
    assert report.status_code == 200
    await call(client, "GET", f"/search?query={word}", expect=200)
    return number


@pytest.fixture
async def two(people: People, llmock: LLMock) -> tuple[str, int, str]:
    """Two users and what to look for; both have been everywhere. An index leaves out what a word begins with."""
    words = token_hex(8), token_hex(8)
    first = await live(people.admin, people.owner, llmock, word=f"canary{words[0]}")
    await live(people.admin, people.other, llmock, word=f"okapi{words[1]}")
    return words[0], first, words[1]


async def test_no_word_of_an_erased_user_is_left(people: People, two: tuple[str, int, str], where: Places) -> None:
    word, number, other = two
    assert await asyncio.to_thread(where.tables, word) >= TALKATIVE | SHADOWS[where.kind] | {"users"}
    assert await asyncio.to_thread(where.files, word)
    before = await everything(people.other)
    receipt = await call(people.admin, "DELETE", f"/users/{number}", expect=200)
    check_receipt(receipt, number)

    assert await asyncio.to_thread(where.tables, word) - {"search_index_data"} == set()

    async def overwritten() -> bool:
        return not await asyncio.to_thread(where.files, word)

    await until(overwritten, "the file to be scrubbed")
    assert receipt["overwritten"] is (where.kind == "sqlite")
    assert await asyncio.to_thread(where.tables, word) == set()

    assert await everything(people.other) == before
    assert await asyncio.to_thread(where.tables, other) >= TALKATIVE | SHADOWS[where.kind] | {"users"}
    found = await call(people.other, "GET", f"/search?query=okapi{other}", expect=200)
    assert found["total"] > 3
    assert (await call(people.admin, "GET", f"/usage?user_id={number}&group_by=user", expect=200))["total"]["requests"]


def check_receipt(receipt: Json, number: int) -> None:
    """It names every table that a user owns rows in, and counts what was made above."""
    erased = dict(receipt["erased"])
    owned = {table.name for table in metadata.sorted_tables if "user_id" in table.c} - LASTING
    assert (receipt["user_id"], set(erased)) == (number, owned | {"limits", "search_documents"})
    assert {name for name, count in erased.items() if not count} <= {"holds"}
    counted = {name: erased[name] for name in ("conversations", "keys", "files", "blobs", "limits", "claims")}
    assert counted == {"conversations": 2, "keys": 1, "files": 2, "blobs": 2, "limits": 1, "claims": 3}
    assert erased["search_documents"] <= erased["messages"]
    assert receipt["kept"] == {"ledger_entries": 3}


async def everything(client: httpx2.AsyncClient) -> list[Any]:
    """All that a user sees of their own."""
    paths = ("/users/me/export", "/files?limit=100", "/completions?limit=100")
    replies = [await client.get(path) for path in paths]
    assert {reply.status_code for reply in replies} == {200}
    file = (await call(client, "GET", "/files", expect=200))["items"][0]["path"]
    return [*(reply.text for reply in replies), (await client.get(f"/files/{file}")).text]
