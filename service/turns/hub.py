"""Following a turn from any worker: the one that runs it shows its events at once, the others read the journal."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from service.db.engine import Database
from service.domain.events import TERMINAL, Event
from service.domain.folds import tell
from service.errors import EverturnError, NotFound
from service.repositories import events
from service.repositories.events import Watch
from service.turns.live import BATCH, Live, Lives

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
HEARTBEAT_SECONDS = 15.0
FIRST_HEARTBEAT_SECONDS = 1.0
NOTHING_AFTER = 2**53
# What is read at once for one who follows: about so many characters, and no more events than that.
WINDOW_CHARS, MOST_EVENTS = 64 * 1024, 1024


@dataclass(eq=False, slots=True)
class _Follower:
    """One reader of one turn. `position` is the last event that it has got; `window` events are read for it at once."""

    user_id: int
    completion_id: int
    position: int
    window: int = BATCH
    found: list[Event] = field(default_factory=list)
    over: bool = False
    behind: bool = False
    erased: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def watch(self) -> Watch:
        after = self.position + len(self.found)
        return Watch(self.user_id, self.completion_id, after, after + self.window)

    def unkept(self) -> Event:
        """The end of a turn whose events are not kept: it was not to be stored, or was erased."""
        if not self.erased:
            return Event(self.position + 1, "done", {})
        gone = NotFound(f"Completion {self.completion_id} was erased.")
        problem = {"status": gone.status, "code": gone.code, "title": gone.title, "detail": gone.detail}
        return Event(self.position + 1, "error", {**problem, "completion_id": self.completion_id})

    def give(self, journalled: list[Event], over: bool | None) -> None:
        """The next of a turn's events, which others may follow from elsewhere: there may be gaps between them.

        `over` is None where the completion is not there any more.
        """
        new: list[Event] = []
        expected = self.watch.after + 1
        for event in journalled:
            if event.seq == expected and len(new) < self.window:
                new.append(event)
                expected += 1
        self.found += new
        self.erased = over is None
        ended = bool(new) and new[-1].kind in TERMINAL
        self.over = over is not False and (ended or not new)
        self.behind = bool(new) and not ended and (over is True or len(new) >= self.window)
        if new:
            chars = sum(len(event.data) for event in new if isinstance(event.data, str))
            self.window = max(1, min(MOST_EVENTS, WINDOW_CHARS * len(new) // max(chars, 1)))
        if new or self.over:
            self.woken.set()


class Hub:
    """One query a tick for all who follow turns of other workers, however many they are."""

    def __init__(self, database: Database, lives: Lives) -> None:
        self._database = database
        self._lives = lives
        self._followers: set[_Follower] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def follow(
        self, user_id: int, completion_id: int, *, after: int = 0, live: Live | None = None
    ) -> AsyncGenerator[list[Event]]:
        """The events above `after`, in batches, up to the terminal one, or to a reconnect where the worker goes.

        `live` is the turn where the caller has it. An empty batch is a heartbeat. Whoever has the terminal event
        already gets it again. While the database is away it is waited for.
        """
        position = max(after, 0)
        if live := live or self._lives.find(user_id, completion_id):
            async for batch in live.follow(position, first=FIRST_HEARTBEAT_SECONDS, heartbeat=HEARTBEAT_SECONDS):
                yield batch
                position += len(batch)
                if batch and batch[-1].kind in TERMINAL:
                    return
        # It runs elsewhere, or is over, or another worker took it over from this one.
        async for batch in self._read(_Follower(user_id, completion_id, position)):
            yield batch

    async def wait(self, user_id: int, completion_id: int) -> bool:
        """Return when a completion is over, or not there, wherever it runs; False where this worker goes first."""
        last = None
        async for batch in self.follow(user_id, completion_id, after=NOTHING_AFTER):
            last = batch[-1] if batch else last
        return last is None or last.kind != "reconnect"

    def close(self) -> None:
        """Tell all who follow to go on at another worker: this one stops."""
        self._closed = True
        for follower in self._followers:
            follower.woken.set()

    async def _read(self, follower: _Follower) -> AsyncGenerator[list[Event]]:
        await self._look_or_wait([follower])
        loop = asyncio.get_running_loop()
        self._followers.add(follower)
        alarm_seconds = FIRST_HEARTBEAT_SECONDS
        try:
            while True:
                follower.woken.clear()
                if batch := follower.found[:BATCH]:
                    follower.position, follower.found = batch[-1].seq, follower.found[BATCH:]
                    yield batch
                    if batch[-1].kind in TERMINAL:
                        return
                    if follower.behind and not follower.found:
                        await self._look_or_wait([follower])
                elif follower.over:
                    yield [await self._find_last(follower)]
                    return
                elif self._closed:
                    yield [Event(follower.position, "reconnect", {"starting_after": follower.position})]
                    return
                else:
                    self._poll()
                    alarm = loop.call_later(alarm_seconds, follower.woken.set)
                    await follower.woken.wait()
                    alarm.cancel()
                    alarm_seconds = HEARTBEAT_SECONDS
                    if not follower.found and not follower.over and not self._closed:
                        yield []
        finally:
            self._followers.discard(follower)

    def _poll(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="hub")

    async def _watch(self) -> None:
        try:
            while self._followers:
                await asyncio.sleep(POLL_SECONDS)
                # One that has not taken what was found for it is slow: it gets no more meanwhile.
                await self._look_or_wait([one for one in self._followers if not one.over and not one.found])
        finally:
            self._task = None

    async def _find_last(self, follower: _Follower) -> Event:
        """The terminal event of a turn that is over, with its own number."""
        try:
            async with self._database.reading() as connection:
                row = await events.find_last_row(connection, follower.user_id, follower.completion_id)
        except EverturnError:
            return Event(follower.position, "reconnect", {"starting_after": follower.position})
        return tell(row.seq, row.data, None)[-1] if row else follower.unkept()

    async def _look_or_wait(self, followers: list[_Follower]) -> None:
        """Look for what is new; a database that is away is looked at again with the next tick."""
        try:
            await self._look(followers)
        except EverturnError:
            log.warning("the journal could not be read for followers")

    async def _look(self, followers: list[_Follower]) -> None:
        if not followers:
            return
        watches = {one: one.watch for one in followers}
        async with self._database.reading() as connection:
            rows = await events.list_watched(connection, list(set(watches.values())))
        found: dict[tuple[int, int], list[Event]] = {}
        over: dict[tuple[int, int], bool] = {}
        for row in rows:
            name = row.user_id, row.id
            over[name] = row.over
            some = found.setdefault(name, [])
            if row.seq is not None and (not some or row.seq > some[-1].seq):
                some += tell(row.seq, row.data, row.said)
        for one, watch in watches.items():
            # Where somebody else looked for it meanwhile, this says nothing of what comes after that.
            if one.watch == watch:
                name = one.user_id, one.completion_id
                one.give(found.get(name, []), over.get(name))
