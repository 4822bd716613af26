"""Export all that is a user's, in constant memory: in our own shape or ChatGPT's, one object a line.

No transaction stays open while a client reads: each page is read as of its own moment. What was committed before the
export began is in it, once; what is written meanwhile is in it or not.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from service.blobs.carrying import pieces_of
from service.blobs.store import Blob, Reader, Store
from service.db.engine import Database
from service.domain.meters import to_dollars
from service.domain.porting import carried, chatgpt_lines, everturn
from service.domain.porting.everturn import line, native_name
from service.errors import NotFound, Unavailable
from service.repositories import exports as rows
from service.repositories import files, users
from service.repositories.conversations import list_tags
from service.repositories.exports import START, Mark, Record

Format = Literal["ndjson", "chatgpt"]
List = Callable[[AsyncConnection, int, int], Coroutine[Any, Any, list[Record]]]
Stretch = Callable[[AsyncConnection, int, str, int], Coroutine[Any, Any, list[Record]]]
Again = Callable[[AsyncConnection], Coroutine[Any, Any, Record | None]]
FILES_AT_ONCE = 100
MOST_TRIES = 3
HIDDEN = ("user_id", "cost_nano", "answered_at", "message_id", "conversation_id")


class Exports:
    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store

    async def open(self, user_id: int, form: Format) -> AsyncGenerator[bytes]:
        """The lines, in pieces. Raises NotFound before the first one, DatabaseUnavailable at any of them."""
        async with self._database.reading() as connection:
            user = await users.find_user(connection, user_id)
            tags = (await users.list_tags(connection, [user_id])).get(user_id, [])
        if user is None:
            raise NotFound(f"There is no user {user_id}.")
        return self._chatgpt(user_id) if form == "chatgpt" else self._ndjson(user, tags)

    async def _ndjson(self, user: Record, tags: list[str]) -> AsyncGenerator[bytes]:
        counts = {"files": 0, "images": 0, "conversations": 0, "messages": 0}
        yield line("export", {"version": everturn.VERSION})
        yield line("user", {**_account(user), "tags": tags})
        async for key in self._each(rows.list_keys, user.id):
            yield line("key", key._asdict())
        # Before the messages, whose images they may be.
        async for row in self._blobs(files.list_files, user.id, "path"):
            counts["files"] += 1
            async for piece in self._file(row):
                yield piece
        async for row in self._blobs(files.list_unnamed, user.id, "sha256"):
            counts["images"] += 1
            async for piece in self._image(row):
                yield piece
        async for talk in self._each(rows.list_conversations, user.id):
            counts["conversations"] += 1
            yield line("conversation", await self._talk(talk))
            async for page in self._messages(user.id, talk.id):
                counts["messages"] += len(page)
                yield b"".join(line("message", _message(row)) for row in page)
        async for piece in self._account_of(user.id):
            yield piece
        yield line("end", counts)

    async def _blobs(self, find: Stretch, user_id: int, key: str) -> AsyncIterator[Record]:
        """All that `find` finds, in the order of `key`."""
        after = ""
        while True:
            async with self._database.reading() as connection:
                page = await find(connection, user_id, after, FILES_AT_ONCE)
            for row in page:
                yield row
            if not page:
                return
            after = getattr(page[-1], key)

    async def _file(self, row: Record) -> AsyncIterator[bytes]:
        """A file's line and its content; nothing where it was deleted meanwhile. Raises Unavailable."""
        found = await self._open(row, lambda connection: files.find_file(connection, row.user_id, row.path))
        if found is not None:
            yield line("file", carried.head_of(found[0]))
            async for piece in _data(*found):
                yield piece

    async def _image(self, row: Record) -> AsyncIterator[bytes]:
        """As `_file`, for an image that no file names."""
        found = await self._open(row, lambda connection: files.find_blob(connection, row.user_id, row.sha256))
        if found is not None:
            yield line("image", carried.image_of(found[0]))
            async for piece in _data(*found):
                yield piece

    async def _open(self, row: Record | None, again: Again) -> tuple[Record, Reader] | None:
        """Its content and what it is by then; None where it was deleted meanwhile. Raises Unavailable."""
        for _ in range(MOST_TRIES):
            if row is None:
                return None
            try:
                return row, await self._store.open(Blob(row.user_id, row.sha256, row.token, row.size))
            except FileNotFoundError:
                # Replaced or deleted since it was looked up: look again.
                async with self._database.reading() as connection:
                    row = await again(connection)
        raise Unavailable("The content of a file is missing on the service's disk.")

    async def _talk(self, talk: Record) -> dict[str, Any]:
        """A conversation's line. It names its active leaf as the messages' lines do."""
        async with self._database.reading() as connection:
            tags = await list_tags(connection, talk.user_id, [talk.id])
            leaf = await rows.find_name(connection, talk.user_id, talk.active_leaf_id)
        return {
            "source": talk.source or everturn.SOURCE,
            "id": talk.source_id or native_name(talk.id, talk.created_at),
            "title": talk.title,
            "system_prompt": talk.system_prompt,
            "model": talk.model,
            "tags": sorted(tags.get(talk.id, ())),
            "metadata": talk.metadata,
            "archived": talk.archived,
            "pinned": talk.pinned,
            "created_at": talk.created_at,
            "updated_at": talk.updated_at,
            "active_at": talk.active_at,
            "active_leaf": _name(leaf) if leaf else None,
        }

    async def _account_of(self, user_id: int) -> AsyncGenerator[bytes]:
        """The records of what was asked and what it cost: to be read, not to be restored."""
        async for page in self._pages(rows.list_completions, user_id):
            async with self._database.reading() as connection:
                attempts = await rows.list_attempts(connection, user_id, [row.id for row in page])
            for row in page:
                own = [_shown(one, "completion_id") for one in attempts if one.completion_id == row.id]
                message = native_name(row.message_id, row.answered_at) if row.answered_at else None
                yield line("completion", {**_shown(row), "message": message, "attempts": own})
        async for entry in self._each(rows.list_entries, user_id):
            yield line("ledger_entry", _shown(entry))

    async def _chatgpt(self, user_id: int) -> AsyncGenerator[bytes]:
        """A conversation a line, as an element of conversations.json; its nodes are written as they are read."""
        async for talk in self._each(rows.list_conversations, user_id):
            fields = await self._talk(talk)
            async with self._database.reading() as connection:
                roots = [_name(one) for one in await rows.list_roots(connection, user_id, talk.id)]
            yield chatgpt_lines.head(fields, roots)
            async for page in self._messages(user_id, talk.id):
                async with self._database.reading() as connection:
                    below = await rows.list_children(connection, user_id, [row.id for row in page])
                children: dict[int, list[str]] = {}
                for one in below:
                    children.setdefault(one.parent_id, []).append(_name(one))
                nodes = (
                    chatgpt_lines.node(_message(row), children.get(row.id, []), bool(talk.system_prompt))
                    for row in page
                )
                yield b"".join(nodes)
            yield chatgpt_lines.tail()

    async def _messages(self, user_id: int, conversation_id: int) -> AsyncIterator[list[Record]]:
        after = START
        while True:
            async with self._database.reading() as connection:
                page = await rows.list_messages(connection, user_id, conversation_id, after=after)
            if not page:
                return
            yield page
            after = Mark(page[-1].created_at, page[-1].id)

    async def _pages(self, find: List, user_id: int) -> AsyncIterator[list[Record]]:
        after = 0
        while True:
            async with self._database.reading() as connection:
                page = await find(connection, user_id, after)
            if not page:
                return
            yield page
            after = page[-1].id

    async def _each(self, find: List, user_id: int) -> AsyncIterator[Record]:
        async for page in self._pages(find, user_id):
            for row in page:
                yield row


