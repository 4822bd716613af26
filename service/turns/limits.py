"""Budgets and limits: what a turn may use is held before it begins; what it used takes the place of that at its end.

A hold counts while its completion runs. So the transaction that ends a turn, on whichever worker, settles it, and one
that never began counts until it expires: a crash leaks nothing.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.history import Line, estimate_prompt
from service.domain.meters import Meters, to_dollars
from service.domain.periods import PERIODS, period
from service.domain.recent import Recent
from service.errors import EverturnError, LimitExceeded
from service.providers.base import Model
from service.providers.registry import Registry
from service.repositories import limits as rows
from service.turns.live import Turn

log = logging.getLogger(__name__)

REMEMBERED_SECONDS = 3.0
REMEMBERED = 10_000
HOLD_SECONDS = 60.0
ANSWER_TOKENS = 4096
WHOSE = {"all": "everybody's", "key": "this key's", "user": "this user's"}


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of a limit there is, how much is left with this turn in it, and in how many seconds there is more."""

    name: str
    limit: int
    left: int
    reset: int
    unit: str = "nano"

    def refuse(self, whose: str) -> LimitExceeded:
        limit = f"{to_dollars(self.limit)} dollars" if self.unit == "nano" else f"{self.limit:,}"
        said = f"{whose[0].upper()}{whose[1:]} limit of {limit} {self.name} is used up."
        quota: dict[str, object] = {"name": self.name, "limit": self.limit, "remaining": 0, "reset": self.reset}
        if self.unit == "nano":
            quota["limit"] = to_dollars(self.limit)
        return LimitExceeded(said, retry_after=max(1, self.reset), facts={"quota": quota})


class Limits:
    """Without limits a turn costs a look into memory, and every few seconds a short query."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._known: Recent[tuple[int, int | None], bool] = Recent(REMEMBERED_SECONDS, REMEMBERED)

    async def reserve(self, turn: Turn) -> None:
        """Hold what a turn may use, or raise LimitExceeded. Raises DatabaseUnavailable."""
        name = turn.user_id, turn.key_id
        limited = self._known.get(name)
        if limited is None:
            async with self._database.reading() as connection:
                limited = bool(await rows.list_limits(connection, *name))
            self._known.put(name, limited)
        if not limited:
            return
        hold = self._hold(turn)

        async def work(connection: AsyncConnection) -> None:
            # The locks come first: what is added up below is seen by later statements.
            for limit in await rows.list_limits(connection, *name, lock=True):
                await _check(connection, limit, hold)
            await rows.add_hold(connection, hold, seconds=HOLD_SECONDS)

        await self._database.atomically(work)

    async def release(self, turn: Turn) -> None:
        """Give back what a turn held that was not begun after all; where that fails it expires."""
        if not self._known.get((turn.user_id, turn.key_id)):
            return
        try:
            await self._database.atomically(lambda connection: rows.drop_hold(connection, *turn.name))
        except EverturnError:
            log.warning("a hold was left to expire")

    def _hold(self, turn: Turn) -> dict[str, Any]:
        """The dearest that the turn may become, its fallbacks included."""
        lines = [Line(message.role, message.content) for message in turn.call.messages]
        asked = estimate_prompt(lines)
        uses = [(model, Meters(asked, output_tokens=_output(turn, model))) for model in (turn.model, *turn.fallbacks)]
        now = datetime.now(UTC)
        return {
            "user_id": turn.user_id,
            "completion_id": turn.completion_id,
            "key_id": turn.key_id,
            "nano": max(self._registry.cost(model, meters, now).nano or 0 for model, meters in uses),
            "tokens": max(meters.input_tokens + meters.output_tokens for _, meters in uses),
        }


def _output(turn: Turn, model: Model) -> int:
    return turn.call.max_tokens or model.max_output_tokens or ANSWER_TOKENS


async def _check(connection: AsyncConnection, limit: Row[Any], hold: dict[str, Any]) -> None:
    name = limit.scope, limit.subject_id
    clock = await rows.read_clock(connection)
    held = await rows.read_held(connection, *name)
    quotas = [*_rates(limit, held, clock)]
    if limit.tokens_minute is not None:
        left = limit.tokens_minute - await rows.read_tokens(connection, *name) - held.tokens - hold["tokens"]
        quotas.append(Quota("tokens a minute", limit.tokens_minute, left, 60, "tokens"))
    budgets = {one: getattr(limit, f"{one}_nano") for one in PERIODS if getattr(limit, f"{one}_nano") is not None}
    # What costs nothing passes an empty purse.
    if budgets and hold["nano"]:
        periods = {one: period(one, clock) for one in budgets}
        spent = await rows.read_spent(connection, *name, since={one: start for one, (start, _) in periods.items()})
        for one, most in budgets.items():
            free = most - spent[one] - hold["nano"]
            # Running turns give back what they do not use: that is worth another try soon.
            reset = periods[one][1] - clock if free < 0 else 2
            quotas.append(Quota(f"a {one}", most, free - held.nano, reset))
    for quota in quotas:
        if quota.left < 0:
            raise quota.refuse(WHOSE[limit.scope])


def _rates(limit: Row[Any], held: Row[Any], clock: int) -> Iterator[Quota]:
    if limit.requests_minute is not None:
        reset = 60 if held.oldest is None else max(1, held.oldest + 60 - clock + 1)
        yield Quota(
            "requests a minute", limit.requests_minute, limit.requests_minute - held.requests - 1, reset, "requests"
        )
    if limit.streams is not None:
        yield Quota("turns at once", limit.streams, limit.streams - held.streams - 1, 1, "turns")
