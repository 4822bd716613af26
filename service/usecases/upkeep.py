"""Upkeep of files and database: what a crash, an erasure or a deletion leaves behind goes; old journals are folded."""

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.blobs.store import NAME, Blob, Store
from service.db.engine import Database
from service.db.scrub import scrub
from service.domain.tasks import end
from service.errors import EverturnError
from service.repositories import files as rows
from service.turns.folds import Folds

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
SCRUB_EVERY_SECONDS = 30.0
SCRUB_SECONDS = 20.0
# An upload's file gets its name at most some seconds before its row is committed, and is written to all the time.
GRACE_SECONDS = 3600.0
FIRST_SECONDS = 60.0
OWNERS_AT_ONCE = 100
NAMES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed: unfinished uploads, blobs without a row, rows that nothing refers to."""

    unfinished: int
    unknown: int
    unreferenced: int


class Upkeep:
    """Sweeps soon after the start and then every hour. Several workers may do so at once.

    `folds` are the journals to be folded; None where they are to stay.
    """

    def __init__(
        self, database: Database, store: Store, folds: Folds | None = None, *, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._database = database
        self._store = store
        self._folds = folds
        self._grace = grace_seconds
        self._looked_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._watch(), name="upkeep")]
        if self._database.dialect == "sqlite":
            self._tasks.append(asyncio.create_task(self._scrub(), name="scrub"))
        if self._folds:
            self._tasks.append(asyncio.create_task(self._fold(self._folds), name="folds"))

    async def stop(self) -> None:
        await end(*self._tasks)

    async def sweep(self) -> Swept:
        """Raises DatabaseUnavailable, Unavailable; what was found until then is removed."""
        now = time.time()
        unfinished = await self._store.clear_temporary(now - self._grace)
        unreferenced = await self._release()
        unknown = 0
        for folder in await self._store.folders():
            unknown += await self._sweep_folder(folder, now - self._grace)
        # From now on only what was written since: older files were all known, and whoever lets one go removes it.
        self._looked_until = now - 2 * self._grace
        return Swept(unfinished, unknown, unreferenced)

    async def _watch(self) -> None:
        await asyncio.sleep(random.uniform(FIRST_SECONDS / 4, FIRST_SECONDS))
        while True:
            try:
                swept = await self.sweep()
                if swept != Swept(0, 0, 0):
                    log.info("files swept: %s", swept)
            except (EverturnError, DBAPIError) as error:
                log.warning("the files could not be swept: %s", type(error).__name__)
            await asyncio.sleep(EVERY_SECONDS)

    async def _scrub(self) -> None:
        """Go on with what an erasure could not overwrite at once."""
        while True:
            await asyncio.sleep(random.uniform(SCRUB_EVERY_SECONDS / 2, SCRUB_EVERY_SECONDS))
            try:
                await scrub(self._database, SCRUB_SECONDS)
            except (EverturnError, DBAPIError) as error:
                log.warning("what was erased could not be overwritten: %s", type(error).__name__)

    async def _fold(self, folds: Folds) -> None:
        while True:
            await asyncio.sleep(random.uniform(folds.pause / 2, folds.pause))
            try:
                if gone := await folds.fold():
                    log.info("journals folded: %s rows fewer", gone)
            except (EverturnError, SQLAlchemyError) as error:
                log.warning("journals could not be folded: %s", type(error).__name__)

    async def _release(self) -> int:
        """Let go of blobs that nothing refers to any more."""
        count = 0
        while True:
            async with self._database.reading() as connection:
                owners = await rows.owners_of_waste(connection, OWNERS_AT_ONCE)
            for user_id in owners:
                count += await self._release_of(user_id)
            if len(owners) < OWNERS_AT_ONCE:
                return count

    async def _release_of(self, user_id: int) -> int:
        async def work(connection: AsyncConnection) -> list[Blob]:
            await rows.lock_usage(connection, user_id)
            found = await rows.release_blobs(connection, user_id)
            await rows.add_usage(connection, user_id, size=-sum(row.size for row in found), count=0)
            return [Blob(row.user_id, row.sha256, row.token, row.size) for row in found]

        try:
            gone = await self._database.atomically(work)
        except IntegrityError:
            # Erased meanwhile, and the blobs' rows with it.
            return 0
        await self._store.remove(gone)
        return len(gone)

    async def _sweep_folder(self, folder: Path, before: float) -> int:
        found = [p for p, at in await self._store.list(folder) if self._looked_until <= at < before]
        named = [(path, match) for path in found if (match := NAME.fullmatch(path.name))]
        gone: list[Path] = []
        for start in range(0, len(named), NAMES_AT_ONCE):
            batch = named[start : start + NAMES_AT_ONCE]
            keys = [(int(match["user_id"]), match["sha256"]) for _, match in batch]
            async with self._database.reading() as connection:
                known = await rows.known_tokens(connection, keys)
            gone += [path for path, m in batch if (int(m["user_id"]), m["sha256"], m["token"]) not in known]
        await self._store.unlink_paths(gone)
        return len(gone)
