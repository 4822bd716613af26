"""The nemesis: kills, freezes, stops and cuts, at moments of its own, and notes each before it does it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from torture.databases import Postgres, Sqlite
from torture.ledgers import Ledger
from torture.plan import LEASE_SECONDS, Plan, dice
from torture.relay import Relay
from torture.workers import Worker

Fault = Callable[[], Awaitable[None]]
# Whose calls to the provider are open: a worker's name and how many.
Open = Callable[[], Awaitable[Mapping[str, int]]]
# How long it waits for somebody who is worth hitting.
AIM_SECONDS = 1.0
LONG = (LEASE_SECONDS * 1.2, LEASE_SECONDS * 2.0)


class Nemesis:
    """Two hands that work at the same time: one on the workers, one on the database and the lines."""

    def __init__(
        self,
        plan: Plan,
        workers: list[Worker],
        database: Sqlite | Postgres,
        *,
        front: Relay,
        open_calls: Open,
        ledger: Ledger,
    ) -> None:
        self._open_calls = open_calls
        self.struck = 0
        self._every = plan.every
        self._workers = workers
        self._database = database
        self._front = front
        self._ledger = ledger
        self._hand = dice(plan.seed, "workers")
        self._other_hand = dice(plan.seed, "database")

    async def strike(self, over: asyncio.Event) -> None:
        """Until it is over; then everything runs again, and nothing is frozen."""
        workers: dict[Fault, int] = {
            self._kill: 30,
            self._kill_all: 3,
            self._pause: 14,
            self._pause_long: 12,
            self._terminate: 16,
        }
        lines: dict[Fault, int] = {self._cut_front: 8}
        if isinstance(self._database, Postgres):
            lines |= {
                self._cut_leg: 12,
                self._freeze: 10,
                self._freeze_and_cut: 8,
                self._swallow: 25,
                self._end_backends: 16,
                self._restart_fast: 6,
                self._restart_immediate: 8,
            }
        else:
            lines |= {self._lock: 20, self._look: 12}
        hands = ((self._hand, workers), (self._other_hand, lines))
        await asyncio.gather(*(self._use(chance, faults, over) for chance, faults in hands))
        await self._heal()

    async def _use(self, chance: random.Random, faults: dict[Fault, int], over: asyncio.Event) -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), chance.expovariate(1 / self._every))
                return
            fault = chance.choices(list(faults), list(faults.values()))[0]
            with suppress(OSError):
                await fault()

    def _note(self, fault: str, target: str, **facts: Any) -> None:
        self.struck += 1
        self._ledger.write("fault", fault=fault, target=target, **facts)

    async def _victim(self, chance: random.Random) -> Worker | None:
        """One that runs, with turns of its own if there are any; now and then the last one."""
        busy = await self._aim()
        up = [worker for worker in self._workers if worker.state == "up"]
        if len(up) < 2 and chance.random() < 0.7:
            return None
        return chance.choice([worker for worker in up if busy.get(worker.name)] or up) if up else None

    async def _aim(self) -> Mapping[str, int]:
        """Wait a little for a moment at which calls are open; return whose."""
        loop = asyncio.get_running_loop()
        until = loop.time() + AIM_SECONDS
        while loop.time() < until:
            busy = await self._open_calls()
            if any(busy.get(worker.name) for worker in self._workers if worker.state == "up"):
                return busy
            await asyncio.sleep(0.03)
        return {}

    async def _kill(self) -> None:
        if worker := await self._victim(self._hand):
            self._note("kill", worker.name)
            worker.kill()
            worker.start_soon(self._hand.uniform(0, 1.5))

    async def _kill_all(self) -> None:
        await self._aim()
        self._note("kill", "all")
        for worker in self._workers:
            if worker.state == "up":
                worker.kill()
                worker.start_soon(self._hand.uniform(0, 0.5))

    async def _pause(self) -> None:
        await self._pause_for("pause", self._hand.uniform(0.2, 1.5))

    async def _pause_long(self) -> None:
        """Longer than a lease: others take its turns over, and it must not notice too late."""
        await self._pause_for("pause past the lease", self._hand.uniform(*LONG))

    async def _pause_for(self, name: str, seconds: float) -> None:
        if worker := await self._victim(self._hand):
            self._note(name, worker.name, seconds=round(seconds, 2))
            worker.pause()

            async def resume() -> None:
                await asyncio.sleep(seconds)
                worker.resume()

            self._later(worker, resume())

    async def _terminate(self) -> None:
        if worker := await self._victim(self._hand):
            self._note("terminate", worker.name)
            worker.state = "down"

            async def again() -> None:
                code = await worker.stop()
                self._ledger.write("exit", target=worker.name, code=code)
                await worker.start()

            self._later(worker, again())

    async def _cut_front(self) -> None:
        self._note("cut all clients", "clients")
        self._front.cut()

    async def _cut_leg(self) -> None:
        if worker := await self._victim(self._other_hand):
            assert worker.leg
            self._note("cut the database", worker.name)
            worker.leg.cut()

    async def _freeze(self) -> None:
        if worker := await self._victim(self._other_hand):
            await self._frozen(worker, "freeze the database")

    async def _freeze_and_cut(self) -> None:
        if worker := await self._victim(self._other_hand):
            await self._frozen(worker, "freeze and cut the database")
            assert worker.leg
            worker.leg.cut()

    async def _frozen(self, worker: Worker, name: str) -> None:
        ways = self._other_hand.choice((("up",), ("down",), ("up", "down")))
        seconds = self._other_hand.choice((0.5, 1.5, LEASE_SECONDS * 1.3))
        self._note(name, worker.name, seconds=seconds, ways=ways)
        assert worker.leg
        worker.leg.freeze(*ways)
        await asyncio.sleep(seconds)
        worker.leg.thaw()

    async def _swallow(self) -> None:
        """The COMMIT arrives, its answer does not."""
        if worker := await self._victim(self._other_hand):
            assert worker.leg
            if await worker.leg.swallow_commit(1.0):
                self._note("swallow the answer of a COMMIT", worker.name)

    async def _end_backends(self) -> None:
        assert isinstance(self._database, Postgres)
        await self._aim()
        self._note("terminate connections", "database")
        await self._database.terminate(self._other_hand)

    async def _restart_fast(self) -> None:
        await self._restart(immediate=False)

    async def _restart_immediate(self) -> None:
        await self._restart(immediate=True)

    async def _restart(self, *, immediate: bool) -> None:
        assert isinstance(self._database, Postgres)
        await self._aim()
        self._note(f"restart the database ({'immediate' if immediate else 'fast'})", "database")
        await self._database.restart(immediate)

    async def _lock(self) -> None:
        assert isinstance(self._database, Sqlite)
        await self._aim()
        seconds = self._other_hand.choice((0.3, 1.0, LEASE_SECONDS * 1.3))
        self._note("lock the database", "database", seconds=seconds)
        await self._database.lock(seconds)

    async def _look(self) -> None:
        assert isinstance(self._database, Sqlite)
        await self._aim()
        self._note("hold an old snapshot", "database")
        await self._database.look(self._other_hand.uniform(0.5, 4))

    def _later(self, worker: Worker, work: Any) -> None:
        task = asyncio.create_task(work)
        worker.starts.add(task)
        task.add_done_callback(worker.starts.discard)

    async def _heal(self) -> None:
        self._ledger.write("healed")
        for worker in self._workers:
            if worker.leg:
                worker.leg.thaw()
            while worker.starts:
                await asyncio.gather(*worker.starts)
            if worker.state == "down":
                await worker.start()
