"""The turn engine: begin, run, finish. A run is a task of the worker's; those who watch it are readers."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import aclosing
from uuid import uuid4

from service.db.engine import Database
from service.db.ids import Ids
from service.errors import EverturnError, Unavailable, WorkerLost
from service.providers.base import Ending, ProviderFailure
from service.providers.registry import Registry
from service.repositories import turns
from service.turns.ending import End, close_turn, from_failure, ids_of
from service.turns.journal import Journal
from service.turns.live import Live
from service.turns.opening import Opening, open_turn

log = logging.getLogger(__name__)


class Engine:
    """Runs the turns of one worker. No database connection is held while a model talks."""

    def __init__(self, database: Database, ids: Ids, registry: Registry, *, lease_seconds: float) -> None:
        self.worker = uuid4().hex
        self._database = database
        self._ids = ids
        self._registry = registry
        self._lease_seconds = lease_seconds
        self._journal = Journal(database, lease_seconds)
        self._running: dict[asyncio.Task[None], Live] = {}
        self._lives: dict[tuple[int, int], Live] = {}
        self._renewal: asyncio.Task[None] | None = None
        self._draining = False

    async def start(self) -> None:
        """Hold leases from now on. A database that is away delays nothing."""
        try:
            await self._journal.warm_up()
        except EverturnError:
            log.warning("the journal could not be prepared")
        self._renewal = asyncio.create_task(self._renew(), name="leases")

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def running(self) -> int:
        """How many turns run in this worker now."""
        return len(self._running)

    async def begin(self, opening: Opening) -> Live:
        """Accept a turn: when this returns, it is committed and runs whatever becomes of the caller.

        Raises Conflict when its place in the conversation is taken, DatabaseUnavailable, Unavailable while draining.
        """
        if self._draining:
            raise Unavailable("This worker is shutting down; send again.", retry_after=1)
        turn, rows = await open_turn(opening, self._ids, self.worker)
        live = Live(turn)
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start(live, self._accept(live, rows, begun))
        await asyncio.shield(begun)
        return live

    def adopt(self, live: Live, end: End | None = None) -> None:
        """Go on with a turn that this worker took over: run it, or record how it ended."""
        self._start(live, self._resume(live, end))

    def find(self, user_id: int, completion_id: int) -> Live | None:
        """The turn, where it runs in this worker."""
        return self._lives.get((user_id, completion_id))

    async def drain(self, grace: float) -> None:
        """Take no new turns, wait `grace` seconds for the running ones, then end what is left as incomplete."""
        self._draining = True
        if self._running:
            await asyncio.wait(list(self._running), timeout=grace)
        left = list(self._running)
        for task in left:
            task.cancel()
        if left:
            log.warning("stopped with turns unfinished: %s", len(left))
            await asyncio.wait(left, timeout=10)
        if self._renewal:
            self._renewal.cancel()
        await self._journal.drain()

    def _start(self, live: Live, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"turn-{live.turn.completion_id}")
        self._running[task] = live
        self._lives[live.turn.name] = live
        task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[None]") -> None:
        live = self._running.pop(task)
        if self._lives.get(live.turn.name) is live:
            del self._lives[live.turn.name]
        live.end()
        if not task.cancelled() and (error := task.exception()):
            log.error("a turn broke", exc_info=error)

    async def _accept(self, live: Live, rows: turns.Begin, begun: "asyncio.Future[None]") -> None:
        try:
            await self._journal.begin(rows)
        except (EverturnError, asyncio.CancelledError) as error:
            begun.set_exception(error if isinstance(error, EverturnError) else Unavailable())
            return
        live.begun = True
        begun.set_result(None)
        await self._finish(live, await self._run(live))

    async def _resume(self, live: Live, end: End | None) -> None:
        live.begun = True
        await self._finish(live, end or await self._run(live))

    async def _finish(self, live: Live, end: End) -> None:
        if live.lost:
            # The finish is fenced: of one that goes on elsewhere it changes nothing, of an erased one it is the bill.
            log.warning("a turn was taken over by another worker, or erased")
        pending = live.take_pending()
        closing = close_turn(live, end, registry=self._registry, pending=pending)
        try:
            won = await self._journal.finish(closing.finish)
        except EverturnError as refusal:
            # The database takes nothing of this end: then the turn ends with what is surely writable.
            broken = EverturnError("The end of this turn could not be stored as it was.", facts=ids_of(live.turn))
            log.error("an end was refused: %s", refusal.code)
            closing = close_turn(live, End(error=broken), registry=self._registry, pending=pending)
            won = await self._journal.finish(closing.finish)
        if won:
            live.close(closing.finish.outcome, closing.error, closing.tail)
        else:
            live.lose()
            live.error = WorkerLost("The turn was erased, or another worker has it.", facts=ids_of(live.turn))

    async def _run(self, live: Live) -> End:
        """The turn's outermost edge: whatever happens is an end that gets recorded."""
        turn = live.turn
        try:
            return End(ending=await self._listen(live))
        except ProviderFailure as failure:
            return from_failure(failure, turn)
        except asyncio.CancelledError:
            return End(error=WorkerLost(facts=ids_of(turn)))
        except Exception:
            log.exception("a run broke")
            return End(error=EverturnError("The turn failed inside the service.", facts=ids_of(turn)))

    async def _listen(self, live: Live) -> Ending:
        """Journal what the model says until its end. Raises ProviderFailure."""
        provider = self._registry.get_provider(live.turn.model.provider)
        async with aclosing(provider.run(live.turn.call)) as batches:
            async for batch in batches:
                if ending := live.hear(batch):
                    return ending
                await self._journal.append(live)
                if live.lost:
                    break
        raise ProviderFailure("truncated", "The answer stopped before its end.")

    async def _renew(self) -> None:
        """Hold on to the leases of this worker's turns, in one statement for all, and let go of those that it lost."""
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            held = [(task, live) for task, live in self._running.items() if live.begun]
            if not held:
                continue
            rows = [{"user_id": u, "id": c, "epoch": live.turn.epoch} for _, live in held for u, c in [live.turn.name]]
            try:
                async with self._database.transaction() as connection:
                    kept = await turns.renew_leases(connection, rows, self._lease_seconds)
            except EverturnError:
                log.warning("leases could not be renewed")
                continue
            for task, live in held:
                if live.turn.name not in kept and task in self._running and live.outcome is None:
                    live.lose()
                    task.cancel()
