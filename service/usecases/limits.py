"""Limits: what a user, a key and all together may use, what is used of it, and setting it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.quotas import Quota, quotas_of
from service.errors import NotFound
from service.repositories import keys, users
from service.repositories import limits as rows

Scope = Literal["all", "key", "user"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom limits are of. A key is its `owner`'s, or anybody's (None)."""

    scope: Scope
    id: int = 0
    owner: int | None = None

    @property
    def names(self) -> tuple[int, int]:
        """A user and a key by whose numbers its limits are found."""
        return (self.id if self.scope == "user" else 0), (self.id if self.scope == "key" else 0)


class Limits:
    """`changed` is called after a change, to have this worker look at the limits anew; others do within seconds."""

    def __init__(self, database: Database, changed: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._changed = changed

    async def get(self, subject: Subject) -> list[Quota]:
        """What is limited, in one statement on the database's clock. Raises NotFound for no such user or key."""
        async with self._database.reading() as connection:
            return await _read(connection, subject)

    async def edit(self, subject: Subject, values: Mapping[str, int | None]) -> list[Quota]:
        """Set some budgets and limits, by the database's names; None takes one away. Raises NotFound."""

        async def work(connection: AsyncConnection) -> list[Quota]:
            await _check(connection, subject)
            if values:
                await rows.put_limits(connection, subject.scope, subject.id, values=values)
            return await _read(connection, subject)

        changed = await self._database.atomically(work)
        self._changed()
        return changed

    async def delete(self, subject: Subject) -> None:
        """Take all limits away; once more is no error. Raises NotFound."""

        async def work(connection: AsyncConnection) -> None:
            await _check(connection, subject)
            await rows.drop_limits(connection, subject.scope, subject.id)

        await self._database.atomically(work)
        self._changed()


async def _read(connection: AsyncConnection, subject: Subject) -> list[Quota]:
    await _check(connection, subject)
    found = await rows.list_allowances(connection, *subject.names)
    return [quota for one in found if one.scope == subject.scope for quota in quotas_of(one, None)]


async def _check(connection: AsyncConnection, subject: Subject) -> None:
    if subject.scope == "user" and await users.find_user(connection, subject.id) is None:
        raise NotFound(f"There is no user {subject.id}.")
    if subject.scope == "key":
        found = await keys.find_credentials(connection, subject.id)
        if found is None or subject.owner not in (None, found.user_id):
            raise NotFound(f"There is no key {subject.id}.")
