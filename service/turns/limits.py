"""Budgets and limits: what a turn may use is held in the statement that begins it; its end settles that.

A hold that nobody settles expires, and until then counts only as long as its completion runs: a crash leaks nothing.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime

from service.db.engine import Database
from service.domain.history import estimate_prompt
from service.domain.meters import Meters, to_dollars
from service.domain.quotas import SOON, Allowance, Asked, Quota, quotas_of
from service.domain.recent import Recent
from service.errors import EverturnError, LimitExceeded
from service.providers.base import Model
from service.providers.registry import Registry
from service.repositories import limits as rows
from service.repositories.limits import Verdict
from service.repositories.turns import Row
from service.turns.live import Turn

log = logging.getLogger(__name__)

REMEMBERED_SECONDS = 3.0
REMEMBERED = 10_000
ANSWER_TOKENS = 4096
WHOSE = {"all": "Everybody's", "key": "This key's", "user": "This user's"}
SAID = {"requests": "requests a minute", "tokens": "tokens a minute", "streams": "turns at once"}


class Limits:
    """Without limits a turn costs a look into memory, and every few seconds a short query."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._known: Recent[tuple[int, int | None], bool] = Recent(REMEMBERED_SECONDS, REMEMBERED)

    async def hold(self, turn: Turn, expected: int = 0) -> Row | None:
        """The hold to be taken with a turn's begin; None where no limit is there. Raises DatabaseUnavailable.

        It is for the dearest that the turn may become, its fallbacks included. `expected` tokens are yet to come to its
        prompt.
        """
        if not await self._limited(turn.user_id, turn.key_id):
            return None
        prompt = expected + estimate_prompt(turn.call.messages)
        uses = [(one, Meters(prompt, output_tokens=_output(turn, one))) for one in (turn.model, *turn.fallbacks)]
        now = datetime.now(UTC)
        return {
            "user_id": turn.user_id,
            "completion_id": turn.completion_id,
            "key_id": turn.key_id,
            "nano": max(self._registry.cost(model, meters, now).nano or 0 for model, meters in uses),
            "tokens": max(meters.input_tokens + meters.output_tokens for _, meters in uses),
        }

    async def refuse(self, hold: Row, verdict: Verdict) -> LimitExceeded:
        """Say which limit is used up, and when it is worth coming again: when there is room in all of them."""
        asked = _asked(hold)
        over: list[tuple[Quota, int]] = []
        quotas: list[Quota] = []
        for allowance in verdict.allowances:
            for quota in quotas_of(allowance, asked):
                if quota.over and quota.unit == "tokens":
                    quota = replace(quota, reset=await self._relief(allowance, quota, asked.tokens))
                quotas.append(quota)
                if quota.over:
                    over.append((quota, quota.reset or 1))
        worst, wait = max(over, key=lambda one: one[1])
        return _refusal(worst, wait, asked, quotas=quotas)

    def quotas(self, hold: Row, verdict: Verdict) -> tuple[Quota, ...]:
        """What is left of each limit with an accepted turn in it."""
        asked = _asked(hold)
        return tuple(quota for one in verdict.allowances for quota in quotas_of(one, asked))

    async def read(self, user_id: int, key_id: int | None) -> tuple[Quota, ...]:
        """What is left of each limit now. Raises DatabaseUnavailable."""
        if not await self._limited(user_id, key_id):
            return ()
        async with self._database.reading() as connection:
            found = await rows.list_allowances(connection, user_id, key_id)
        return tuple(quota for one in found for quota in quotas_of(one, None))

    def forget(self) -> None:
        """Look at the limits anew: they have changed."""
        self._known.clear()

    async def _limited(self, user_id: int, key_id: int | None) -> bool:
        name = user_id, key_id
        limited = self._known.get(name)
        if limited is None:
            async with self._database.reading() as connection:
                limited = await rows.any_limits(connection, *name)
            self._known.put(name, limited)
        return limited

    async def _relief(self, allowance: Allowance, quota: Quota, tokens: int) -> int:
        """Seconds until enough tokens are a minute old. What running turns hold may be given back at any time."""
        need = quota.used + tokens - quota.limit
        if need <= 0:
            return SOON
        try:
            async with self._database.reading() as connection:
                relief = await rows.find_relief(connection, allowance, need)
        except EverturnError:
            relief = None
        return 60 if relief is None else max(1, -int(-relief.total_seconds() // 1))


def _asked(hold: Row) -> Asked:
    return Asked(hold["nano"], hold["tokens"])


def _output(turn: Turn, model: Model) -> int:
    return turn.call.max_tokens or most_output(model)


def most_output(model: Model) -> int:
    """How long an answer may become whose length nobody bounded."""
    return model.max_output_tokens or ANSWER_TOKENS


def _refusal(quota: Quota, wait: int, asked: Asked, *, quotas: list[Quota]) -> LimitExceeded:
    money = quota.unit == "nano"
    name = f"a {quota.name}" if money else SAID[quota.name]
    # Of everybody's limit nobody is told how much others use.
    left = 0 if quota.scope == "all" else max(quota.limit - quota.used - quota.held, 0)
    facts: dict[str, object] = {
        "name": name,
        "scope": quota.scope,
        "limit": to_dollars(quota.limit) if money else quota.limit,
        "remaining": to_dollars(left) if money else left,
        "reset": wait,
    }
    error = LimitExceeded(_said(quota, name, asked, left=left), retry_after=wait, facts={"quota": facts})
    error.quotas = tuple(quotas)
    return error


def _said(quota: Quota, name: str, asked: Asked, *, left: int) -> str:
    """Why a turn does not fit: what it may use is held, and a smaller `max_tokens` makes that less."""

    def shown(amount: int) -> str:
        return f"{to_dollars(amount)} dollars" if quota.unit == "nano" else f"{amount:,}"

    limit = f"{WHOSE[quota.scope]} limit of {shown(quota.limit)} {name}"
    may = {"nano": asked.nano, "tokens": asked.tokens}.get(quota.unit, 0)
    less = f"this turn may use {shown(may)}. A smaller `max_tokens` makes it less."
    if may > quota.limit > 0:
        return f"{limit} is too small: {less}"
    if may and left:
        return f"{limit} has {shown(left)} left: {less}"
    return f"{limit} is used up."
