"""Erase a user with all that they own, and say what that was."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from service.blobs.store import Blob, Store
from service.db.engine import Database
from service.db.scrub import request_scrub, scrub
from service.errors import Conflict, EverturnError, NotFound
from service.repositories import users as rows
from service.repositories.claims import forget_user
from service.repositories.files import list_blobs

SCRUB_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure removed, by table, and how many ledger entries stay, without the name.

    `overwritten`: nothing of it is left in the free space of the database's file either.
    """

    user_id: int
    erased: dict[str, int]
    kept: dict[str, int]
    overwritten: bool


class Erasures:
    """`forget` is called when somebody is gone."""

    def __init__(self, database: Database, store: Store, forget: Callable[[], None]) -> None:
        self._database = database
        self._store = store
        self._forget = forget

    async def erase(self, user_id: int) -> Receipt:
        """All in one transaction, but the content of files, and what is to be overwritten: a crash leaves these to the
        upkeep. Raises NotFound, Conflict for the last admin.
        """
        counts, blobs = await self._database.atomically(lambda connection: _erase(connection, user_id))
        self._forget()
        await self._store.remove(blobs)
        kept = {"ledger_entries": counts.pop("ledger_entries")}
        return Receipt(user_id, counts, kept, overwritten=await self._overwrite())

    async def _overwrite(self) -> bool:
        try:
            return await scrub(self._database, SCRUB_SECONDS)
        except EverturnError:
            return False


async def _erase(connection: AsyncConnection, user_id: int) -> tuple[dict[str, int], list[Blob]]:
    if await rows.find_user(connection, user_id) is None:
        raise NotFound(f"There is no user {user_id}.")
    if await rows.lock_admins(connection) == [user_id]:
        raise Conflict("This is the last admin; make another user one first.")
    blobs = [Blob(row.user_id, row.sha256, row.token, row.size) for row in await list_blobs(connection, user_id)]
    counts = await rows.erase_user(connection, user_id)
    counts["claims"] += await forget_user(connection, user_id)
    await request_scrub(connection)
    return counts, blobs
