"""Conversations: make them, list them, rename, tag, archive and delete them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.ids import Ids
from service.domain.filters import ConversationFilter
from service.domain.history import Line
from service.domain.paging import Ask, Page
from service.domain.titles import title_key
from service.domain.tree import place
from service.errors import NotFound
from service.repositories import conversations as rows
from service.repositories import messages
from service.repositories.paging import Pager


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation without its messages. `system_prompt` is left out of lists."""

    id: int
    user_id: int
    title: str | None
    model: str | None
    message_count: int
    active_leaf_id: int | None
    archived: bool
    pinned: bool
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    active_at: datetime
    system_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A conversation to be made, with the history that it starts with."""

    title: str | None = None
    system_prompt: str | None = None
    model: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    archived: bool = False
    pinned: bool = False
    lines: tuple[Line, ...] = ()


class Conversations:
    def __init__(self, database: Database, ids: Ids, pager: Pager) -> None:
        self._database = database
        self._ids = ids
        self._pager = pager

    async def create(self, user_id: int, draft: Draft) -> Conversation:
        """Make a conversation with its history, all of it or nothing."""
        conversation_id = (await self._ids.take("conversation"))[0]
        places = place(None, await self._ids.take("message", len(draft.lines)))
        row = {
            "user_id": user_id,
            "id": conversation_id,
            "title": draft.title,
            "title_key": title_key(draft.title),
            "system_prompt": draft.system_prompt,
            "model": draft.model,
            "metadata": draft.metadata,
            "archived": draft.archived,
            "pinned": draft.pinned,
            "active_leaf_id": places[-1].id if places else None,
            "message_count": len(places),
        }
        async with self._database.transaction() as connection:
            await rows.add_conversation(connection, row)
            await rows.set_tags(connection, user_id, conversation_id, draft.tags)
            if places:
                filled = zip(places, draft.lines, strict=True)
                made = [messages.row_of(user_id, conversation_id, where, line) for where, line in filled]
                await messages.add_messages(connection, made)
            return await self._read(connection, user_id, conversation_id)

    async def get(self, user_id: int, conversation_id: int) -> Conversation:
        """Raises NotFound, also for somebody else's."""
        async with self._database.reading() as connection:
            return await self._read(connection, user_id, conversation_id)

    async def page(self, user_id: int, chosen: ConversationFilter, ask: Ask) -> Page[Conversation]:
        """A page in three statements, however many conversations there are. Raises BadCursor."""
        async with self._database.reading() as connection:
            page = await rows.page_conversations(connection, self._pager, ask, user_id=user_id, chosen=chosen)
            tags = await rows.list_tags(connection, user_id, [row.id for row in page.items])
        return page.map(lambda row: _conversation(row, tags.get(row.id, [])))

    async def edit(
        self, user_id: int, conversation_id: int, values: dict[str, Any], tags: Sequence[str] | None
    ) -> Conversation:
        """Change what `values` names (title, system_prompt, model, metadata, archived, pinned). Raises NotFound."""
        if "title" in values:
            values = {**values, "title_key": title_key(values["title"])}
        async with self._database.transaction() as connection:
            if not await rows.edit_conversation(connection, user_id, conversation_id, values):
                raise not_found(conversation_id)
            if tags is not None:
                await rows.set_tags(connection, user_id, conversation_id, tags)
            return await self._read(connection, user_id, conversation_id)

    async def delete(self, user_id: int, conversation_id: int) -> None:
        """Delete it with its messages and completions; what they cost stays in the ledger. Raises NotFound."""
        async with self._database.transaction() as connection:
            if not await rows.delete_conversation(connection, user_id, conversation_id):
                raise not_found(conversation_id)

    async def _read(self, connection: AsyncConnection, user_id: int, conversation_id: int) -> Conversation:
        row = await rows.find_conversation(connection, user_id, conversation_id)
        if row is None:
            raise not_found(conversation_id)
        tags = await rows.list_tags(connection, user_id, [conversation_id])
        return _conversation(row, tags.get(conversation_id, []), row.system_prompt)


def not_found(conversation_id: int) -> NotFound:
    return NotFound(f"There is no conversation {conversation_id}.")


def _conversation(row: Row[Any], tags: list[str], system_prompt: str | None = None) -> Conversation:
    names = [name for name in Conversation.__slots__ if name not in ("tags", "system_prompt")]
    found = row._mapping
    return Conversation(**{name: found[name] for name in names}, tags=tags, system_prompt=system_prompt)
