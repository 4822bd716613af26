"""A worker's pulse: it holds on to its turns, hears who is to be stopped, and looks after those that nobody holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.tasks import end
from service.errors import EverturnError
from service.repositories import claims, events, turns
from service.repositories.recovery import list_signals
from service.turns.live import Lives
from service.turns.recovery import Recovery

log = logging.getLogger(__name__)

PULSE_SECONDS = 0.4
TIDY_SECONDS = 3600.0
FORGET_SECONDS = 5.0
CLAIM_HOURS = 48


class Watch:
    """Renews leases and sweeps three times a lease, and listens every PULSE_SECONDS in one statement."""

    def __init__(self, database: Database, lives: Lives, recovery: Recovery, *, lease_seconds: float) -> None:
        self._database = database
        self._lives = lives
        self._recovery = recovery
        self._lease_seconds = lease_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self._tidied = monotonic()
        self._blind = False
        self._trusts_from = float("-inf")
        self._forgot = float("-inf")

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._hold(), name="leases"),
            asyncio.create_task(self._listen(), name="pulse"),
        ]

    async def stop(self) -> None:
        await end(*self._tasks)

    async def renew(self) -> None:
        """Hold on to this worker's turns, in one statement for all, and let go of those that it lost."""
        held = [live for live in self._lives if live.begun]
        epochs = self._recovery.held | {live.turn.name: live.turn.epoch for live in held}
        if not epochs:
            return
        rows = [{"user_id": name[0], "id": name[1], "epoch": epoch} for name, epoch in epochs.items()]

        async def write(connection: AsyncConnection) -> set[turns.Name]:
            return await turns.renew_leases(connection, rows, self._lease_seconds)

        kept = await self._database.atomically(write)
        for live in held:
            if live.turn.name not in kept and live.outcome is None:
                live.stop("taken")

    async def sweep(self) -> int:
        """Take over what has lapsed; return how many turns.

        Its own leases are renewed first: a worker that slept goes on with what nobody has taken meanwhile. After the
        database was away, everybody is given the time to do that: then a lapsed lease says nothing about its worker.
        """
        await self.renew()
        return 0 if monotonic() < self._trusts_from else await self._recovery.sweep()

    async def listen(self) -> None:
        """Stop the turns here that somebody wants stopped, and take over at once what nobody holds."""
        async with self._database.reading() as connection:
            signals = await list_signals(connection)
        for signal in signals:
            live = self._lives.find(signal.user_id, signal.id)
            if live and signal.cancelled:
                live.stop("cancelled")
        if any(signal.free for signal in signals):
            await self.sweep()

    async def forget(self) -> None:
        """Purge the events of ended turns that were not to be stored."""
        async with self._database.reading() as connection:
            due = await events.has_unstored(connection)
        if due:
            await self._database.atomically(events.purge_unstored)

    async def _hold(self) -> None:
        while True:
            await self._survive(self.renew, "leases could not be renewed")
            await asyncio.sleep(self._lease_seconds / 3)

    async def _listen(self) -> None:
        swept = float("-inf")
        while True:
            if monotonic() - swept >= self._lease_seconds / 3:
                swept = monotonic()
                await self._survive(self.sweep, "lapsed turns could not be looked for")
            await self._survive(self.listen, "signals could not be read")
            await self._survive(self._tidy, "old rows could not be removed")
            await asyncio.sleep(PULSE_SECONDS)

    async def _tidy(self) -> None:
        """Forget what was not to be stored a little after its end, and old idempotency keys once an hour."""
        if monotonic() - self._forgot >= FORGET_SECONDS:
            self._forgot = monotonic()
            await self.forget()
        if monotonic() - self._tidied >= TIDY_SECONDS:
            async with self._database.transaction() as connection:
                await claims.purge_claims(connection, hours=CLAIM_HOURS)
            self._tidied = monotonic()

    async def _survive(self, work: Callable[[], Awaitable[object]], failed: str) -> None:
        """Whatever goes wrong, the pulse goes on: without it a worker loses all its turns."""
        try:
            await work()
        except EverturnError:
            self._blind = True
            log.warning(failed)
        except Exception:
            log.exception(failed)
        else:
            if self._blind:
                self._blind = False
                self._trusts_from = monotonic() + self._lease_seconds / 2
                await self._survive(self.renew, "leases could not be renewed")
