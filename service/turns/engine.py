"""The turn engine: begin, run, finish. A run is a task of the worker's; those who watch it are readers."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.ids import Ids
from service.domain.quotas import Quota
from service.errors import EverturnError, Unavailable, WorkerLost
from service.providers.base import ProviderFailure
from service.providers.registry import Registry
from service.repositories import recovery, turns
from service.repositories.limits import Verdict
from service.turns.ending import End, close_turn, from_failure, ids_of, stopped
from service.turns.hub import Hub
from service.turns.images import Fetch
from service.turns.journal import Closed, Journal
from service.turns.limits import Limits
from service.turns.live import Live, Lives
from service.turns.opening import Opening, open_turn
from service.turns.running import Retries, Runner, Taken, Unasked

log = logging.getLogger(__name__)

SOON = 0.05
STOP_SECONDS = 10.0


class Engine:
    """Runs the turns of one worker. No database connection is held while a model talks.

    `fetch` has the bytes of the images in them.
    """

    def __init__(
        self,
        database: Database,
        ids: Ids,
        registry: Registry,
        *,
        lease_seconds: float,
        retries: Retries | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self.worker = uuid4().hex
        self.lives = Lives()
        self.hub = Hub(database, self.lives)
        self._database = database
        self._ids = ids
        self._registry = registry
        self._journal = Journal(database, lease_seconds)
        chosen = retries or Retries()
        self._runner = Runner(database, ids, registry, journal=self._journal, hub=self.hub, retries=chosen, fetch=fetch)
        self._running: dict[asyncio.Task[None], Live] = {}
        self.limits = Limits(database, registry)
        self._released: list[turns.Row] = []
        # Told of every turn that this worker has ended, once that is committed and shown.
        self.answered: Callable[[Live], None] | None = None
        self._draining = False
        self._hurried = asyncio.Event()

    async def start(self) -> None:
        """Prepare. A database that is away delays nothing."""
        try:
            await self._journal.warm_up()
        except EverturnError:
            log.warning("the journal could not be prepared")

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def running(self) -> int:
        """How many turns run, or wait, in this worker now."""
        return len(self._running)

    async def begin(self, opening: Opening) -> Live:
        """Accept a turn: when this returns, it is committed and runs whatever becomes of the caller.

        Raises Conflict when its place in the conversation or its idempotency key is taken, DatabaseUnavailable,
        LimitExceeded, Unavailable while draining.
        """
        if self._draining:
            raise Unavailable("This worker is shutting down; send again.", retry_after=1)
        turn, rows = await open_turn(opening, self._ids, self.worker)
        if hold := await self.limits.hold(turn, opening.expected):
            rows = rows._replace(hold=hold)
        live = Live(turn)
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start(live, self._accept(live, rows, begun))
        await asyncio.shield(begun)
        return live

    def adopt(self, live: Live, end: End | None = None) -> None:
        """Go on with a turn that this worker took over: run it, or record how it ended."""
        self._start(live, self._finish(live, end) if end else self._go(live))

    async def cancel(self, user_id: int, *completion_ids: int) -> None:
        """Have turns stopped on whichever worker they run: none of them begins when another ends.

        Raises DatabaseUnavailable.
        """

        async def write(connection: AsyncConnection) -> set[int]:
            return await recovery.request_cancel(connection, user_id, completion_ids)

        for completion_id in await self._database.atomically(write):
            if live := self.lives.find(user_id, completion_id):
                live.stop("cancelled")

    def close(self) -> None:
        """Take no new turns from now on."""
        self._draining = True

    async def drain(self, grace: float) -> None:
        """Take no new turns, wait `grace` seconds for the running ones, then let go of what is left.

        A turn that had said something ends as incomplete. One that had not is given up, for another worker to run at
        once; those that wait for others are given up at the start. Followers are told to go on elsewhere. A database
        that is away is waited for a little, and then the leases lapse.
        """
        self.close()
        await self._release_waiting()
        await self._outlast(grace)
        left, deadline = len(self._running), monotonic() + STOP_SECONDS
        while self._running and monotonic() < deadline:
            for live in self.lives:
                live.stop("worker_lost" if live.answer else "released")
            await asyncio.wait(list(self._running), timeout=SOON)
        if left:
            log.warning("stopped with turns unfinished: %s", left)
        await self._journal.close(STOP_SECONDS)
        await self._abandon()
        await self._release()
        self.hub.close()

    def hurry(self) -> None:
        """End the grace of a drain now."""
        self._hurried.set()

    async def _release_waiting(self) -> None:
        waiting = [live.task for live in self.lives if live.turn.attempt == 0 and live.stop("released") and live.task]
        if waiting:
            await asyncio.wait(waiting, timeout=STOP_SECONDS)
            await self._release()

    async def _abandon(self) -> None:
        """End what could not even be let go of, such as a begin that the database holds up: its lease lapses."""
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running), timeout=STOP_SECONDS)

    async def _outlast(self, grace: float) -> None:
        """Return when nothing runs any more, when the grace is over or when it is ended."""
        ended = asyncio.gather(*self._running, return_exceptions=True)
        hurried: asyncio.Future[Any] = asyncio.ensure_future(self._hurried.wait())
        await asyncio.wait([ended, hurried], timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()

    async def _release(self) -> None:
        if not self._released:
            return
        try:
            async with self._database.transaction() as connection:
                await recovery.release(connection, self._released)
        except EverturnError:
            log.warning("turns could not be handed over: their leases will lapse")
        else:
            log.info("turns handed over: %s", len(self._released))
            self._released = []

    def _start(self, live: Live, work: Coroutine[None, None, None]) -> None:
        live.task = asyncio.create_task(work, name=f"turn-{live.turn.completion_id}")
        self._running[live.task] = live
        self.lives.add(live)
        live.task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[None]") -> None:
        live = self._running.pop(task)
        self.lives.remove(live)
        live.end()
        if not task.cancelled() and (error := task.exception()):
            log.error("a turn broke", exc_info=error)

    async def _accept(self, live: Live, rows: turns.Begin, begun: "asyncio.Future[None]") -> None:
        try:
            verdict = await self._journal.begin(rows)
            if verdict and rows.hold:
                live.quotas = await self._let_in(rows.hold, verdict)
        except (EverturnError, Closed, asyncio.CancelledError) as error:
            begun.set_exception(error if isinstance(error, EverturnError) else Unavailable())
            return
        begun.set_result(None)
        await self._go(live)

    async def _let_in(self, hold: turns.Row, verdict: Verdict) -> tuple[Quota, ...]:
        """Raises LimitExceeded."""
        if verdict.refused:
            raise await self.limits.refuse(hold, verdict)
        return self.limits.quotas(hold, verdict)

    async def _go(self, live: Live) -> None:
        # Only now may it be stopped: a task that is cancelled before its first step does not even record that.
        live.begun = True
        end = await self._run(live)
        live.settling = True
        if live.stopping == "released":
            live.lose()
            user_id, completion_id = live.turn.name
            self._released.append({"user_id": user_id, "id": completion_id, "epoch": live.turn.epoch})
            return
        await self._finish(live, end)

    async def _finish(self, live: Live, end: End) -> None:
        live.settling = True
        if live.lost or live.stopping == "taken":
            # The finish is fenced: of one that goes on elsewhere it changes nothing, of an erased one it is the bill.
            log.warning("a turn was taken over by another worker, or erased")
        try:
            await self._record(live, end)
        except Closed:
            live.lose()

    async def _record(self, live: Live, end: End) -> None:
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
            if self.answered:
                self.answered(live)
        else:
            live.lose()

    async def _run(self, live: Live) -> End:
        """The turn's outermost edge: whatever happens is an end that gets recorded."""
        try:
            return End(ending=await self._runner.run(live))
        except ProviderFailure as failure:
            return from_failure(failure, live.turn)
        except asyncio.CancelledError:
            return stopped(live)
        except Unasked:
            return End(cancelled=True)
        except Taken:
            return End(error=WorkerLost(facts=ids_of(live.turn)))
        except Exception:
            log.exception("a run broke")
            return End(error=EverturnError("The turn failed inside the service.", facts=ids_of(live.turn)))
