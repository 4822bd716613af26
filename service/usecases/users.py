"""Users: make them, find them, change them and erase them; and for whom a caller acts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from unicodedata import normalize

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.ids import Ids
from service.domain.callers import Caller
from service.domain.claims import Claim
from service.domain.paging import Ask, Page
from service.domain.recent import Recent
from service.errors import Conflict, Duplicate, Forbidden, NotFound, Unprocessable
from service.repositories import users as rows
from service.repositories.keys import revoke_service_keys
from service.repositories.limits import put_limits
from service.repositories.paging import Pager
from service.turns.claims import Claims, Once

Role = Literal["user", "admin"]
DEFAULT_SETTINGS: Mapping[str, object] = {"notifications_enabled": True, "theme": "system"}
REMEMBERED_SECONDS = 3.0
REMEMBERED_USERS = 10_000
LONGEST_KEY = {"username_key": 200, "email_key": 508}
FIELDS = {"username_key": "username", "email_key": "email", "external_id": "external_id"}


@dataclass(frozen=True, slots=True)
class User:
    """An account. `settings` has every setting, the unset ones with their default."""

    id: int
    username: str
    email: str | None
    role: Role
    external_id: str | None
    tags: list[str]
    settings: dict[str, Any]
    disabled: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class UserDraft:
    """A user to be made."""

    username: str
    email: str | None = None
    role: Role = "user"
    external_id: str | None = None
    tags: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Standing:
    """Whether somebody can be acted for."""

    id: int
    ordinary: bool
    disabled: bool


class Users:
    def __init__(self, database: Database, ids: Ids, pager: Pager, *, claims: Claims) -> None:
        self._claims = claims
        self._database = database
        self._ids = ids
        self._pager = pager
        self._standings: Recent[int | str, _Standing] = Recent(REMEMBERED_SECONDS, REMEMBERED_USERS)

    async def create(self, draft: UserDraft) -> User:
        """Raises Duplicate, which says what is taken, and Unprocessable for a name that is too long when folded."""
        return (await self.create_once(draft, None)).made

    async def create_once(self, draft: UserDraft, claim: Claim | None) -> Once[User]:
        """As `create`, once for each claim."""
        values = _columns({"username": draft.username, "email": draft.email, "external_id": draft.external_id})
        user_id = (await self._ids.take("user"))[0]
        values |= {"id": user_id, "role": draft.role, "settings": dict(draft.settings or {})}

        async def work(connection: AsyncConnection) -> User:
            await self._refuse_taken(connection, values, None)
            await rows.add_user(connection, values)
            await rows.set_tags(connection, user_id, draft.tags)
            return await self._read(connection, user_id)

        try:
            return await self._claims.once(claim, work, kind=User)
        except IntegrityError as error:
            raise await self._duplicate(values, None) from error

    async def get(self, user_id: int) -> User:
        """Raises NotFound."""
        async with self._database.reading() as connection:
            return await self._read(connection, user_id)

    async def find_named(self, username: str) -> User | None:
        """The user of this name, whatever its case."""
        async with self._database.reading() as connection:
            row = await rows.find_named(connection, fold(username))
            return await self._read(connection, row.id) if row else None

    async def find_external(self, external_id: str) -> User | None:
        async with self._database.reading() as connection:
            row = await rows.find_external(connection, external_id)
            return await self._read(connection, row.id) if row else None

    async def any(self) -> bool:
        """Whether there is a user at all."""
        async with self._database.reading() as connection:
            return await rows.any_user(connection)

    async def page(self, ask: Ask, *, tags: Sequence[str] = (), q: str | None = None) -> Page[User]:
        """A page of the users with all the tags and `q` in their name or address. Raises BadCursor."""
        wanted = sorted(set(tags))
        async with self._database.reading() as connection:
            page = await rows.page_users(connection, self._pager, ask, tags=wanted, q=fold(q) if q else None)
            found = await rows.list_tags(connection, [row.id for row in page.items])
        return page.map(lambda row: _user(row, found.get(row.id, [])))

    async def edit(self, user_id: int, fields: Mapping[str, Any], settings: Mapping[str, Any]) -> User:
        """Change the username or the email, and some of the settings. Raises NotFound, Duplicate, Unprocessable."""
        values = _columns(fields)

        async def work(connection: AsyncConnection) -> User:
            row = await rows.lock_user(connection, user_id)
            if row is None:
                raise not_found(user_id)
            await self._refuse_taken(connection, values, user_id)
            await rows.edit_user(connection, user_id, values | {"settings": {**row.settings, **settings}})
            return await self._read(connection, user_id)

        try:
            return await self._database.atomically(work)
        except IntegrityError as error:
            raise await self._duplicate(values, user_id) from error

    async def govern(
        self,
        user_id: int,
        *,
        role: Role | None = None,
        disabled: bool | None = None,
        tags: Sequence[str] | None = None,
        limits: Mapping[str, int | None] | None = None,
    ) -> User:
        """Change what only an admin may; None leaves it. Raises NotFound, Conflict for the last admin."""
        values: dict[str, Any] = {"role": role, "disabled": disabled}

        async def work(connection: AsyncConnection) -> User:
            before = await rows.find_user(connection, user_id)
            if role == "user" or disabled:
                await self._keep_an_admin(connection, user_id)
            given = {name: value for name, value in values.items() if value is not None}
            if not await rows.edit_user(connection, user_id, given):
                raise not_found(user_id)
            if role == "user" and before is not None and before.role == "admin":
                await revoke_service_keys(connection, user_id)
            if tags is not None:
                await rows.set_tags(connection, user_id, tags)
            if limits:
                await put_limits(connection, "user", user_id, values=limits)
            return await self._read(connection, user_id)

        changed = await self._database.atomically(work)
        self._standings.clear()
        return changed

    def forget(self) -> None:
        """Look again who somebody is."""
        self._standings.clear()

    async def act_for(self, caller: Caller, user: int | str) -> int:
        """The number of the user that a service or admin key names, by number or by external id.

        An unknown external id becomes a user where the key has the scope provision. Remembered for some seconds.
        Raises NotFound, Forbidden where a service key names an admin or a disabled user.
        """
        found = self._standings.get(user) or await self._stand(caller, user)
        if caller.kind != "admin" and not found.ordinary:
            raise Forbidden("A service key acts for ordinary users only.")
        if caller.kind != "admin" and found.disabled:
            raise Forbidden(f"User {found.id} is disabled.")
        return found.id

    async def _stand(self, caller: Caller, user: int | str) -> _Standing:
        async with self._database.reading() as connection:
            find = rows.find_external(connection, user) if isinstance(user, str) else rows.find_user(connection, user)
            row = await find
        if row is not None:
            standing = _Standing(row.id, row.role == "user", row.disabled)
        elif isinstance(user, str) and "provision" in caller.scopes:
            standing = _Standing(await self._provision(user), True, False)
        else:
            raise not_found(user) if isinstance(user, int) else NotFound(f"No user has the external id {user!r}.")
        self._standings.put(user, standing)
        return standing

    async def _provision(self, external_id: str) -> int:
        """Make a user of an external id, named after it where that is free; of two at once the first one counts."""
        chance = (await self._ids.take("user"))[0]
        for username in (external_id[:100], f"{external_id[:80]}-{chance}"):
            try:
                return (await self.create(UserDraft(username, external_id=external_id))).id
            except (Duplicate, Unprocessable):
                found = await self.find_external(external_id)
                if found:
                    return found.id
        return (await self.create(UserDraft(f"user-{chance}", external_id=external_id))).id

    async def _read(self, connection: AsyncConnection, user_id: int) -> User:
        row = await rows.find_user(connection, user_id)
        if row is None:
            raise not_found(user_id)
        return _user(row, (await rows.list_tags(connection, [user_id])).get(user_id, []))

    async def _refuse_taken(self, connection: AsyncConnection, values: Mapping[str, Any], but: int | None) -> None:
        taken = await rows.find_taken(connection, values, but)
        if taken:
            raise _taken(FIELDS[taken])

    async def _duplicate(self, values: Mapping[str, Any], but: int | None) -> Duplicate:
        """What was taken by somebody in the very moment."""
        async with self._database.reading() as connection:
            taken = await rows.find_taken(connection, values, but)
        return _taken(FIELDS[taken] if taken else "username")

    async def _keep_an_admin(self, connection: AsyncConnection, user_id: int) -> None:
        if await rows.lock_admins(connection) == [user_id]:
            raise Conflict("This is the last admin; make another user one first.")


def fold(text: str) -> str:
    """The form in which names and addresses are compared: case and compatible spellings do not tell them apart."""
    return normalize("NFKC", normalize("NFKC", text).casefold())


def not_found(user_id: int) -> NotFound:
    return NotFound(f"There is no user {user_id}.")


def _columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(fields)
    for name in ("username", "email"):
        if name in values:
            values[f"{name}_key"] = folded = None if values[name] is None else fold(values[name])
            if folded is not None and len(folded) > LONGEST_KEY[f"{name}_key"]:
                raise Unprocessable(f"This {name} is too long.", loc=("body", name))
    return values


def _taken(field: str) -> Duplicate:
    return Duplicate(f"Another user has this {field}.", facts={"field": field})


def _user(row: Row[Any], tags: list[str]) -> User:
    found = row._mapping
    names = [name for name in User.__slots__ if name not in ("tags", "settings")]
    return User(**{name: found[name] for name in names}, tags=tags, settings={**DEFAULT_SETTINGS, **found["settings"]})