async def _data(row: Record, reader: Reader) -> AsyncIterator[bytes]:
    async with aclosing(pieces_of(reader, row.size)) as pieces:
        async for piece in pieces:
            yield line("file_data", carried.data_of(piece))


def _account(user: Record) -> dict[str, Any]:
    names = ("username", "email", "role", "external_id", "settings", "created_at", "updated_at")
    return {name: user._mapping[name] for name in names}


def _message(row: Record) -> dict[str, Any]:
    parent = row.parent_id and (row.parent_name or native_name(row.parent_id, row.parent_created_at))
    return {
        "id": _name(row),
        "parent": parent,
        "role": row.role,
        "content": row.content,
        **({"parts": row.parts} if row.parts else {}),
        "reasoning": row.reasoning,
        "status": row.status,
        "model": row.model,
        "metadata": row.metadata,
        "created_at": row.created_at,
    }


def _name(row: Record) -> str:
    found: str = row.source_id or native_name(row.id, row.created_at)
    return found


def _shown(row: Record, *but: str) -> dict[str, Any]:
    """A record's columns, its cost as money."""
    found = dict(row._mapping)
    shown = {name: value for name, value in found.items() if name not in (*HIDDEN, *but)}
    return {**shown, "cost_usd": to_dollars(found["cost_nano"])} if "cost_nano" in found else shown
