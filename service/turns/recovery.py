"""Turns that lost their worker: finished with what they have, or run again where nothing was said yet."""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.ids import Ids
from service.domain.events import Answer, unpack
from service.domain.meters import Use
from service.errors import DatabaseUnavailable, UnknownModel, WorkerLost
from service.providers.base import Model
from service.providers.registry import Registry
from service.repositories import attempts, recovery
from service.repositories.events import Record, list_events
from service.turns.ending import End, entry_row, ids_of
from service.turns.engine import Engine
from service.turns.live import Live, Turn
from service.turns.opening import Sampling, attempt_row, call_of
from service.turns.prompts import find_running, read_prompt

log = logging.getLogger(__name__)

MOST_LOST = 3
MOST_AT_ONCE = 20
ENDED = {"status": "failed", "error_kind": "worker_lost"}


class Recovery:
    """Takes over turns whose leases have lapsed or that were given up."""

    def __init__(
        self, database: Database, ids: Ids, registry: Registry, engine: Engine, *, lease_seconds: float
    ) -> None:
        self._database = database
        self._ids = ids
        self._registry = registry
        self._engine = engine
        self._lease_seconds = lease_seconds
        self._sweeping = asyncio.Lock()
        # Claimed, and not adopted yet: (user_id, completion id) and epoch.
        self.held: dict[tuple[int, int], int] = {}

    async def sweep(self) -> int:
        """Take over what has lapsed; return how many turns. Raises DatabaseUnavailable."""
        taken = 0
        async with self._sweeping:
            while not self._engine.draining:
                claimed = await self._claim()
                taken += claimed
                if claimed < MOST_AT_ONCE:
                    break
        if taken:
            log.warning("turns taken over: %s", taken)
        return taken

    async def settle(self) -> None:
        """Return when no sweep is under way."""
        async with self._sweeping:
            return

    async def _claim(self) -> int:
        async def write(connection: AsyncConnection) -> list[Record]:
            return await recovery.claim_lapsed(
                connection, self._engine.worker, lease_seconds=self._lease_seconds, most=MOST_AT_ONCE
            )

        claimed = await self._database.atomically(write)
        self.held = {(record.user_id, record.id): record.epoch for record in claimed}
        try:
            await asyncio.gather(*(self._take(record) for record in claimed))
        finally:
            self.held = {}
        return len(claimed)

    async def _take(self, record: Record) -> None:
        """One turn that cannot be taken over keeps nobody from the others; its lease lapses again."""
        try:
            await self._recover(record)
        except DatabaseUnavailable:
            log.warning("completion %s could not be taken over now", record.id)
        except Exception:
            log.exception("completion %s could not be taken over", record.id)

    async def _recover(self, record: Record) -> None:
        live = await self._restore(record)
        if live is None:
            return
        turn = live.turn
        if record.cancel_requested_at:
            self._engine.adopt(live, End(cancelled=True))
        elif record.status == "queued":
            self._engine.adopt(Live(replace(turn, waits_for=await find_running(self._database, turn))))
        elif record.stored and not turn.call.messages and not live.events:
            # Its question was deleted meanwhile.
            self._engine.adopt(live, End(cancelled=True))
        elif await self._is_lost(record, live):
            self._engine.adopt(live, End(error=WorkerLost(facts=ids_of(turn))))
        else:
            await self._run_again(live)

    async def _is_lost(self, record: Record, live: Live) -> bool:
        """What was not to be stored cannot be asked again: nobody has the question any more."""
        if live.events or not record.stored or live.turn.model.provider not in self._registry.provider_names():
            return True
        async with self._database.reading() as connection:
            return await attempts.count_lost(connection, record.user_id, record.id) >= MOST_LOST

    async def _run_again(self, live: Live) -> None:
        turn = live.turn
        entry_id = (await self._ids.take("ledger"))[0]
        again = replace(turn, attempt=turn.attempt + 1, entry_id=entry_id)
        entry = entry_row(turn, Use(), error_kind="worker_lost")

        async def write(connection: AsyncConnection) -> bool:
            return await attempts.begin_attempt(
                connection, attempt_row(again), ended=ENDED, entry=entry, epoch=again.epoch
            )

        if await self._database.atomically(write):
            self._engine.adopt(Live(again, spent=live.spent))

    async def _restore(self, record: Record) -> Live | None:
        """The turn as far as the database knows it; None where it was taken from this worker and ended meanwhile."""
        model = await self._model(record)
        async with self._database.reading() as connection:
            rows = await list_events(connection, record.user_id, record.id)
            spent = await attempts.read_spent(connection, record.user_id, record.id)
        others: dict[str, Any] = record.parameters
        sampling = Sampling(
            record.temperature,
            record.max_tokens,
            top_p=others.get("top_p"),
            stop=tuple(others.get("stop") or ()),
            seed=others.get("seed"),
        )
        turn = Turn(
            user_id=record.user_id,
            completion_id=record.id,
            conversation_id=record.conversation_id,
            message_id=record.message_id,
            key_id=record.key_id,
            entry_id=(await self._ids.take("ledger"))[0],
            asked=model,
            model=model,
            call=call_of(model, (), sampling, streamed=record.streamed),
            fallbacks=await self._fallbacks(others.get("fallbacks") or ()),
            warnings=tuple(record.warnings),
            epoch=record.epoch,
            attempt=record.attempt_count,
            compared="compared" in others,
        )
        lines, _ = await read_prompt(self._database, turn)
        turn = replace(turn, call=call_of(model, lines, sampling, streamed=record.streamed))
        events = [event for row in rows for event in unpack(row.seq, json.loads(row.data))]
        answer = Answer()
        for event in events:
            if event.kind not in ("text", "reasoning"):
                return None
            answer.add(event.kind, event.data)
        return Live(turn, events=events, answer=answer, spent=spent, next_seq=len(events) + 1)

    async def _model(self, record: Record) -> Model:
        try:
            return await self._registry.find_model(record.model)
        except UnknownModel:
            return Model(record.model, provider=record.provider, upstream=record.model, source="discovered")

    async def _fallbacks(self, names: Sequence[str]) -> tuple[Model, ...]:
        """Those that are still there."""
        found = []
        for name in names:
            try:
                found.append(await self._registry.find_model(name))
            except UnknownModel:
                log.warning("a fallback model is not there any more")
        return tuple(found)
