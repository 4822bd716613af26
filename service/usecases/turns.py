"""Turns: have a model answer, once, in its place in the conversation."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.history import MOST_MESSAGES, Line, assemble, estimate_prompt
from service.domain.parts import DataPart, FilePart
from service.domain.titles import title_of
from service.domain.tree import Position
from service.errors import Conflict, ConversationBusy, LimitExceeded, NotFound, Unprocessable
from service.providers.base import Model
from service.providers.registry import Registry
from service.repositories import conversations, messages
from service.repositories.events import Record
from service.turns.asking import Accepted, Request
from service.turns.claims import Claims
from service.turns.engine import Engine
from service.turns.images import Images, refuse_blind
from service.turns.limits import most_output
from service.turns.opening import Branch, Opening, choose

TRIES = 50
BUSY = "The conversation is being answered: wait for the answer, or say `on_conflict`."
CHANGED = "The conversation changed meanwhile; read it and send again."


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a turn goes: after `position`, and what was said before it; after the end of the completion `waits_for`."""

    talk: Record
    position: Position | None
    history: list[Record]
    waits_for: int | None = None


class Turns:
    def __init__(self, database: Database, registry: Registry, engine: Engine, claims: Claims, images: Images) -> None:
        self._database = database
        self._registry = registry
        self._engine = engine
        self._claims = claims
        self._images = images
        self._locks: WeakValueDictionary[tuple[object, ...], asyncio.Lock] = WeakValueDictionary()

    async def begin(self, request: Request) -> Accepted:
        """Accept a turn and start it; it runs to its end whatever becomes of the caller.

        Raises UnknownModel, NotFound for the conversation or the parent, ConversationBusy, Conflict,
        IdempotencyMismatch, LimitExceeded, Unavailable, and what `Images.settled` raises.
        """
        async with self._in_line(request), AsyncExitStack() as kept:
            settled: Request | None = None
            for tries in range(TRIES):
                if found := await self._done(request):
                    return found
                try:
                    settled = settled or await self._settle(request, kept)
                    return await self._begin(settled)
                except (Conflict, LimitExceeded) as error:
                    # The same request, sent to another worker at the same time, may be what took the last of a limit.
                    if found := await self._done(request):
                        return found
                    if isinstance(error, LimitExceeded):
                        raise
                    # Somebody was faster between the look and the write: now that is seen.
                    if tries + 1 == TRIES or isinstance(error, ConversationBusy) or not _is_flexible(request):
                        raise
                await asyncio.sleep(random.uniform(0.0, 0.01 * min(tries + 1, 10)))
        raise AssertionError("unreachable")

    async def regenerate(self, request: Request) -> Accepted:
        """Another answer beside the message `parent_id`, or beside the last one.

        Raises as `begin` does, Unprocessable where nothing was asked yet.
        """
        if found := await self._done(request):
            return found
        async with self._database.reading() as connection:
            asked, answer = await self._asked(connection, request)
        if answer is not None and answer.status == "in_progress":
            # Another sender of the same key may have begun that very answer.
            if found := await self._done(request):
                return found
            if request.on_conflict == "reject":
                raise ConversationBusy(BUSY)
            if request.on_conflict == "interrupt" and answer.completion_id:
                await self._engine.cancel(request.user_id, answer.completion_id)
        model = request.model or (answer.model if answer else None)
        return await self.begin(replace(request, parent_id=asked, model=model, lines=()))

    async def _settle(self, request: Request, kept: AsyncExitStack) -> Request:
        """The request with its images kept, once nothing else speaks against it."""
        if not any(isinstance(part, FilePart | DataPart) for line in request.lines for part in line.parts):
            return request
        await self._choose(request)
        settled = self._images.settled(request.user_id, request.lines, stored=request.stored)
        return replace(request, lines=await kept.enter_async_context(settled))

    async def _begin(self, request: Request) -> Accepted:
        model, place = await self._choose(request)
        opening = self._opening(request, model, place, await self._fallbacks(request, model, place))
        live = await self._engine.begin(opening)
        if place and request.on_conflict == "interrupt":
            before = {row.completion_id for row in place.history if row.status == "in_progress"}
            await self._engine.cancel(request.user_id, *before)
        return Accepted(*live.turn.name, request.key_id, live)

    async def _choose(self, request: Request) -> tuple[Model, _Place | None]:
        """Who is asked, and where. Raises Unprocessable for a model that does not see what it is asked about."""
        model_name, place = request.model, None
        if request.conversation_id is not None:
            if not request.stored:
                raise Unprocessable("A completion in a conversation is always stored.", loc=("body", "store"))
            async with self._database.reading() as connection:
                place = await self._find_place(connection, request)
            model_name = model_name or place.talk.model
        model = await self._model(model_name)
        if refusal := refuse_blind(model, _asked(request, place)):
            raise refusal
        return model, place

    async def _done(self, request: Request) -> Accepted | None:
        """The turn that an earlier request with the same idempotency key began."""
        found = await self._claims.find(request.claim) if request.claim else None
        if found is None:
            return None
        if found.completion_id is None:
            raise Conflict("This was done before, and its answer is not kept.")
        return Accepted(found.user_id, found.completion_id, request.key_id, replayed=True)

    @asynccontextmanager
    async def _in_line(self, request: Request) -> AsyncIterator[None]:
        """Those who send to one conversation, or with one key, in this worker, begin one after the other."""
        name: tuple[object, ...] | None = None
        if request.conversation_id is not None:
            name = request.user_id, request.conversation_id
        elif request.claim:
            name = request.user_id, request.claim.key
        lock = self._locks.setdefault(name, asyncio.Lock()) if name else asyncio.Lock()
        async with lock:
            yield

    async def _find_place(self, connection: AsyncConnection, request: Request) -> _Place:
        """Raises NotFound, ConversationBusy, and Conflict where the leaf moved while it was read."""
        talk = await self._talk(connection, request)
        leaf_id = talk.active_leaf_id if request.parent_id is None else request.parent_id
        if leaf_id is None:
            return _Place(talk, None, [])
        place = await self._place_after(connection, request, talk, leaf_id)
        if request.parent_id is None and place.position and not place.position.tip:
            # It was followed, and that was not to be a branch.
            again = await self._talk(connection, request)
            if again.active_leaf_id != leaf_id:
                raise Conflict(CHANGED)
        running = [row for row in place.history if row.status == "in_progress"]
        if not running:
            return place
        match request.on_conflict:
            case "reject":
                raise ConversationBusy(BUSY)
            case "branch":
                return await self._place_beside(connection, request, place, running[0])
            case _:
                return replace(place, waits_for=running[-1].completion_id)

    async def _place_after(
        self, connection: AsyncConnection, request: Request, talk: Record, message_id: int
    ) -> _Place:
        position = await messages.find_position(connection, request.user_id, talk.id, message_id)
        if position is None:
            raise NotFound(f"There is no message {message_id} in conversation {talk.id}.")
        history = await messages.read_branch(connection, request.user_id, talk.id, leaf=position, limit=MOST_MESSAGES)
        return _Place(talk, position, history)

    async def _place_beside(
        self, connection: AsyncConnection, request: Request, place: _Place, running: Record
    ) -> _Place:
        """Beside the question that is being answered: after what was said before it."""
        asked = next((row for row in place.history if row.id == running.parent_id), None)
        if asked is None or asked.parent_id is None:
            return _Place(place.talk, None, [])
        return await self._place_after(connection, request, place.talk, asked.parent_id)

    async def _talk(self, connection: AsyncConnection, request: Request) -> Record:
        talk = await conversations.find_conversation(connection, request.user_id, request.conversation_id or 0)
        if talk is None:
            raise NotFound(f"There is no conversation {request.conversation_id}.")
        return talk

    async def _asked(self, connection: AsyncConnection, request: Request) -> tuple[int, Record | None]:
        """The message to be answered once more, and the answer that it has, if one was meant."""
        talk = await self._talk(connection, request)
        chosen = request.parent_id or talk.active_leaf_id
        row = await messages.find_message(connection, request.user_id, chosen) if chosen else None
        if row is None or row.conversation_id != talk.id:
            if request.parent_id:
                raise NotFound(f"There is no message {chosen} in conversation {talk.id}.")
            raise Unprocessable("Nothing was asked in this conversation yet.", loc=("path", "conversation_id"))
        if row.role != "assistant":
            return row.id, None
        if row.parent_id is None:
            raise Unprocessable("Nothing was asked before this message.", loc=("body", "message_id"))
        return row.parent_id, row

    def _opening(self, request: Request, model: Model, place: _Place | None, fallbacks: tuple[Model, ...]) -> Opening:
        spoken = tuple(map(messages.line_of, place.history if place else ()))
        before = assemble(spoken, place.talk.system_prompt if place else None)
        prompt, notes = choose((*before, *request.lines), model, request.sampling.max_tokens)
        waits_for = place.waits_for if place else None
        return Opening(
            user_id=request.user_id,
            key_id=request.key_id,
            model=model,
            lines=request.lines,
            prompt=() if waits_for else tuple(prompt),
            sampling=request.sampling,
            streamed=request.streamed,
            stored=request.stored,
            branch=Branch(place.talk.id, place.position) if place else None,
            title=title_of((*spoken, *request.lines)) if place is None or place.talk.title is None else None,
            warnings=() if waits_for else notes,
            fallbacks=fallbacks,
            waits_for=waits_for,
            expected=_expected(prompt, place, model) if place and waits_for else 0,
            claim=request.claim,
            compared=request.compared,
        )

    async def _fallbacks(self, request: Request, model: Model, place: _Place | None) -> tuple[Model, ...]:
        """Raises UnknownModel for one that the caller names; those of the catalogue may be gone. One that does not see
        what is asked about is passed over."""
        if request.fallbacks is not None:
            found = [await self._registry.find_model(name) for name in request.fallbacks]
        else:
            found = [one for name in model.fallbacks if (one := self._registry.known_model(name))]
        asked = _asked(request, place)
        fit = (one for one in found if one.id != model.id and not refuse_blind(one, asked))
        return tuple(dict.fromkeys(fit))

    async def _model(self, name: str | None) -> Model:
        return await self._registry.find_model(name) if name else self._registry.default_model()


def _asked(request: Request, place: _Place | None) -> tuple[Line, ...]:
    """What is to be answered: what the caller says, or what was said last."""
    return request.lines or tuple(map(messages.line_of, place.history[-1:] if place else ()))


def _expected(prompt: Sequence[Line], place: _Place, model: Model) -> int:
    """The tokens of a prompt that is to be read later: what is known of it, and the answers that are being written."""
    awaited = len([row for row in place.history if row.status == "in_progress"])
    return estimate_prompt(prompt) + awaited * most_output(model)


def _is_flexible(request: Request) -> bool:
    """Whether another place in the conversation does as well."""
    return request.parent_id is not None or request.on_conflict != "reject" or request.claim is not None
