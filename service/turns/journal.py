"""The group commit: begins, events and finishes of all turns of a worker share one transaction after another."""

import asyncio
import logging
import random
from contextlib import suppress
from itertools import count

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from service.db.engine import Database
from service.db.failures import is_rollback
from service.errors import Conflict, DatabaseUnavailable, EverturnError
from service.repositories import turns
from service.repositories.limits import Verdict
from service.repositories.recovery import release
from service.repositories.turns import Begin, Finish, Flush, Row, Written
from service.turns.live import Live, Turn
from service.turns.work import Work

log = logging.getLogger(__name__)

BATCH = 128
LINGER_SECONDS = 0.004
BACKLOG_CHARS = 1_000_000
BEGIN_RETRIES = 2
# What the database, its driver or the encoding of a row may raise about the row itself.
REFUSALS = (SQLAlchemyError, ValueError, TypeError, ArithmeticError)
ROLLBACK_SECONDS = 0.02
# For a statement to notice that nobody waits for it any more.
ABANDON_SECONDS = 1.0
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


class Closed(Exception):
    """The worker goes, and writes nothing more: what it leaves is another worker's."""


class Journal:
    """Writes turns durably. One flush runs at a time; whatever arrives meanwhile goes into the next.

    A begin that the database cannot take now fails its caller. Events and finishes are never given up: they wait in
    memory, bounded because a run stops reading its provider, until the database is back.
    """

    def __init__(self, database: Database, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._begins: list[tuple[Begin, asyncio.Future[Verdict | None]]] = []
        self._dirty: dict[Live, None] = {}
        self._finishes: list[tuple[Finish, asyncio.Future[bool]]] = []
        self._flushed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._urgent = False
        # Begins that were refused although their commit may have come through: (user_id, id, epoch).
        self._doubtful: list[Row] = []
        # Why nothing can be written now; None while all is well.
        self._outage: DatabaseUnavailable | None = None
        self._closed = False

    async def warm_up(self) -> None:
        """Prepare the statements of a flush, so that the first turns do not wait for it. Raises DatabaseUnavailable."""
        if self._database.dialect == "postgresql":
            async with self._database.statement() as connection:
                await turns.warm_up(connection)

    async def begin(self, begin: Begin) -> Verdict | None:
        """Return when the turn is committed, or refused: what limits said, None where it holds nothing.

        Raises Conflict, DatabaseUnavailable, Closed.
        """
        if self._closed:
            raise Closed
        if self._outage:
            raise type(self._outage)()
        future: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        self._begins.append((begin, future))
        self._wake()
        return await future

    async def append(self, live: Live) -> None:
        """Have a turn's pending events journalled and then shown. Waits only while its backlog is too large."""
        if self._closed:
            return live.lose()
        self._dirty[live] = None
        if live.events:
            self._linger()
        else:
            self._wake()
        while live.pending_chars > BACKLOG_CHARS and not self._closed:
            self._flushed.clear()
            await self._flushed.wait()

    async def finish(self, finish: Finish) -> bool:
        """Return when the end is committed; False where the turn had been ended before or taken over. Raises Closed."""
        if self._closed:
            raise Closed
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._finishes.append((finish, future))
        self._wake()
        return await asyncio.shield(future)

    async def drain(self) -> None:
        """Return when everything given so far is written."""
        self._wake()
        while self._task:
            await asyncio.shield(self._task)

    async def close(self, seconds: float) -> None:
        """Write what was given so far, if that takes no longer, and nothing after that: whoever waits hears Closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.drain()
        self._closed = True
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=ABANDON_SECONDS)
        left = Work(self._begins, [], self._finishes)
        self._begins, self._finishes = [], []
        left.refuse(Closed())
        self._flushed.set()

    def _wake(self) -> None:
        """Somebody waits: flush now, or right after the flush that runs."""
        self._urgent = True
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._flush(), name="journal")

    def _linger(self) -> None:
        """The answer is under way: its next events may wait a little for others', and share a flush with them."""
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._wake)

    async def _flush(self) -> None:
        try:
            while self._urgent:
                self._urgent = False
                if self._alarm:
                    self._alarm.cancel()
                    self._alarm = None
                if work := self._take():
                    await self._write_or_refuse(work)
                    self._flushed.set()
        finally:
            self._task = None

    def _take(self) -> Work:
        self._urgent = len(self._begins) > BATCH or len(self._finishes) > BATCH
        begins, self._begins = self._begins[:BATCH], self._begins[BATCH:]
        dirty, self._dirty = self._dirty, {}
        appends = [(live, live.take_pending()) for live in dirty]
        finishes, self._finishes = self._finishes[:BATCH], self._finishes[BATCH:]
        return Work(begins, [(live, events) for live, events in appends if events], finishes)

    async def _write_or_refuse(self, work: Work) -> None:
        try:
            await self._write(work)
        except asyncio.CancelledError:
            work.refuse(Closed())
            raise

    async def _write(self, work: Work) -> None:
        """Write it all, whatever it takes, and tell those who wait."""
        while True:
            try:
                written = await self._commit(work)
            except DatabaseUnavailable as outage:
                return await self._outlast(work, outage)
            except REFUSALS as error:
                if not is_rollback(error):
                    return await self._isolate(work, error)
                # Nothing is wrong with the work: somebody else's transaction won.
                await asyncio.sleep(random.uniform(0.0, ROLLBACK_SECONDS))
            else:
                await self._settle(work, written)
                return await self._clear_doubts()

    async def _commit(self, work: Work) -> Written:
        flush = Flush(
            [begin for begin, _ in work.begins],
            work.event_rows(),
            [finish for finish, _ in work.finishes],
        )
        if self._database.dialect == "postgresql":
            async with self._database.statement() as connection:
                return await turns.write_at_once(connection, flush, self._lease_seconds)
        return await self._database.in_thread(lambda one: turns.write_in_turn(one, flush, self._lease_seconds))

    async def _isolate(self, work: Work, error: Exception) -> None:
        """One item spoiled the transaction: write each on its own, so that it spoils only itself."""
        parts = work.split()
        if len(parts) > 1:
            for part in parts:
                await self._write(part)
            return
        log.warning("a write was refused: %s", type(getattr(error, "orig", error)).__name__)
        if isinstance(error, IntegrityError):
            work.refuse(Conflict("The conversation changed meanwhile; read it and send again."))
        else:
            work.refuse(EverturnError())

    async def _outlast(self, work: Work, outage: DatabaseUnavailable) -> None:
        """The database is away, or full: begins are tried a few times more, the rest until it is written."""
        self._outage = outage
        try:
            for attempt in count():
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                try:
                    written = await self._commit(work)
                except DatabaseUnavailable as error:
                    self._outage = error
                    if attempt >= BEGIN_RETRIES:
                        self._doubtful += [_hold(begin) for begin, _ in work.begins]
                        work = work.without_begins(error)
                    if not work:
                        break
                except REFUSALS:
                    await self._write(work)
                    break
                else:
                    # Over before anybody hears of it: who was told that a turn has ended may begin the next at once.
                    self._outage = None
                    await self._settle(work, written)
                    await self._clear_doubts()
                    break
        finally:
            self._outage = None

    async def _clear_doubts(self) -> None:
        """Give up the refused turns that are there after all: who asks again with the same key finds them running."""
        if not self._doubtful:
            return
        doubtful, self._doubtful = self._doubtful, []
        try:
            async with self._database.transaction() as connection:
                await release(connection, doubtful)
        except DatabaseUnavailable:
            self._doubtful += doubtful

    async def _settle(self, work: Work, written: Written) -> None:
        """Tell those who wait. Only what the database took is shown: another worker may have taken a turn over."""
        for begin, begun in work.begins:
            if not begun.done():
                begun.set_result(written.holds.get(begin.name))
        for live, events in work.appends:
            if live.turn.name in written.journalled or await self._is_held(live.turn):
                live.publish(events)
            else:
                live.lose()
        for finish, ended in work.finishes:
            if not ended.done():
                ended.set_result(finish.name in written.finished)

    async def _is_held(self, turn: Turn) -> bool:
        """Events that were not written may have been there already: a commit whose answer was lost."""
        try:
            async with self._database.reading() as connection:
                return await turns.find_held(connection, turn.name, turn.epoch)
        except DatabaseUnavailable:
            return False


def _hold(begin: Begin) -> Row:
    return {name: begin.completion[name] for name in ("user_id", "id", "epoch")}
