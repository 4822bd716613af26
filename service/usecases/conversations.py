"""Conversations: make them, list them, rename, tag, archive and delete them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.blobs.store import Blob
from service.db.engine import Database
from service.db.ids import Ids
from service.domain.claims import Claim
from service.domain.filters import ConversationFilter
from service.domain.history import Line
from service.domain.paging import Ask, Page
from service.domain.titles import title_key
from service.domain.tree import Place, Position, place
from service.errors import Conflict, ConversationBusy, NotFound
from service.providers.registry import Registry
from service.repositories import conversations as rows
from service.repositories import files, messages
from service.repositories.forks import copy_messages
from service.repositories.paging import Pager
from service.repositories.removals import delete_conversation
from service.turns.claims import Claims, Once
from service.turns.images import Images

CHANGED = "The conversation changed meanwhile; read it and send again."


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


@dataclass(frozen=True, slots=True)
class Fork:
    """A copy of a conversation up to `message_id`, or to its active leaf; without a title it has the same."""

    message_id: int | None = None
    title: str | None = None


class Conversations:
    def __init__(
        self, database: Database, ids: Ids, pager: Pager, claims: Claims, images: Images, registry: Registry
    ) -> None:
        self._registry = registry
        self._claims = claims
        self._images = images
        self._database = database
        self._ids = ids
        self._pager = pager

    async def create(self, user_id: int, draft: Draft, *, claim: Claim | None = None) -> Once[Conversation]:
        """Make a conversation with its history, all of it or nothing.

        Raises UnknownModel, and what `Images.settled` raises.
        """
        if draft.model is not None:
            # What an earlier request made is said again, though its model may be gone by now.
            if done := await self._claims.done(claim, kind=Conversation):
                return done
            await self._registry.find_model(draft.model)
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

        async def work(connection: AsyncConnection, lines: tuple[Line, ...]) -> Conversation:
            await rows.add_conversation(connection, row)
            await rows.set_tags(connection, user_id, conversation_id, draft.tags)
            if places:
                filled = zip(places, lines, strict=True)
                made = [messages.row_of(user_id, conversation_id, where, line) for where, line in filled]
                await messages.add_messages(connection, made)
            return await self._read(connection, user_id, conversation_id)

        async with self._images.settled(user_id, draft.lines, claim=claim) as lines:
            return await self._claims.once(claim, partial(work, lines=lines), kind=Conversation)

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
        """Change what `values` names (title, system_prompt, model, metadata, archived, pinned).

        Raises NotFound, UnknownModel for another model than it has: the one that it has may be gone.
        """
        model = values.get("model")
        if (
            model
            and not self._registry.known_model(model)
            and (await self.get(user_id, conversation_id)).model != model
        ):
            await self._registry.find_model(model)
        if "title" in values:
            values = {**values, "title_key": title_key(values["title"])}

        async def work(connection: AsyncConnection) -> Conversation:
            if not await rows.edit_conversation(connection, user_id, conversation_id, values):
                raise not_found(conversation_id)
            if tags is not None:
                await rows.set_tags(connection, user_id, conversation_id, tags)
            return await self._read(connection, user_id, conversation_id)

        return await self._database.atomically(work)

    async def activate(self, user_id: int, conversation_id: int, message_id: int) -> Conversation:
        """Make a message the active leaf: the conversation goes on after it. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Conversation:
            await self._position(connection, user_id, conversation_id, message_id)
            await rows.edit_conversation(connection, user_id, conversation_id, {"active_leaf_id": message_id})
            return await self._read(connection, user_id, conversation_id)

        return await self._database.atomically(work)

    async def fork(
        self, user_id: int, conversation_id: int, fork: Fork, *, claim: Claim | None = None
    ) -> Once[Conversation]:
        """A new conversation with a copy of the branch up to a message, or up to the active leaf.

        Raises NotFound, ConversationBusy while that branch is being answered.
        """
        if done := await self._claims.done(claim, kind=Conversation):
            return done
        async with self._database.reading() as connection:
            talk = await self._talk(connection, user_id, conversation_id)
            last_id = fork.message_id or talk.active_leaf_id
            last = await self._position(connection, user_id, conversation_id, last_id) if last_id else None
        new_id = (await self._ids.take("conversation"))[0]
        places = place(None, await self._ids.take("message", last.depth + 1 if last else 0))

        async def work(connection: AsyncConnection) -> Conversation:
            await self._copy(connection, talk, new_id, title=fork.title, last=last, places=places)
            return await self._read(connection, user_id, new_id)

        try:
            return await self._claims.once(claim, work, kind=Conversation)
        except IntegrityError:
            # Messages went while they were copied, or the images that they show.
            raise Conflict(CHANGED) from None

    async def _copy(
        self,
        connection: AsyncConnection,
        talk: Row[Any],
        new_id: int,
        *,
        title: str | None,
        last: Position | None,
        places: Sequence[Place],
    ) -> None:
        title = talk.title if title is None else title
        row = {
            "user_id": talk.user_id,
            "id": new_id,
            "title": title,
            "title_key": title_key(title),
            "system_prompt": talk.system_prompt,
            "model": talk.model,
            "metadata": {**talk.metadata, "forked_from": {"conversation_id": talk.id, "message_id": last and last.id}},
            "active_leaf_id": places[-1].id if places else None,
            "message_count": len(places),
        }
        await rows.add_conversation(connection, row)
        if last is None:
            return
        found = await messages.read_branch(connection, talk.user_id, talk.id, leaf=last, limit=last.depth + 1)
        if any(one.status == "in_progress" for one in found):
            raise ConversationBusy("This branch is being answered: wait for the answer, or fork before it.")
        if len(found) != len(places):
            raise Conflict(CHANGED)
        copies = [{**to._asdict(), "original": one.id} for to, one in zip(places, found, strict=True)]
        if await copy_messages(connection, talk.user_id, new_id, places=copies) != len(copies):
            raise Conflict(CHANGED)

    async def delete(self, user_id: int, conversation_id: int) -> None:
        """Delete it with its messages and completions; what they cost stays in the ledger. Raises NotFound."""

        async def work(connection: AsyncConnection) -> list[Blob]:
            shown = await files.list_shown(connection, user_id, conversation_id)
            if not await delete_conversation(connection, user_id, conversation_id):
                raise not_found(conversation_id)
            return await self._images.release(connection, user_id, shown)

        await self._images.remove(await self._database.atomically(work))

    async def _talk(self, connection: AsyncConnection, user_id: int, conversation_id: int) -> Row[Any]:
        row = await rows.find_conversation(connection, user_id, conversation_id)
        if row is None:
            raise not_found(conversation_id)
        return row

    async def _position(
        self, connection: AsyncConnection, user_id: int, conversation_id: int, message_id: int
    ) -> Position:
        await self._talk(connection, user_id, conversation_id)
        found = await messages.find_position(connection, user_id, conversation_id, message_id)
        if found is None:
            raise NotFound(f"There is no message {message_id} in conversation {conversation_id}.")
        return found

    async def _read(self, connection: AsyncConnection, user_id: int, conversation_id: int) -> Conversation:
        row = await self._talk(connection, user_id, conversation_id)
        tags = await rows.list_tags(connection, user_id, [conversation_id])
        return _conversation(row, tags.get(conversation_id, []), row.system_prompt)


def not_found(conversation_id: int) -> NotFound:
    return NotFound(f"There is no conversation {conversation_id}.")


def _conversation(row: Row[Any], tags: list[str], system_prompt: str | None = None) -> Conversation:
    names = [name for name in Conversation.__slots__ if name not in ("tags", "system_prompt")]
    found = row._mapping
    return Conversation(**{name: found[name] for name in names}, tags=tags, system_prompt=system_prompt)
