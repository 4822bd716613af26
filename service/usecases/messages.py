"""Messages: append without asking a model, read by branch or by time, edit as a sibling, delete with what follows."""

from dataclasses import dataclass, field, replace
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
from service.domain.history import Line
from service.domain.paging import Ask, Page
from service.domain.tree import Place, Position, place
from service.errors import Conflict, ConversationBusy, NotFound, Unprocessable
from service.repositories import conversations, files
from service.repositories import messages as rows
from service.repositories.paging import Pager
from service.repositories.removals import delete_subtree
from service.turns.claims import Claims, Once
from service.turns.images import Images

# The leaf of a conversation without messages.
NOWHERE = Position(0, 0, -1, True)


@dataclass(frozen=True, slots=True)
class Message:
    """One node of a conversation's tree."""

    id: int
    conversation_id: int
    parent_id: int | None
    depth: int
    role: str
    content: str
    reasoning: str | None
    status: str
    model: str | None
    completion_id: int | None
    metadata: dict[str, Any]
    created_at: datetime
    parts: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class MessageDraft:
    """A message to append, to the active branch or after `parent_id`."""

    line: Line
    parent_id: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class Messages:
    def __init__(self, database: Database, ids: Ids, pager: Pager, claims: Claims, images: Images) -> None:
        self._claims = claims
        self._images = images
        self._database = database
        self._ids = ids
        self._pager = pager

    async def add(
        self, user_id: int, conversation_id: int, draft: MessageDraft, *, claim: Claim | None = None
    ) -> Once[Message]:
        """Append to the active branch, or after a parent, beside what follows it there.

        Raises NotFound for the conversation or the parent, Conflict when another message came first, and what
        `Images.settled` raises.
        """
        message_id = (await self._ids.take("message"))[0]

        async def work(connection: AsyncConnection, line: Line) -> Message:
            parent = await self._parent(connection, user_id, conversation_id, draft.parent_id)
            where = place(parent, [message_id])[0]
            return await self._insert(connection, user_id, conversation_id, where, line, draft.metadata)

        if draft.line.parts:
            async with self._database.reading() as connection:
                await self._conversation(connection, user_id, conversation_id)
        async with self._images.settled(user_id, (draft.line,), claim=claim) as (line,):
            for last in (False, False, True):
                try:
                    return await self._claims.once(claim, partial(work, line=line), kind=Message)
                except Conflict:
                    if last:
                        raise
        raise AssertionError("unreachable")

    async def start(self, user_id: int, line: Line, *, claim: Claim | None = None) -> Once[Message]:
        """Make a conversation of one message. Raises what `Images.settled` raises."""
        conversation_id = (await self._ids.take("conversation"))[0]
        message_id = (await self._ids.take("message"))[0]

        async def work(connection: AsyncConnection, line: Line) -> Message:
            await conversations.add_conversation(connection, {"user_id": user_id, "id": conversation_id})
            return await self._insert(connection, user_id, conversation_id, place(None, [message_id])[0], line, {})

        async with self._images.settled(user_id, (line,), claim=claim) as (settled,):
            return await self._claims.once(claim, partial(work, line=settled), kind=Message)

    async def get(self, user_id: int, message_id: int) -> Message:
        """Raises NotFound, also for somebody else's."""
        async with self._database.reading() as connection:
            return _message(await self._row(connection, user_id, message_id))

    async def page(self, user_id: int, ask: Ask, *, conversation_id: int | None, recent: bool) -> Page[Message]:
        """A page by time of all the user's messages, or of one conversation with all its branches."""
        async with self._database.reading() as connection:
            if conversation_id is not None:
                await self._conversation(connection, user_id, conversation_id)
            page = await rows.page_messages(
                connection, self._pager, ask, user_id=user_id, conversation_id=conversation_id, recent=recent
            )
        return page.map(_message)

    async def page_branch(self, user_id: int, conversation_id: int, ask: Ask, *, recent: bool) -> Page[Message]:
        """A page of the active branch, by depth."""
        async with self._database.reading() as connection:
            leaf_id = (await self._conversation(connection, user_id, conversation_id)).active_leaf_id
            leaf = await rows.find_position(connection, user_id, conversation_id, leaf_id) if leaf_id else None
            page = await rows.page_branch(
                connection,
                self._pager,
                ask,
                leaf=leaf or NOWHERE,
                user_id=user_id,
                conversation_id=conversation_id,
                recent=recent,
            )
        return page.map(_message)

    async def edit(self, user_id: int, message_id: int, line: Line | None, metadata: Any) -> Message:
        """New content makes a sibling, which becomes the active leaf; metadata alone is changed in place.

        The line's role is the message's own. Raises NotFound, ConversationBusy, and what `Images.settled` raises.
        """
        sibling = (await self._ids.take("message"))[0] if line else 0
        if line and line.parts:
            self._check_role(await self.get(user_id, message_id))

        async def work(connection: AsyncConnection, line: Line | None) -> Message:
            row = await self._row(connection, user_id, message_id)
            if line is None or replace(line, role=row.role) == rows.line_of(row):
                if metadata is not None:
                    await rows.edit_metadata(connection, user_id, message_id, metadata)
                return _message(await self._row(connection, user_id, message_id))
            if row.status == "in_progress":
                raise ConversationBusy("The answer is still being written.")
            where = Place(sibling, row.parent_id, sibling, row.depth)
            kept = row.metadata if metadata is None else metadata
            said = replace(line, role=row.role)
            return await self._insert(connection, user_id, row.conversation_id, where, said, kept)

        async with self._images.settled(user_id, (line,) if line else ()) as lines:
            return await self._database.atomically(partial(work, line=lines[0] if lines else None))

    async def delete(self, user_id: int, message_id: int) -> int:
        """Delete a message and all that follows it; its parent becomes the active leaf if the leaf went. → how many."""

        async def work(connection: AsyncConnection) -> tuple[int, list[Blob]]:
            row = await self._row(connection, user_id, message_id)
            talk = await self._conversation(connection, user_id, row.conversation_id, lock=True)
            shown = await files.list_shown(connection, user_id, row.conversation_id)
            gone = await delete_subtree(connection, user_id, message_id)
            leaf = talk.active_leaf_id
            if leaf and await rows.find_message(connection, user_id, leaf) is None:
                leaf = row.parent_id
            await conversations.move_leaf(connection, user_id, row.conversation_id, leaf_id=leaf, added=-gone)
            return gone, await self._images.release(connection, user_id, shown)

        count, blobs = await self._database.atomically(work)
        await self._images.remove(blobs)
        return count

    def _check_role(self, message: Message) -> None:
        if message.role != "user":
            raise Unprocessable("Only a user's message can hold an image.", loc=("body", "content"))

    async def _insert(
        self,
        connection: AsyncConnection,
        user_id: int,
        conversation_id: int,
        where: Place,
        line: Line,
        metadata: dict[str, Any],
    ) -> Message:
        row = {**rows.row_of(user_id, conversation_id, where, line), "metadata": metadata}
        try:
            await rows.add_messages(connection, [row])
        except IntegrityError as error:
            raise Conflict("The conversation changed meanwhile; read it and send again.") from error
        await conversations.move_leaf(connection, user_id, conversation_id, leaf_id=where.id, added=1)
        return _message(await self._row(connection, user_id, where.id))

    async def _parent(
        self, connection: AsyncConnection, user_id: int, conversation_id: int, parent_id: int | None
    ) -> Position | None:
        talk = await self._conversation(connection, user_id, conversation_id, lock=True)
        chosen = talk.active_leaf_id if parent_id is None else parent_id
        if chosen is None:
            return None
        found = await rows.find_position(connection, user_id, conversation_id, chosen)
        if found is None:
            raise NotFound(f"There is no message {chosen} in conversation {conversation_id}.")
        return found

    async def _conversation(
        self, connection: AsyncConnection, user_id: int, conversation_id: int, *, lock: bool = False
    ) -> Row[Any]:
        row = await conversations.find_conversation(connection, user_id, conversation_id, lock=lock)
        if row is None:
            raise NotFound(f"There is no conversation {conversation_id}.")
        return row

    async def _row(self, connection: AsyncConnection, user_id: int, message_id: int) -> Row[Any]:
        row = await rows.find_message(connection, user_id, message_id)
        if row is None:
            raise NotFound(f"There is no message {message_id}.")
        return row


def _message(row: Row[Any]) -> Message:
    found = row._mapping
    return Message(**{name: found[name] for name in Message.__slots__})
