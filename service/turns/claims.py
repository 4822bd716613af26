"""Requests that are carried out once, whatever happens to their answers: the same key gets the same answer again."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import randbits
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.claims import Claim
from service.errors import Conflict, IdempotencyMismatch
from service.repositories.claims import add_claim, find_claim
from service.repositories.events import Record

Made = TypeVar("Made")
_adapters: dict[Any, TypeAdapter[Any]] = {}


@dataclass(frozen=True, slots=True)
class Once(Generic[Made]):
    """What a request made; `replayed` where an earlier one with the same key had made it."""

    made: Made
    replayed: bool = False


class Claims:
    """The idempotency keys of all users. A key is written in the transaction that carries its request out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, claim: Claim) -> Record | None:
        """What came of an earlier request with this key. Raises IdempotencyMismatch where that was another request."""
        async with self._database.reading() as connection:
            found = await find_claim(connection, claim.user_id, claim.key)
        if found is not None and found.fingerprint != claim.fingerprint:
            raise IdempotencyMismatch("This Idempotency-Key came with another request before; take a new one.")
        return found

    async def done(self, claim: Claim | None, *, kind: type[Made]) -> Once[Made] | None:
        """What an earlier request with this key made: for those that read what may be gone by now before they work.

        Raises as `find` does, Conflict where its answer is not kept.
        """
        found = await self.find(claim) if claim else None
        return Once(_revived(found, kind), replayed=True) if found else None

    async def once(
        self,
        claim: Claim | None,
        work: Callable[[AsyncConnection], Awaitable[Made]],
        *,
        kind: type[Made],
        secret: bool = False,
    ) -> Once[Made]:
        """Do a creating transaction. `kind` is the dataclass that it makes, which is kept as JSON to be said again.

        The answer of a `secret` one is not kept: asked again it is a Conflict. Raises what `work` raises,
        IdempotencyMismatch, DatabaseUnavailable.
        """
        if claim is None:
            return Once(await self._database.atomically(work))
        if done := await self.done(claim, kind=kind):
            return done

        async def claimed(connection: AsyncConnection) -> Made:
            made = await work(connection)
            answer = None if secret else _adapter(kind).dump_json(made).decode()
            await add_claim(connection, _row(claim, answer))
            return made

        try:
            return Once(await self._database.atomically(claimed))
        except (IntegrityError, Conflict):
            # Either the key was used meanwhile, or the work itself contradicts what is there.
            if done := await self.done(claim, kind=kind):
                return done
            raise


def _row(claim: Claim, answer: str | None) -> dict[str, Any]:
    return {
        "user_id": claim.user_id,
        "key": claim.key,
        "holder": randbits(53),
        "fingerprint": claim.fingerprint,
        "answer": answer,
    }


def _revived(found: Record, kind: type[Made]) -> Made:
    if found.answer is None:
        raise Conflict("This was done before, and its answer is not kept.")
    made: Made = _adapter(kind).validate_json(found.answer)
    return made


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once for each dataclass: that takes milliseconds."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]
