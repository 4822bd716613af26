"""Import conversations from ChatGPT, Open WebUI or another Everturn; what came before is met again and not doubled."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.blobs.carrying import Pulled, content_of
from service.blobs.passing import receive
from service.db.engine import Database
from service.db.ids import Ids
from service.domain.history import Line
from service.domain.parts import images_of, to_json
from service.domain.porting.carried import Brought, FileData, FileHead
from service.domain.porting.everturn import SOURCE, native_number
from service.domain.porting.reading import Found, Lines, Told, read_upload
from service.domain.porting.talks import Talk
from service.domain.porting.trees import Order, Stood, leads_to, place_all, untangle
from service.domain.titles import title_key, title_of
from service.errors import EverturnError, StorageFull, Unavailable
from service.repositories import conversations
from service.repositories import imports as rows

Result = Literal["imported", "updated", "unchanged", "skipped", "failed"]
# Keeps a file where there is none at its path; what came of it, and why.
Bring = Callable[[int, FileHead, AsyncIterator[bytes]], Awaitable[Brought]]
AT_ONCE = 2
TRIES = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item. `left_out` counts what the house has no place for, `repaired` what was broken."""

    item: int
    file: str
    outcome: Result
    source: str | None = None
    source_id: str | None = None
    title: str | None = None
    conversation_id: int | None = None
    messages: int = 0
    added: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """How many items had which outcome, and what of all of them was left out or repaired."""

    items: int
    outcomes: dict[str, int]
    messages_added: int
    left_out: dict[str, int]
    repaired: dict[str, int]


class Imports:
    def __init__(self, database: Database, ids: Ids, folder: Path, *, bring: Bring, most_bytes: int) -> None:
        self._bring = bring
        self._database = database
        self._ids = ids
        self._folder = folder
        self._most = most_bytes
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def receive(self, chunks: AsyncIterator[bytes]) -> BinaryIO:
        """Put an upload on the disk, in a file without a name. Raises BodyTooLarge, StorageFull."""
        return await receive(chunks, self._folder, most=self._most)

    async def run(self, user_id: int, upload: BinaryIO, name: str = "") -> AsyncGenerator[Outcome | Summary]:
        """Import an upload, each conversation in a transaction of its own; the outcomes in order, a summary last.

        Cut off in the middle, it leaves whole conversations; a second run changes nothing about those.
        Raises DatabaseUnavailable.
        """
        counts, left_out, repaired = Counter[str](), Counter[str](), Counter[str]()
        added = 0
        with upload:
            async with self._turn:
                pulled = Pulled(read_upload(upload, name, self._most))
                while (item := await pulled.next()) is not None:
                    if isinstance(item, FileData):
                        continue  # of a file that is not taken
                    outcome = await self._take(user_id, item, pulled, number=counts.total() + 1)
                    counts[outcome.outcome] += 1
                    left_out.update(outcome.left_out)
                    repaired.update(outcome.repaired)
                    added += outcome.added
                    yield outcome
        yield Summary(counts.total(), dict(counts), added, dict(left_out), dict(repaired))

    async def _carry(self, user_id: int, head: FileHead, pulled: Pulled[Found], *, number: int) -> Outcome:
        """Keep a file or an image. Raises Unavailable, StorageFull."""
        name = head.path or head.sha256
        told = Outcome(number, head.file, "failed", SOURCE, name, name)
        try:
            result, reason = await self._bring(user_id, head, content_of(head, pulled))
        except EverturnError as error:
            if isinstance(error, Unavailable | StorageFull):
                raise
            return replace(told, reason=error.detail)
        return replace(told, outcome=result, reason=reason)

    async def _take(self, user_id: int, item: Told, pulled: Pulled[Found], *, number: int) -> Outcome:
        if isinstance(item, FileHead):
            return await self._carry(user_id, item, pulled, number=number)
        if isinstance(item, Lines):
            kinds = ", ".join(f"{count} of type {kind}" for kind, count in sorted(item.skipped.items()))
            return Outcome(number, item.file, "skipped", reason=f"These lines inform and are not restored: {kinds}.")
        talk = item.talk
        if talk is None:
            return Outcome(number, item.file, "failed", reason=item.problem)
        told = Outcome(
            number, item.file, "failed", talk.source, talk.source_id, talk.title, reason=item.problem or None
        )
        if item.problem:
            return told
        told = replace(told, left_out=dict(talk.left_out))
        if not talk.nodes and not talk.exact:
            return replace(told, outcome="skipped", reason="It has no messages.")
        for _ in range(TRIES):
            try:
                stored = await self._store(user_id, talk)
            except (IntegrityError, _Moved):
                # Another import of the same, or whoever writes in the conversation, came first: look again.
                continue
            return replace(told, **stored)
        return replace(told, reason="The database refused it: the user or the conversation changed meanwhile.")

    async def _store(self, user_id: int, talk: Talk) -> dict[str, Any]:
        """Write what is not there yet. Returns the fields of its outcome. Raises IntegrityError, _Moved."""
        async with self._database.reading() as connection:
            known = await _find(connection, user_id, talk)
            stood = await rows.list_stood(connection, user_id, known) if known else []
        names = {one.name for one in stood}
        order = await asyncio.to_thread(untangle, talk, names)
        # In the order of the file they get their numbers: so equal times are told apart as they were.
        missing = [node.source_id for node in order.given if node.source_id not in names]
        told = {"messages": len(order.given), "repaired": dict(order.repaired), "added": len(missing)}
        if known:
            await self._show_again(user_id, talk, stood)
        if known and not missing:
            return {**told, "outcome": "unchanged", "conversation_id": known}
        conversation_id = known or (await self._ids.take("conversation"))[0]
        here = _Here(user_id, conversation_id, talk, order)
        ids = dict(zip(missing, await self._ids.take("message", len(missing)), strict=True))
        made = await asyncio.to_thread(_messages, here, ids, stood)

        async def work(connection: AsyncConnection) -> None:
            if known:
                await _grow(connection, here, made=made, ids=ids, stood=stood)
            else:
                await _begin(connection, here, made=made, ids=ids)

        await self._database.atomically(work)
        return {**told, "outcome": "updated" if known else "imported", "conversation_id": conversation_id}

    async def _show_again(self, user_id: int, talk: Talk, stood: Sequence[Stood]) -> None:
        """Have messages keep the images that were not here when they came. Raises IntegrityError."""
        numbers = {one.name: one.id for one in stood}
        shown = [
            (numbers[node.source_id], image.sha256)
            for node in talk.nodes
            if node.source_id in numbers
            for image in images_of(node.parts)
        ]
        if shown:
            await self._database.atomically(lambda connection: rows.show_images(connection, user_id, shown))


