"""Turns that lost their worker: finished with what they have, or run again where nothing was said yet."""

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

from service.db.engine import Database
from service.db.ids import Ids
from service.domain.events import Answer, unpack
from service.domain.history import MOST_MESSAGES, Line, assemble, fit, window_for
from service.domain.meters import Meters
from service.errors import EverturnError, UnknownModel, WorkerLost
from service.providers.base import Call, ChatMessage, Model
from service.providers.registry import Registry
from service.repositories import conversations, messages, recovery
from service.repositories.events import Record, list_events
from service.turns.ending import End, ids_of
from service.turns.engine import Engine
from service.turns.live import Live, Turn

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
MOST_AT_ONCE = 20


class Recovery:
    """Looks for lapsed leases three times a lease, so that a lost turn goes on within a lease and a third."""

    def __init__(
        self, database: Database, ids: Ids, registry: Registry, engine: Engine, *, lease_seconds: float
    ) -> None:
        self._database = database
        self._ids = ids
        self._registry = registry
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="recovery")

    def stop(self) -> None:
        if self._task:
            self._task.cancel()

    async def sweep(self) -> int:
        """Take over what has lapsed; return how many turns. Raises DatabaseUnavailable."""
        if self._engine.draining:
            return 0
        async with self._database.transaction() as connection:
            claimed = await recovery.claim_lapsed(
                connection, self._engine.worker, lease_seconds=self._lease_seconds, most=MOST_AT_ONCE
            )
        for record in claimed:
            await self._recover(record)
        return len(claimed)

    async def _watch(self) -> None:
        while True:
            try:
                if recovered := await self.sweep():
                    log.warning("turns taken over: %s", recovered)
            except EverturnError:
                log.warning("lapsed turns could not be looked for")
            await asyncio.sleep(self._lease_seconds / 3)

    async def _recover(self, record: Record) -> None:
        live = await self._restore(record)
        lost = End(error=WorkerLost(facts=ids_of(live.turn)))
        # What was not to be stored cannot be asked again: nobody has the question any more.
        if live.events or not record.stored or record.attempt_count >= MOST_ATTEMPTS or not self._offers(live.turn):
            self._engine.adopt(live, lost)
            return
        again = replace(live.turn, attempt=live.turn.attempt + 1)
        if await self._begin_attempt(live.turn, again):
            self._engine.adopt(Live(again))

    def _offers(self, turn: Turn) -> bool:
        return turn.model.provider in self._registry.provider_names()

    async def _restore(self, record: Record) -> Live:
        """The turn as far as the database knows it."""
        model = await self._model(record)
        async with self._database.reading() as connection:
            rows = await list_events(connection, record.user_id, record.id)
        turn = Turn(
            user_id=record.user_id,
            completion_id=record.id,
            conversation_id=record.conversation_id,
            message_id=record.message_id,
            key_id=record.key_id,
            entry_id=(await self._ids.take("ledger"))[0],
            model=model,
            call=_call(record, model, await self._prompt(record, model)),
            warnings=tuple(record.warnings),
            epoch=record.epoch,
            attempt=record.attempt_count,
        )
        events = [event for row in rows for event in unpack(row.seq, json.loads(row.data))]
        answer = Answer()
        for event in events:
            answer.add(event.kind, event.data)  # type: ignore[arg-type]  # a running turn has deltas only
        return Live(turn, events=events, answer=answer, next_seq=len(events) + 1)

    async def _model(self, record: Record) -> Model:
        try:
            return await self._registry.find_model(record.model)
        except UnknownModel:
            return Model(record.model, provider=record.provider, upstream=record.model, source="discovered")

    async def _prompt(self, record: Record, model: Model) -> list[Line]:
        """What the model was asked: the branch before the answer, as far as it fits."""
        if record.message_id is None:
            return []
        async with self._database.reading() as connection:
            answer = await messages.find_message(connection, record.user_id, record.message_id)
            talk = await conversations.find_conversation(connection, record.user_id, record.conversation_id)
            asked = (
                answer
                and answer.parent_id
                and await messages.find_position(connection, record.user_id, record.conversation_id, answer.parent_id)
            )
            if not asked or talk is None:
                return []
            rows = await messages.read_branch(
                connection, record.user_id, record.conversation_id, leaf=asked, limit=MOST_MESSAGES
            )
        lines = assemble((Line(row.role, row.content) for row in rows), talk.system_prompt)
        return fit(lines, window_for(model.max_tokens, record.max_tokens))[0]

    async def _begin_attempt(self, lost: Turn, again: Turn) -> bool:
        attempt: dict[str, Any] = {
            "user_id": again.user_id,
            "completion_id": again.completion_id,
            "number": again.attempt,
            "provider": again.model.provider,
            "upstream_model": again.model.upstream,
            "status": "in_progress",
        }
        entry: dict[str, Any] = {
            "user_id": lost.user_id,
            "id": (await self._ids.take("ledger"))[0],
            "completion_id": lost.completion_id,
            "attempt": lost.attempt,
            "conversation_id": lost.conversation_id,
            "key_id": lost.key_id,
            "model": lost.model.id,
            "provider": lost.model.provider,
            **dict.fromkeys(Meters.__slots__, 0),
            "cost_nano": 0,
            "price_source": "none",
            "price_version": "",
            "provenance": "estimated",
        }
        async with self._database.transaction() as connection:
            return await recovery.begin_attempt(connection, attempt, entry, epoch=again.epoch)


def _call(record: Record, model: Model, prompt: list[Line]) -> Call:
    others = record.parameters
    return Call(
        model=model.upstream,
        messages=tuple(ChatMessage(line.role, line.content) for line in prompt),  # type: ignore[arg-type]  # stored roles
        stream=record.streamed,
        max_tokens=record.max_tokens,
        temperature=record.temperature,
        top_p=others.get("top_p"),
        stop=tuple(others.get("stop") or ()),
        seed=others.get("seed"),
    )
