"""Comparisons: one question to several models at once, whose answers are siblings."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.claims import Claim
from service.errors import EverturnError, NotFound, UnknownModel, Unprocessable
from service.providers.base import Model
from service.providers.registry import Registry
from service.repositories import completions, conversations, messages
from service.repositories.comparisons import find_preferred
from service.turns.asking import Accepted, Request
from service.turns.images import refuse_blind

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

    def __init__(self, database: Database, registry: Registry, begin: Begin) -> None:
        self._database = database
        self._registry = registry
        self._begin = begin

    async def begin(self, request: Request, models: tuple[str, ...]) -> Comparison:
        """Ask every model. The question is stored with the first turn, so not at all where that is refused.

        Raises what beginning the first turn raises, UnknownModel where nobody offers any of the models, Unprocessable.
        """
        _check(request)
        unknown = await self._unknown(request, models)
        if len(unknown) == len(models):
            raise unknown[0]
        if request.stored:
            return await self._ask_siblings(request, models, unknown)
        turns = [unknown.get(index) or await self._ask(request, model, index) for index, model in enumerate(models)]
        accepted = [one for one in turns if isinstance(one, Accepted)]
        if not accepted:
            raise next(one for one in turns if isinstance(one, EverturnError) and not isinstance(one, UnknownModel))
        return Comparison(None, turns, all(one.replayed for one in accepted))

    async def _ask_siblings(
        self, request: Request, models: tuple[str, ...], unknown: Mapping[int, EverturnError]
    ) -> Comparison:
        """The first turn brings the question along, the others answer beside it; the first branch stays active, unless
        it ends without a word."""
        first = next(index for index in range(len(models)) if index not in unknown)
        opening = await self._begin(replace(request, model=models[first], compared=first))
        question, model_id = await self._look_up(opening)
        if opening.replayed:
            # A model that was unknown when the key came first may be known by now, or the other way about.
            ids = [known and known.id for known in map(self._registry.known_model, models)]
            first = ids.index(model_id) if model_id in ids else first
        beside = replace(request, lines=(), conversation_id=question.conversation_id, parent_id=question.message_id)
        turns: list[Accepted | EverturnError] = []
        for index, model in enumerate(models):
            one = opening if index == first else unknown.get(index) or await self._ask(beside, model, index)
            turns.append(one)
        if any(isinstance(one, Accepted) and not one.replayed for one in turns if one is not opening):
            await self._prefer(request.user_id, question)
        return Comparison(question, turns, opening.replayed)

    async def _unknown(self, request: Request, models: tuple[str, ...]) -> dict[int, EverturnError]:
        """The errors of those that nobody offers, or that do not see what the question shows, by their place.

        They are looked for all at once.
        """
        found = await asyncio.gather(*(self._registry.find_model(name) for name in models), return_exceptions=True)
        errors = [one if isinstance(one, UnknownModel) else _blind(one, request) for one in found]
        return {index: error for index, error in enumerate(errors) if error}

    async def _ask(self, request: Request, model: str, index: int) -> Accepted | EverturnError:
        try:
            return await self._begin(replace(request, model=model, claim=_part(request.claim, index), compared=index))
        except EverturnError as error:
            return error

    async def _look_up(self, opening: Accepted) -> tuple[Question, str]:
        """The question of a turn, and its model. Raises NotFound where they were deleted."""
        async with self._database.reading() as connection:
            found = await completions.find_completion(connection, opening.user_id, opening.completion_id)
            row = found and found[0]
            answer = (
                await messages.find_message(connection, opening.user_id, row.message_id)
                if row and row.message_id
                else None
            )
        if row is None or answer is None or answer.parent_id is None:
            raise NotFound("The comparison's conversation is not there any more.")
        return Question(row.conversation_id, answer.parent_id), row.model

    async def _prefer(self, user_id: int, question: Question) -> None:
        """Make the preferred answer the active leaf and its model the one that goes on, unless somebody has gone on
        already. With a lock: it sees how an answer has ended, or whoever ends it waits, and passes it over."""

        async def work(connection: AsyncConnection) -> None:
            talk = await conversations.find_conversation(connection, user_id, question.conversation_id, lock=True)
            leaf_id = talk and talk.active_leaf_id
            leaf = await messages.find_message(connection, user_id, leaf_id) if leaf_id else None
            if leaf is None or leaf.parent_id != question.message_id:
                return
            if best := await find_preferred(connection, user_id, question.message_id):
                changes = {"active_leaf_id": best.id, "model": best.model}
                await conversations.edit_conversation(connection, user_id, question.conversation_id, changes)

        await self._database.atomically(work)


def _blind(model: Model | BaseException, request: Request) -> EverturnError | None:
    return refuse_blind(model, request.lines) if isinstance(model, Model) else None


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