class _Moved(Exception):
    """The conversation changed between the look and the write."""


@dataclass(frozen=True, slots=True)
class _Here:
    """A conversation that is being written."""

    user_id: int
    id: int
    talk: Talk
    order: Order


async def _find(connection: AsyncConnection, user_id: int, talk: Talk) -> int | None:
    found = await rows.find_import(connection, user_id, talk.source, source_id=talk.source_id)
    native = native_number(talk.source_id) if found is None and talk.source == SOURCE else None
    if native is None:
        return found
    return await rows.find_native(connection, user_id, native[0], created_at=native[1])


async def _begin(
    connection: AsyncConnection, here: _Here, *, made: list[dict[str, Any]], ids: Mapping[str, int]
) -> None:
    """A new conversation with all its messages."""
    talk, order = here.talk, here.order
    moments = [row["created_at"] for row in made] or [talk.created_at or datetime.now(UTC)]
    last = max(moments)
    title = talk.title
    if title is None and not talk.exact:
        title = title_of([Line(node.role, node.content) for node in order.nodes])
    row = {
        "user_id": here.user_id,
        "id": here.id,
        "title": title,
        "title_key": title_key(title),
        "system_prompt": talk.system_prompt,
        "model": talk.model,
        "metadata": talk.metadata,
        "archived": talk.archived,
        "pinned": talk.pinned,
        "active_leaf_id": ids[order.leaf] if order.leaf else None,
        "message_count": len(made),
        "created_at": talk.created_at or min(moments),
        "updated_at": talk.updated_at or talk.active_at or last,
        "active_at": talk.active_at or talk.updated_at or last,
    }
    await conversations.add_conversation(connection, row)
    await conversations.set_tags(connection, here.user_id, here.id, talk.tags)
    await rows.add_import(connection, here.user_id, here.id, names=(talk.source, talk.source_id))
    await rows.add_messages(connection, made)


async def _grow(
    connection: AsyncConnection,
    here: _Here,
    *,
    made: list[dict[str, Any]],
    ids: Mapping[str, int],
    stood: Sequence[Stood],
) -> None:
    """Add what is new. What the user may have changed here stays: the title, the tags, and where they are reading,
    unless the file's branch goes on from there."""
    row = await conversations.find_conversation(connection, here.user_id, here.id, lock=True)
    if row is None or set(await rows.list_stood(connection, here.user_id, here.id)) != set(stood):
        raise _Moved
    numbers = {one.name: one.id for one in stood} | dict(ids)
    parents = {one.id: one.parent_id for one in stood} | {one["id"]: one["parent_id"] for one in made}
    leaf = numbers.get(here.order.leaf or "")
    await rows.add_messages(connection, made)
    await rows.grow(
        connection,
        here.user_id,
        here.id,
        added=len(made),
        leaf_id=leaf if leads_to(parents, leaf, start=row.active_leaf_id) else None,
        active_at=here.talk.active_at or max(row["created_at"] for row in made),
    )


def _messages(here: _Here, ids: Mapping[str, int], stood: Sequence[Stood]) -> list[dict[str, Any]]:
    """The rows of the new messages, parents first. One without a time has its parent's."""
    places = place_all(here.order, ids, stood)
    moments: dict[str | None, datetime] = {None: here.talk.created_at or datetime.now(UTC)}
    made = []
    for node in here.order.nodes:
        above = here.order.parents[node.source_id]
        moment = node.created_at or moments.get(above) or moments[None]
        moments[node.source_id] = moment
        if node.source_id not in places:
            continue
        made.append(
            {
                **places[node.source_id]._asdict(),
                "user_id": here.user_id,
                "conversation_id": here.id,
                "role": node.role,
                "content": node.content,
                "parts": to_json(node.parts),
                "reasoning": node.reasoning,
                "status": node.status,
                "model": node.model,
                "completion_id": None,
                "metadata": node.metadata,
                "created_at": moment,
                "source_id": node.source_id,
            }
        )
    return made
