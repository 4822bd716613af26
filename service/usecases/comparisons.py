"""Comparisons: one question to several models at once, whose answers are siblings."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.ids import Ids
from service.domain.claims import Claim
from service.domain.titles import title_key, title_of
from service.domain.tree import Position, place
from service.errors import Conflict, ConversationBusy, EverturnError, NotFound, UnknownModel, Unprocessable
from service.providers.registry import Registry
from service.repositories import conversations, messages
from service.turns.asking import Accepted, Request
from service.turns.claims import Claims

Begin = Callable[[Request], Awaitable[Accepted]]


@dataclass(frozen=True, slots=True)
class Question:
    """The last message of a question that is stored."""

    conversation_id: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The turns of a comparison in the order of its models; for one that was not accepted the reason."""

    question: Question | None
    turns: list[Accepted | EverturnError]
    replayed: bool


class Comparisons:
    """`begin` is what begins a turn; each answer is one, so that it can be followed, cancelled and picked by itself."""

    def __init__(self, database: Database, ids: Ids, registry: Registry, *, claims: Claims, begin: Begin) -> None:
        self._database = database
        self._ids = ids
        self._registry = registry
        self._claims = claims
        self._begin = begin

    async def begin(self, request: Request, models: tuple[str, ...]) -> Comparison:
        """Store the question and ask every model. The first one's answer becomes the active branch.

        Raises the first model's error where no turn was accepted, NotFound, ConversationBusy, Conflict,
        IdempotencyMismatch, Unprocessable.
        """
        _check(request)
        unknown = await self._unknown(models)
        if len(unknown) == len(models):
            raise unknown[0]
        question, replayed = await self._store(request) if request.stored else (None, False)
        if question:
            request = replace(
                request, lines=(), conversation_id=question.conversation_id, parent_id=question.message_id
            )
        turns: dict[int, Accepted | EverturnError] = dict(unknown)
        # Each becomes the active leaf as it begins: the first model's comes last.
        for index in reversed(range(len(models))):
            if index not in unknown:
                turns[index] = await self._ask(request, models[index], index)
        accepted = [one for one in turns.values() if isinstance(one, Accepted)]
        if not accepted:
            raise next(one for _, one in sorted(turns.items()) if isinstance(one, EverturnError))
        if question is None:
            replayed = all(one.replayed for one in accepted)
        return Comparison(question, [turns[index] for index in range(len(models))], replayed)

    async def _unknown(self, models: tuple[str, ...]) -> dict[int, UnknownModel]:
        """The errors of those that nobody offers, by their place. They are looked for all at once."""
        found = await asyncio.gather(*(self._registry.find_model(name) for name in models), return_exceptions=True)
        return {index: one for index, one in enumerate(found) if isinstance(one, UnknownModel)}

    async def _ask(self, request: Request, model: str, index: int) -> Accepted | EverturnError:
        try:
            return await self._begin(replace(request, model=model, claim=_part(request.claim, index)))
        except EverturnError as error:
            return error

    async def _store(self, request: Request) -> tuple[Question, bool]:
        """The question in its conversation, and whether it was there from an earlier request."""
        ids = await self._ids.take("message", len(request.lines))
        new = request.conversation_id or (await self._ids.take("conversation"))[0]

        async def work(connection: AsyncConnection) -> Question:
            if request.conversation_id is None:
                return await self._start(connection, request, new, ids)
            return await self._append(connection, request, new, ids)

        try:
            done = await self._claims.once(request.claim, work, kind=Question)
        except IntegrityError as error:
            raise Conflict("The conversation changed meanwhile; read it and send again.") from error
        return done.made, done.replayed

    async def _start(self, connection: AsyncConnection, request: Request, new: int, ids: range) -> Question:
        title = title_of(request.lines)
        row = {"user_id": request.user_id, "id": new, "title": title, "title_key": title_key(title)}
        await conversations.add_conversation(connection, row)
        return await self._insert(connection, request, new, ids, parent=None)

    async def _append(self, connection: AsyncConnection, request: Request, talk_id: int, ids: range) -> Question:
        talk = await conversations.find_conversation(connection, request.user_id, talk_id, lock=True)
        if talk is None:
            raise NotFound(f"There is no conversation {talk_id}.")
        chosen = request.parent_id or talk.active_leaf_id
        parent = None
        if chosen is not None:
            parent = await messages.find_position(connection, request.user_id, talk_id, chosen)
            row = await messages.find_message(connection, request.user_id, chosen)
            if parent is None or row is None:
                raise NotFound(f"There is no message {chosen} in conversation {talk_id}.")
            if row.status == "in_progress":
                raise ConversationBusy("The conversation is being answered: wait for the answer.")
        return await self._insert(connection, request, talk_id, ids, parent=parent)

    async def _insert(
        self, connection: AsyncConnection, request: Request, talk_id: int, ids: range, *, parent: Position | None
    ) -> Question:
        filled = zip(place(parent, ids), request.lines, strict=True)
        rows = [messages.row_of(request.user_id, talk_id, where, line) for where, line in filled]
        await messages.add_messages(connection, rows)
        await conversations.move_leaf(connection, request.user_id, talk_id, leaf_id=ids[-1], added=len(rows))
        return Question(talk_id, ids[-1])


def _check(request: Request) -> None:
    if request.conversation_id is not None and not request.stored:
        raise Unprocessable("A comparison in a conversation is always stored.", loc=("body", "store"))
    if request.lines[-1].role != "user":
        last = len(request.lines) - 1
        raise Unprocessable("The last message must be the user's.", loc=("body", "messages", last, "role"))


def _part(claim: Claim | None, index: int) -> Claim | None:
    """What one of the turns claims: a key that callers do not take by chance."""
    if claim is None:
        return None
    name = sha256(claim.key.encode()).hexdigest()[:40]
    return replace(claim, key=f"compare/{name}/{index}")
