"""The buckets of a report, and what is read for them; kept, as the same report is asked for again and again."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from service.domain.buckets import Bucket, Run, cover, edges, end_of, runs

# Each has as many moments as its report has buckets.
KEPT = 16
MICROSECOND = timedelta(microseconds=1)
UTC_ZONE = ZoneInfo("UTC")


class Calendar:
    """Buckets one after the other; `local` are their edges on the clocks of the zone, one more than buckets."""

    def __init__(self, marks: Sequence[datetime], zone: ZoneInfo) -> None:
        self._marks = marks
        self._runs: dict[tuple[tuple[int, ...], bool], list[Run]] = {}
        self.local = [mark.astimezone(zone) for mark in marks]

    def __len__(self) -> int:
        return len(self.local) - 1

    def runs(self, spans: tuple[int, ...]) -> list[Run]:
        """What is to be read of rollups of these spans, and of single entries."""
        open_end = self._marks[-1] >= datetime.now(UTC)
        if (spans, open_end) not in self._runs:
            *marks, last = self._marks
            # Of the quarter of an hour that it is now there is no more than there is.
            last = end_of(last - MICROSECOND, bucket="hour", zone=UTC_ZONE) if open_end else last
            self._runs[spans, open_end] = runs(cover([*marks, last], spans))
        return self._runs[spans, open_end]


@lru_cache(maxsize=KEPT)
def calendar(since: datetime, until: datetime, *, bucket: Bucket, zone: ZoneInfo, most: int) -> Calendar:
    """The buckets of [since, until). Raises ValueError for more than `most` of them."""
    return Calendar(edges(since, until, bucket=bucket, zone=zone, most=most), zone)
