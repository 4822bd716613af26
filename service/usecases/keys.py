"""Keys: tell who is calling, make keys, rotate and revoke them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.ids import Ids
from service.domain.callers import Caller, KeyKind, Scope
from service.domain.claims import Claim
from service.domain.keys import BadTokenError, hash_token, make_token, parse_token, verify
from service.domain.paging import Ask, Page
from service.domain.recent import Recent
from service.errors import Conflict, Forbidden, NotFound, Unauthenticated, Unprocessable
from service.repositories import keys as rows
from service.repositories.limits import drop_limits, hand_on
from service.repositories.paging import Pager
from service.turns.claims import Claims

# Revocation, disabling and erasure hold everywhere within this time.
REMEMBERED_SECONDS = 3.0
REMEMBERED_KEYS = 10_000
UNKNOWN = "This key is unknown, revoked or expired."
LONGEST_LIFE = timedelta(days=36_525)
DEFAULT_SCOPES: tuple[Scope, ...] = ("read", "write", "complete")


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    id: int
    user_id: int
    name: str
    kind: KeyKind
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_to: int | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key with its secret, which is shown this once."""

    key: Key
    token: str


@dataclass(frozen=True, slots=True)
class KeyDraft:
    """A key to be made."""

    name: str = ""
    kind: KeyKind = "user"
    scopes: tuple[Scope, ...] = DEFAULT_SCOPES
    expires_at: datetime | None = None


class Keys:
    def __init__(self, database: Database, ids: Ids, pager: Pager, *, claims: Claims, pepper: bytes) -> None:
        self._claims = claims
        self._database = database
        self._ids = ids
        self._pager = pager
        self._pepper = pepper
        self._known: Recent[str, Caller] = Recent(REMEMBERED_SECONDS, REMEMBERED_KEYS)
        self._refused: Recent[str, bool] = Recent(REMEMBERED_SECONDS, REMEMBERED_KEYS)

    async def authenticate(self, text: str) -> Caller:
        """Who holds this key; without a database round trip where it was asked in the last seconds.

        Raises Unauthenticated, DatabaseUnavailable.
        """
        hashed = hash_token(self._pepper, text)
        caller = self._known.get(hashed)
        if caller is not None:
            return caller
        if self._refused.get(hashed):
            raise Unauthenticated(UNKNOWN)
        try:
            token = parse_token(text)
        except BadTokenError as error:
            raise Unauthenticated(str(error)) from None
        async with self._database.reading() as connection:
            row = await rows.find_credentials(connection, token.id)
        if row is None or not verify(row.hash, hashed) or not row.live or row.disabled:
            self._refused.put(hashed, True)
            raise Unauthenticated(UNKNOWN)
        caller = _caller(row)
        self._known.put(hashed, caller)
        return caller

    async def create(
        self, user_id: int, draft: KeyDraft, creator: Caller | None, *, claim: Claim | None = None
    ) -> NewKey:
        """Make a key; without a creator (the command line) anything goes that makes sense.

        Raises Forbidden for more than the creator may, NotFound for no such user, Unprocessable, Conflict for a claim
        that was made before: the secret is kept nowhere.
        """
        _check_draft(draft)
        if creator is not None:
            _check_reach(draft.kind, draft.scopes, creator)
            _check_life(draft, creator)
        key_id = (await self._ids.take("key"))[0]
        token = make_token(key_id)

        async def work(connection: AsyncConnection) -> NewKey:
            if draft.kind == "admin" and await rows.find_role(connection, user_id) == "user":
                raise Unprocessable("Only an admin can own an admin key.", loc=("body", "kind"))
            await rows.add_key(connection, self._row(user_id, token.text, key_id, draft))
            return NewKey(await self._read(connection, user_id, key_id), token.text)

        try:
            return (await self._claims.once(claim, work, kind=NewKey, secret=True)).made
        except IntegrityError as error:
            raise NotFound(f"There is no user {user_id}.") from error

    async def get(self, user_id: int, key_id: int) -> Key:
        """Raises NotFound, also for somebody else's."""
        async with self._database.reading() as connection:
            return await self._read(connection, user_id, key_id)

    async def page(self, user_id: int, ask: Ask) -> Page[Key]:
        """A page of a user's keys, revoked ones too. Raises BadCursor."""
        async with self._database.reading() as connection:
            page = await rows.page_keys(connection, self._pager, ask, user_id=user_id)
        return page.map(_key)

    async def rotate(
        self, user_id: int, key_id: int, *, overlap_seconds: int, caller: Caller, claim: Claim | None = None
    ) -> NewKey:
        """Make a key like this one, with as long a life, and end this one after `overlap_seconds`.

        Raises NotFound, Forbidden for a key that may do more than the caller's, Conflict for one that has ended, or a
        claim that was made before.
        """
        new_id = (await self._ids.take("key"))[0]
        token = make_token(new_id)

        async def work(connection: AsyncConnection) -> NewKey:
            old = await rows.find_key(connection, user_id, key_id)
            if old is None:
                raise _not_found(key_id)
            _check_reach(old.kind, tuple(old.scopes), caller)
            if not old.live or old.rotated_to is not None:
                raise Conflict(f"Key {key_id} has ended or was rotated before; make a new one.")
            now = datetime.now(UTC)
            until = now + timedelta(seconds=overlap_seconds)
            life = old.expires_at and now + (old.expires_at - old.created_at)
            draft = KeyDraft(old.name, old.kind, tuple(old.scopes), life)
            await rows.add_key(connection, self._row(user_id, token.text, new_id, draft))
            ends = min(until, old.expires_at) if old.expires_at else until
            await rows.edit_key(connection, user_id, key_id, {"rotated_to": new_id, "expires_at": ends})
            await hand_on(connection, key_id, new_id)
            if overlap_seconds == 0:
                await rows.revoke_key(connection, user_id, key_id)
            return NewKey(await self._read(connection, user_id, new_id), token.text)

        made = (await self._claims.once(claim, work, kind=NewKey, secret=True)).made
        self.forget()
        return made

    async def revoke(self, user_id: int, key_id: int) -> None:
        """End a key: here at once, in other workers within seconds. Revoking it again is no error. Raises NotFound."""

        async def work(connection: AsyncConnection) -> None:
            if not await rows.revoke_key(connection, user_id, key_id):
                raise _not_found(key_id)
            await drop_limits(connection, "key", key_id)

        await self._database.atomically(work)
        self.forget()

    async def revoke_any(self, key_id: int) -> None:
        """Revoke a key, whoever owns it: for the command line. Raises NotFound."""
        async with self._database.reading() as connection:
            row = await rows.find_credentials(connection, key_id)
        if row is None:
            raise _not_found(key_id)
        await self.revoke(row.user_id, key_id)

    def forget(self) -> None:
        """Verify every key anew: what it may do has changed."""
        self._known.clear()
        self._refused.clear()

    async def _read(self, connection: AsyncConnection, user_id: int, key_id: int) -> Key:
        row = await rows.find_key(connection, user_id, key_id)
        if row is None:
            raise _not_found(key_id)
        return _key(row)

    def _row(self, user_id: int, token: str, key_id: int, draft: KeyDraft) -> dict[str, Any]:
        return {
            "user_id": user_id,
            "id": key_id,
            "name": draft.name,
            "kind": draft.kind,
            "scopes": sorted(set(draft.scopes)),
            "hash": hash_token(self._pepper, token),
            "expires_at": draft.expires_at,
        }


