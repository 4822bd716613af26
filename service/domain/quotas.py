"""Limits and what is used of them: what is left with a turn in it, and when there is more."""

import json
from dataclasses import dataclass
from typing import NamedTuple

from service.domain.periods import PERIODS, period

MINUTE = 60
SECOND = 1_000_000
# Running turns give back what they do not use: that is worth another try soon.
SOON = 2


class Asked(NamedTuple):
    """The most that a turn may cost and use."""

    nano: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limits of one user, one key or all together, and what was used and is held at a moment of the database.

    What is not limited is None, and so is what was used of it. `clock` and `freed` are microseconds since 1970; at
    `freed` came the request whose leaving the last 60 seconds makes room for another one.
    """

    scope: str
    subject_id: int
    clock: int
    day_nano: int | None
    week_nano: int | None
    month_nano: int | None
    requests_minute: int | None
    tokens_minute: int | None
    streams: int | None
    day: int | None
    week: int | None
    month: int | None
    requests: int | None
    freed: int | None
    tokens: int | None
    running: int
    held_nano: int
    held_tokens: int


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit: how much of it there is, was used and is held, and how much is left with the turn in it.

    `reset` is the number of seconds until there is more; None where that is not known. `unit` is `requests`, `tokens`,
    `turns` or `nano`, `window` seconds; None for turns at once.
    """

    scope: str
    name: str
    unit: str
    limit: int
    used: int
    held: int
    left: int
    reset: int | None
    window: int | None = None

    @property
    def over(self) -> bool:
        return self.left < 0


def read_allowances(text: str) -> list[Allowance]:
    """What the database noted as a JSON list."""
    return [Allowance(**one) for one in json.loads(text)]


def quotas_of(allowance: Allowance, asked: Asked | None) -> list[Quota]:
    """Each limit of an allowance; with what a turn asked for taken off, or as it is (None)."""
    one, found = allowance, []
    turn = 0 if asked is None else 1
    nano, tokens = asked or Asked()
    if one.requests_minute is not None:
        used = one.requests or 0
        left = one.requests_minute - used - turn
        reset = MINUTE if one.freed is None else _until(one.freed + MINUTE * SECOND, one.clock)
        found.append(Quota(one.scope, "requests", "requests", one.requests_minute, used, 0, left, reset, MINUTE))
    if one.tokens_minute is not None:
        used = one.tokens or 0
        left = one.tokens_minute - used - one.held_tokens - tokens
        found.append(Quota(one.scope, "tokens", "tokens", one.tokens_minute, used, one.held_tokens, left, 60, MINUTE))
    if one.streams is not None:
        left = one.streams - one.running - turn
        found.append(Quota(one.scope, "streams", "turns", one.streams, one.running, 0, left, None))
    return found + _budgets(one, nano)


def _budgets(one: Allowance, nano: int) -> list[Quota]:
    found = []
    clock = one.clock // SECOND
    for name in PERIODS:
        limit: int | None = getattr(one, f"{name}_nano")
        if limit is None:
            continue
        used: int = getattr(one, name) or 0
        start, end = period(name, clock)
        left = limit - used - one.held_nano - nano
        # What costs nothing passes an empty purse.
        left = max(left, 0) if nano == 0 else left
        waits = left < 0 <= limit - used - nano
        reset = SOON if waits else _until(end * SECOND, one.clock)
        found.append(Quota(one.scope, name, "nano", limit, used, one.held_nano, left, reset, end - start))
    return found


def _until(moment: int, clock: int) -> int:
    """Whole seconds, rounded up, and at least one."""
    return max(1, -((clock - moment) // SECOND))
