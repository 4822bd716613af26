"""The fold of what was used into rollups, in the background of every worker."""

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from service.db.engine import Database
from service.domain.tasks import end
from service.errors import EverturnError
from service.repositories import rollups
from service.repositories.limits import sweep_holds

log = logging.getLogger(__name__)

FOLD_SECONDS = 5.0


class Folding:
    """Folds every few seconds. Reports are right without it, and slower the more there is to be folded."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="folding")

    async def stop(self) -> None:
        await end(self._task)

    async def fold(self) -> None:
        """Fold all there is, in transactions of bounded size. Raises DatabaseUnavailable."""
        while await self._fold_some():
            pass

    async def _fold_some(self) -> bool:
        async with self._database.reading() as connection:
            if not await rollups.any_unfolded(connection):
                return False
        return await self._database.atomically(rollups.fold)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(FOLD_SECONDS)
            try:
                await self.fold()
                await self._database.atomically(sweep_holds)
            except (EverturnError, SQLAlchemyError) as error:
                log.warning("usage could not be folded: %s", type(error).__name__)