def _check_draft(draft: KeyDraft) -> None:
    now = datetime.now(UTC)
    if draft.expires_at is not None and not now < draft.expires_at < now + LONGEST_LIFE:
        raise Unprocessable("A key must expire in the future, within a hundred years.", loc=("body", "expires_at"))
    if "provision" in draft.scopes and draft.kind == "user":
        raise Unprocessable("Only a service or admin key can have the scope provision.", loc=("body", "scopes"))


def _check_reach(kind: KeyKind, scopes: tuple[Scope, ...], creator: Caller) -> None:
    if kind != "user" and creator.kind != "admin":
        raise Forbidden(f"Only an admin key makes a key of kind {kind}.")
    wider = sorted(set(scopes) - creator.scopes)
    if wider:
        raise Forbidden(f"Your key has not the scope {', '.join(wider)}, so it cannot give it.")


def _check_life(draft: KeyDraft, creator: Caller) -> None:
    if creator.expires_at is not None and (draft.expires_at is None or draft.expires_at > creator.expires_at):
        raise Forbidden("Your key expires, so one that it makes must expire by then.")


def _caller(row: Row[Any]) -> Caller:
    # An admin's key is worth no more than its owner's role is now.
    kind: KeyKind = "user" if row.kind == "admin" and row.role != "admin" else row.kind
    return Caller(row.id, kind, row.user_id, frozenset(row.scopes), row.expires_at)


def _key(row: Row[Any]) -> Key:
    return Key(**{name: row._mapping[name] for name in Key.__slots__})


def _not_found(key_id: int) -> NotFound:
    return NotFound(f"There is no key {key_id}.")
