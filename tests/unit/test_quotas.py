"""What is left of limits, and for how long: from the numbers that the database found."""

from dataclasses import replace
from typing import Any

import pytest

from service.api.quotas import quota_headers
from service.domain.quotas import SECOND, Allowance, Asked, Quota, quotas_of

# Wednesday, 2025-11-26T10:00:00.25Z.
CLOCK = 1_764_151_200_250_000
NOTHING = Allowance(
    scope="user",
    subject_id=1,
    clock=CLOCK,
    day_nano=None,
    week_nano=None,
    month_nano=None,
    requests_minute=None,
    tokens_minute=None,
    streams=None,
    day=None,
    week=None,
    month=None,
    requests=None,
    freed=None,
    tokens=None,
    running=0,
    held_nano=0,
    held_tokens=0,
)


def only(allowance: Allowance, asked: Asked | None = None) -> Quota:
    (found,) = quotas_of(allowance, asked)
    return found


def test_what_is_not_limited_is_no_quota() -> None:
    assert quotas_of(NOTHING, Asked(1, 1)) == []


@pytest.mark.parametrize(("ago", "reset"), [(0, 60), (0.2, 60), (59.0, 1), (59.999, 1), (30.5, 30)])
def test_requests_are_free_again_when_the_oldest_is_a_minute_old(ago: float, reset: int) -> None:
    limited = replace(NOTHING, requests_minute=3, requests=3, freed=CLOCK - int(ago * SECOND))
    found = only(limited, Asked())
    assert (found.left, found.over, found.reset) == (-1, True, reset)
    assert only(limited).left == 0


def test_tokens_count_what_is_held_and_what_is_asked() -> None:
    found = only(replace(NOTHING, tokens_minute=100, tokens=30, held_tokens=40), Asked(0, 31))
    assert (found.used, found.held, found.left) == (30, 40, -1)


def test_turns_at_once_have_no_reset() -> None:
    found = only(replace(NOTHING, streams=2, running=1), Asked())
    assert (found.left, found.reset, found.window) == (0, None, None)


@pytest.mark.parametrize(
    ("name", "reset"), [("day", 50_400), ("week", 50_400 + 4 * 86_400), ("month", 50_400 + 4 * 86_400)]
)
def test_a_budget_that_is_spent_comes_back_with_the_next_period(name: str, reset: int) -> None:
    changes: dict[str, Any] = {f"{name}_nano": 10, name: 9}
    spent = replace(NOTHING, **changes)
    found = only(spent, Asked(2, 0))
    assert (found.left, found.reset) == (-1, reset)


def test_what_others_hold_may_be_given_back_soon() -> None:
    found = only(replace(NOTHING, day_nano=10, day=5, held_nano=4), Asked(2, 0))
    assert (found.left, found.reset) == (-1, 2)


def test_what_costs_nothing_passes_an_empty_purse() -> None:
    found = only(replace(NOTHING, day_nano=0, day=5), Asked(0, 100))
    assert (found.left, found.over) == (0, False)


def test_headers_name_each_limit_and_the_nearest_one() -> None:
    limited = replace(NOTHING, requests_minute=60, requests=10, freed=CLOCK - 30 * SECOND, streams=4, running=3)
    priced = replace(limited, day_nano=5_000_000_000, day=1_234_567_890, held_nano=1)
    assert quota_headers(quotas_of(priced, Asked(999, 0))) == {
        "RateLimit-Policy": '"user-requests";q=60;w=60, "user-streams";q=4;qu="concurrent-requests", '
        '"user-usd-per-day";q=5000000;qu="micro-usd";w=86400',
        "RateLimit": '"user-requests";r=49;t=30, "user-streams";r=0, "user-usd-per-day";r=3765431;t=50400',
        "RateLimit-Limit": "4",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "1",
    }
    assert quota_headers(()) == {}


def test_headers_keep_everybodys_dollars_to_themselves() -> None:
    """Until they are used up: then the refusal says so."""
    spent = replace(NOTHING, scope="all", month_nano=10**18, month=10**18 - 5)
    assert quota_headers(quotas_of(spent, Asked(5, 0))) == {}
    refused = quota_headers(quotas_of(spent, Asked(6, 0)))
    assert refused["RateLimit"] == '"all-usd-per-month";r=0;t=396000'
    assert refused["RateLimit-Policy"] == '"all-usd-per-month";q=999999999999999;qu="micro-usd";w=2592000'
