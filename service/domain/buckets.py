"""Calendar buckets of a time zone, and the stretches of rollups and single entries that they are added up from.

Most buckets of a report are alike, so their stretches are read as one run.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

Bucket = Literal["hour", "day", "week", "month"]
# How many buckets are shown where nobody says since when.
USUAL: dict[Bucket, int] = {"hour": 24, "day": 30, "week": 12, "month": 12}
MICROS = 1_000_000
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `opens` to before `closes`, in microseconds since 1970, of the bucket with this number.

    It is whole spans of `span` seconds, or, with the span 0, entries that have to be read one by one.
    """

    number: int
    span: int
    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class Run:
    """Stretches of one span, equally long and equally far apart, each in the bucket after that of the last one.

    What a moment from `opens` to before `closes` counts for is the bucket `number + (moment - opens) // period`, if it
    lies within the first `length` of its period. In microseconds but for `span`.
    """

    number: int
    span: int
    opens: int
    closes: int
    period: int
    length: int


def edges(since: datetime, until: datetime, *, bucket: Bucket, zone: ZoneInfo, most: int) -> list[datetime]:
    """The moments, in UTC and rising, that part [since, until) into buckets; the first is `since`, the last `until`.

    A bucket begins at the first moment that has its local hour or date, so over a change of the clocks a day has 23 or
    25 hours. Of an hour that the clocks show twice there are two. Raises ValueError for more than `most` buckets.
    """
    marks = [since.astimezone(UTC)]
    end = until.astimezone(UTC)
    for mark in _starts(marks[0], bucket, zone):
        if mark >= end:
            break
        if len(marks) >= most:
            raise ValueError(f"more than {most} buckets")
        marks.append(mark)
    return [*marks, end]


def begin(moment: datetime, *, bucket: Bucket, zone: ZoneInfo, back: int = 0) -> datetime:
    """The start, in UTC, of the bucket that holds a moment, or of the one `back` buckets before it."""
    if bucket == "hour":
        return _hour_start(moment.astimezone(UTC) - back * timedelta(hours=1), zone)
    day = _first_day(moment.astimezone(zone).date(), bucket)
    for _ in range(back):
        day = _first_day(day - timedelta(days=1), bucket)
    return _midnight(day, zone)


def end_of(moment: datetime, *, bucket: Bucket, zone: ZoneInfo) -> datetime:
    """The end, in UTC, of the bucket that holds a moment."""
    return next(_starts(moment.astimezone(UTC), bucket, zone))


def cover(marks: Sequence[datetime], spans: Sequence[int]) -> list[Stretch]:
    """The buckets between marks as stretches of the largest spans that fit; `spans` in seconds, the largest first."""
    instants = [_micros(mark) for mark in marks]
    return [
        stretch
        for number, (opens, closes) in enumerate(pairwise(instants))
        for stretch in _cover(number, opens, closes, spans)
    ]


def runs(stretches: Iterable[Stretch]) -> list[Run]:
    """The same as few runs. A stretch of single entries is one of its own: their index knows nothing of periods."""
    chains: list[list[Stretch]] = []
    latest: dict[int, list[Stretch]] = {}
    for one in stretches:
        chain = latest.get(one.span)
        if chain and one.span and _follows(chain, one):
            chain.append(one)
        else:
            latest[one.span] = chain = [one]
            chains.append(chain)
    return [_run(chain) for chain in chains]


def _follows(chain: list[Stretch], one: Stretch) -> bool:
    last = chain[-1]
    length, period = one.closes - one.opens, one.opens - last.opens
    if one.number != last.number + 1 or length != last.closes - last.opens:
        return False
    # A gap is read as well: not one that is longer than what is asked for.
    return period == last.opens - chain[-2].opens if len(chain) > 1 else period < 2 * length


def _run(chain: list[Stretch]) -> Run:
    first, length = chain[0], chain[0].closes - chain[0].opens
    period = chain[1].opens - first.opens if len(chain) > 1 else length
    return Run(first.number, first.span, first.opens, chain[-1].closes, period, length)


def _cover(number: int, opens: int, closes: int, spans: Sequence[int]) -> Iterator[Stretch]:
    if opens >= closes:
        return
    if not spans:
        yield Stretch(number, 0, opens, closes)
        return
    span, finer = spans[0], spans[1:]
    step = span * MICROS
    first, last = -(-opens // step) * step, closes // step * step
    if first >= last:
        yield from _cover(number, opens, closes, finer)
        return
    yield from _cover(number, opens, first, finer)
    yield Stretch(number, span, first, last)
    yield from _cover(number, last, closes, finer)


def _starts(after: datetime, bucket: Bucket, zone: ZoneInfo) -> Iterator[datetime]:
    """The starts of the buckets that begin after a moment in UTC, rising, without end."""
    mark = after
    if bucket == "hour":
        while True:
            mark = _next_hour(mark, zone)
            yield mark
    day = after.astimezone(zone).date()
    while True:
        day = _next_day(day, bucket)
        start = _midnight(day, zone)
        # A date that the zone skipped begins where the next one does.
        if start > mark:
            mark = start
            yield start


def _next_day(day: date, bucket: Bucket) -> date:
    if bucket == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return _first_day(day, bucket) + timedelta(days=7 if bucket == "week" else 1)


def _first_day(day: date, bucket: Bucket) -> date:
    """The first date of a bucket of days; weeks begin on Monday."""
    if bucket == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if bucket == "week" else day


def _hour_start(moment: datetime, zone: ZoneInfo) -> datetime:
    """Where the local hour of a moment began, or the clocks were changed in it."""
    start = moment - _into_hour(moment, zone)
    if start.astimezone(zone).utcoffset() == moment.astimezone(zone).utcoffset():
        return start
    return _change(start, moment, zone)


def _next_hour(moment: datetime, zone: ZoneInfo) -> datetime:
    following = moment - _into_hour(moment, zone) + timedelta(hours=1)
    if following.astimezone(zone).utcoffset() == moment.astimezone(zone).utcoffset():
        return following
    return _change(moment, following, zone)


def _into_hour(moment: datetime, zone: ZoneInfo) -> timedelta:
    local = moment.astimezone(zone)
    return timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a date, in UTC; of a date that the zone skipped, where the clocks were changed."""
    wall = datetime(day.year, day.month, day.day, tzinfo=zone)
    early, late = (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    # PEP 495: of an hour that is skipped fold 0 lies after the change and fold 1 before it.
    return early if early <= late else _change(late, early, zone)


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The second between two moments, the later one included, in which the zone's offset changes."""
    old = before.astimezone(zone).utcoffset()
    low, high = before, after
    while high - low > SECOND:
        middle = low + (high - low) / 2
        middle = middle.replace(microsecond=0) if middle.replace(microsecond=0) > low else middle
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == old else (low, middle)
    return high


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
