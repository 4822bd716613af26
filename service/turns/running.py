"""The run of a turn: wait for the one before it, ask the model, ask again or ask another one where it fails."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.ids import Ids
from service.errors import DatabaseUnavailable
from service.providers.base import Call, Ending, Model, ProviderFailure
from service.providers.registry import Registry
from service.repositories.attempts import begin_attempt, begin_waiting
from service.repositories.recovery import is_to_be_cancelled
from service.turns.ending import End, entry_row, use_of
from service.turns.hub import Hub
from service.turns.images import Fetch
from service.turns.journal import RETRY_SECONDS, Journal
from service.turns.live import Live, Turn
from service.turns.opening import attempt_row, fall_back
from service.turns.prompts import find_running, read_prompt

log = logging.getLogger(__name__)
T = TypeVar("T")


class Taken(Exception):
    """The turn is not this worker's any more, or was erased."""


class Unasked(Exception):
    """Nobody wants to know any more: the question was deleted or the turn cancelled while it waited."""


@dataclass(frozen=True, slots=True)
class Retries:
    """A model is asked `most` times more, after about `first`, twice, four times … that many seconds.

    A provider that names a time is obeyed up to `longest` seconds; one that names a longer one is not asked again.
    """

    most: int = 2
    first: float = 0.5
    longest: float = 20.0

    def delay(self, tries: int, failure: ProviderFailure) -> float | None:
        """Seconds until the next try after so many; None for no further one. Between half and all of what is due, so
        that turns which failed together do not come back together."""
        asked = failure.retry_after or 0.0
        if not failure.retryable or tries >= self.most or asked > self.longest:
            return None
        due = min(self.first * 2.0**tries, self.longest)
        return asked + due * random.uniform(0.5, 1.0)


class Runner:
    """Runs the turns of one worker until their models have answered. No database connection is held meanwhile."""

    def __init__(
        self,
        database: Database,
        ids: Ids,
        registry: Registry,
        *,
        journal: Journal,
        hub: Hub,
        retries: Retries,
        fetch: Fetch | None,
    ) -> None:
        self._database = database
        self._ids = ids
        self._registry = registry
        self._journal = journal
        self._hub = hub
        self._retries = retries
        self._fetch = fetch

    async def run(self, live: Live) -> Ending:
        """The ending of the answer. Raises ProviderFailure when no try is left, Taken, Unasked."""
        if live.turn.attempt == 0:
            await self._take_turn(live)
        tries = 0
        while True:
            try:
                return await self._listen(live)
            except ProviderFailure as failure:
                model, delay = self._next(live, failure, tries)
                if model is None:
                    raise
                live.failed = failure
            tries = tries + 1 if model is live.turn.model else 0
            await asyncio.sleep(delay)
            await _whole(self._begin_attempt(live, live.failed, model))

    async def _listen(self, live: Live) -> Ending:
        """Journal what the model says until its end. Raises ProviderFailure, Taken."""
        name = live.turn.model.provider
        provider, breaker = self._registry.get_provider(name), self._registry.breaker(name)
        with breaker.call():
            async with aclosing(provider.run(self._call(live.turn))) as batches:
                async for batch in batches:
                    breaker.succeed()
                    if ending := live.hear(batch):
                        return ending
                    await self._journal.append(live)
                    if live.lost:
                        raise Taken
            raise ProviderFailure("truncated", "The answer stopped before its end.")

    def _call(self, turn: Turn) -> Call:
        """What the model is asked, with what fetches its images when that is sent."""
        fetch = self._fetch
        if fetch is None or not any(line.parts for line in turn.call.messages):
            return turn.call
        return replace(turn.call, load=lambda sha256: fetch(turn.user_id, sha256))

    def _next(self, live: Live, failure: ProviderFailure, tries: int) -> tuple[Model | None, float]:
        """Whom to ask next and after how many seconds. Once something was said nobody is asked again."""
        turn = live.turn
        if live.answer:
            return None, 0.0
        others = failure.kind != "refused" and turn.fallbacks
        if failure.kind == "circuit_open" and others:
            return turn.fallbacks[0], 0.0
        delay = self._retries.delay(tries, failure)
        if delay is not None:
            return turn.model, delay
        return (turn.fallbacks[0], 0.0) if others else (None, 0.0)

    async def _begin_attempt(self, live: Live, failure: ProviderFailure, model: Model) -> None:
        """Record the failed attempt and the next one. Raises Taken."""
        before = live.turn
        use = use_of(live, End(failure=failure), self._registry)
        turn = before if model is before.model else fall_back(before, model)
        entry_id = (await self._patiently(lambda: self._ids.take("ledger")))[0]
        again = replace(turn, attempt=before.attempt + 1, entry_id=entry_id)
        ended = {"status": "failed", "error_kind": failure.kind, "error_detail": failure.detail[:1000]}
        entry = entry_row(before, use, error_kind=failure.kind)

        async def write(connection: AsyncConnection) -> bool:
            return await begin_attempt(connection, attempt_row(again), ended=ended, entry=entry, epoch=before.epoch)

        if not await self._patiently(lambda: self._database.atomically(write)):
            raise Taken
        live.turn, live.spent, live.counted, live.failed = again, live.spent + use, None, None
        log.info("attempt %s of completion %s after %s", again.attempt, again.completion_id, failure.kind)

    async def _take_turn(self, live: Live) -> None:
        """Wait until every turn before this one is over, then begin. Raises Taken, Unasked.

        The one that it `waits_for` may itself have waited, and been cancelled: then those before that run still.
        """
        turn, over, before = live.turn, set[int](), live.turn.waits_for
        while before is not None:
            await self._hub.wait(turn.user_id, before)
            over.add(before)
            before = await self._patiently(lambda: find_running(self._database, turn, besides=over))
        if await self._patiently(lambda: self._is_cancelled(turn)):
            # Its worker has not heard of it yet; whoever cancelled what ran before it cancelled it at once.
            raise Unasked
        lines, notes = await self._patiently(lambda: read_prompt(self._database, turn))
        if not lines:
            raise Unasked
        call = replace(turn.call, messages=tuple(lines))
        asked = replace(turn, call=call, attempt=1, warnings=(*turn.warnings, *notes))
        await _whole(self._begin_waiting(live, asked))

    async def _is_cancelled(self, turn: Turn) -> bool:
        async with self._database.reading() as connection:
            return await is_to_be_cancelled(connection, turn.name)

    async def _begin_waiting(self, live: Live, turn: Turn) -> None:
        async def write(connection: AsyncConnection) -> bool:
            return await begin_waiting(connection, attempt_row(turn), epoch=turn.epoch)

        if not await self._patiently(lambda: self._database.atomically(write)):
            raise Taken
        live.turn = turn

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it as soon as the database is there."""
        for tries in range(1_000_000):
            try:
                return await work()
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
        raise AssertionError("unreachable")


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Do it to its end, also when the run is stopped meanwhile: rows and memory stay in step."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()):
            log.info("a stopped run could not go on: %s", type(error).__name__)
        raise
