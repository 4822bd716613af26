"""The periods of budgets: UTC's days, weeks from Monday and months."""

from datetime import UTC, datetime, timedelta

PERIODS = ("day", "week", "month")


def period(name: str, clock: int) -> tuple[int, int]:
    """Where the period that holds a moment begins and ends, all in seconds since 1970."""
    today = datetime.fromtimestamp(clock, UTC).replace(hour=0, minute=0, second=0)
    if name == "month":
        start = today.replace(day=1)
        end = (start + timedelta(days=32)).replace(day=1)
    else:
        start = today - timedelta(days=today.weekday()) if name == "week" else today
        end = start + timedelta(days=7 if name == "week" else 1)
    return int(start.timestamp()), int(end.timestamp())
