"""What is left of a caller's limits, as header fields.

`RateLimit-Policy` and `RateLimit` after draft-ietf-httpapi-ratelimit-headers-10, with every limit; `RateLimit-Limit`,
`-Remaining` and `-Reset`, as its earlier versions and most clients have them, with the one that is nearest to its end.
"""

from collections.abc import Sequence

from service.domain.quotas import Quota

NANOS_A_MICRO = 1_000
# The largest integer of a structured field (RFC 9651, 3.3.1).
MOST = 10**15 - 1
UNITS = {"tokens": "tokens", "turns": "concurrent-requests", "nano": "micro-usd"}
NAMES = {"day": "usd-per-day", "week": "usd-per-week", "month": "usd-per-month"}


def quota_headers(quotas: Sequence[Quota]) -> dict[str, str]:
    """None where nothing limits. Of everybody's budget nobody is told before it is used up."""
    quotas = [one for one in quotas if one.scope != "all" or one.unit != "nano" or one.over]
    if not quotas:
        return {}
    headers = {
        "RateLimit-Policy": ", ".join(_policy(one) for one in quotas),
        "RateLimit": ", ".join(_state(one) for one in quotas),
    }
    counted = [one for one in quotas if one.unit != "nano"]
    if counted:
        least = min(counted, key=lambda one: one.left / one.limit if one.limit else -1.0)
        reset = least.reset or 1
        headers |= {
            "RateLimit-Limit": str(least.limit),
            "RateLimit-Remaining": str(max(least.left, 0)),
            "RateLimit-Reset": str(reset),
        }
    return headers


def _policy(quota: Quota) -> str:
    unit = f';qu="{UNITS[quota.unit]}"' if quota.unit in UNITS else ""
    window = f";w={quota.window}" if quota.window else ""
    return f'"{_name(quota)}";q={_amount(quota, quota.limit)}{unit}{window}'


def _state(quota: Quota) -> str:
    reset = f";t={quota.reset}" if quota.reset is not None else ""
    return f'"{_name(quota)}";r={_amount(quota, quota.left)}{reset}'


def _name(quota: Quota) -> str:
    return f"{quota.scope}-{NAMES.get(quota.name, quota.name)}"


def _amount(quota: Quota, amount: int) -> int:
    """Whole units, rounded down."""
    return min(max(amount, 0) // (NANOS_A_MICRO if quota.unit == "nano" else 1), MOST)
