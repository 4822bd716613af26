"""Folding the journals of turns that ended long ago: told from their messages, they need few rows and no text.

Completions are walked in the order in which they began, each of them once, whatever becomes of it; `folded_until` is
the place. Journals are read, folded and compared while nothing is held; they are written in short transactions that
move the place too, and only from where it was: of two workers that folded the same one writes it.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import takewhile
from time import monotonic
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.folds import Fold, Kept, Stored, fold, read
from service.repositories import folds
from service.repositories.folds import Due, Name, Place

log = logging.getLogger(__name__)

# So many completions are looked at together, fewer where they have many rows; a transaction replaces no more rows.
TURNS, ROWS = 20, 1000
# After each transaction it rests for so many times as long as that took: turns come first.
REST = 4.0
# What is not over holds up those after it: it can be folded later. But not for longer than this.
PATIENCE_SECONDS = 86_400.0
EVERY_SECONDS = 60.0
# What a row raises that is none of the journal's.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)


class Batch(NamedTuple):
    """What one transaction writes, and from where to where the place moves with it."""

    before: Place
    after: Place
    folds: list[tuple[Name, Fold]]


class Folds:
    """Folds each journal when its turn has been over for so many hours."""

    def __init__(self, database: Database, hours: float) -> None:
        self._database = database
        self._seconds = hours * 3600.0

    @property
    def pause(self) -> float:
        """Seconds after which it is worth looking again."""
        return min(EVERY_SECONDS, self._seconds)

    async def fold(self, *, rest: float = REST) -> int:
        """Fold all that is due; return how many rows that took away. Raises DatabaseUnavailable.

        It ends where another worker is at it.
        """
        gone, began = 0, monotonic()
        while batches := await self._look():
            for batch in batches:
                if not await self._database.atomically(partial(_write, batch=batch)):
                    return gone
                gone += sum(one.rows - 1 for _, one in batch.folds)
                await asyncio.sleep(rest * (monotonic() - began))
                began = monotonic()
        return gone

    async def _look(self) -> list[Batch]:
        """The next that are due, folded; [] where none is."""
        looked: list[tuple[Due, list[Fold]]] = []
        async with self._database.reading() as connection:
            start = await folds.read_place(connection)
            found = await folds.list_due(
                connection, start, seconds=self._seconds, patience=PATIENCE_SECONDS, most=TURNS
            )
            left = ROWS
            for due in takewhile(lambda one: one.over or one.forlorn, found):
                made = await _fold(connection, due) if due.over and due.stored else []
                looked.append((due, made))
                left -= sum(one.rows for one in made)
                if left <= 0:
                    break
        return list(_batches(start, looked))


async def _fold(connection: AsyncConnection, due: Due) -> list[Fold]:
    """A journal folded; [] where it is to stay as it is."""
    kept = await folds.read_kept(connection, *due.name)
    journal = await folds.list_rows(connection, *due.name) if kept else []
    if kept is None or not journal:
        return []
    try:
        # A long one takes a while; in another thread it stops nobody.
        return await asyncio.to_thread(_folded, journal, kept)
    except UNREADABLE as error:
        log.warning("the journal of completion %s cannot be folded: %s", due.id, type(error).__name__)
        return []


def _folded(journal: Sequence[Stored], kept: Kept) -> list[Fold]:
    return fold(read(journal, kept), kept)


def _batches(start: Place, looked: Sequence[tuple[Due, list[Fold]]]) -> Iterator[Batch]:
    """The place moves past a completion with the last of its rows."""
    some: list[tuple[Name, Fold]] = []
    before = place = start
    for due, made in looked:
        for one in made:
            if some and sum(fold.rows for _, fold in some) + one.rows > ROWS:
                yield Batch(before, place, some)
                before, some = place, []
            some.append((due.name, one))
        place = due.place
    if looked:
        yield Batch(before, place, some)


async def _write(connection: AsyncConnection, batch: Batch) -> bool:
    """False where another worker was there before."""
    if not await folds.move(connection, batch.before, batch.after):
        return False
    if batch.folds:
        await folds.write_folds(connection, batch.folds)
    return True
