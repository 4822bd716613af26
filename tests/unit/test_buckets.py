"""Calendar buckets over changes of the clocks, and that stretches cover them exactly."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.buckets import MICROS, Bucket, Stretch, begin, cover, edges, end_of, runs

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/Havana",
    "Pacific/Apia",
    "Pacific/Chatham",
    "America/St_Johns",
)
SPANS = (86_400, 3600, 900)
MOMENTS = st.datetimes(datetime(2005, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def lengths(zone: str, since: str, until: str, bucket: Bucket) -> list[tuple[str, float]]:
    """Each bucket's start on the wall, and its hours."""
    where = ZoneInfo(zone)
    wall = [datetime.fromisoformat(text).replace(tzinfo=where) for text in (since, until)]
    marks = edges(wall[0], wall[1], bucket=bucket, zone=where, most=1000)
    return [(a.astimezone(where).strftime("%d %H:%M"), (b - a) / timedelta(hours=1)) for a, b in pairwise(marks)]


@pytest.mark.parametrize(
    ("zone", "since", "until", "bucket", "expected"),
    [
        ("Europe/Berlin", "2026-03-28", "2026-03-31", "day", [("28 00:00", 24), ("29 00:00", 23), ("30 00:00", 24)]),
        ("Europe/Berlin", "2026-10-24", "2026-10-27", "day", [("24 00:00", 24), ("25 00:00", 25), ("26 00:00", 24)]),
        ("Europe/Berlin", "2026-03-29T01", "2026-03-29T04", "hour", [("29 01:00", 1), ("29 03:00", 1)]),
        # An hour that the clocks show twice is two hours.
        (
            "Europe/Berlin",
            "2026-10-25T01",
            "2026-10-25T04",
            "hour",
            [("25 01:00", 1), ("25 02:00", 1), ("25 02:00", 1), ("25 03:00", 1)],
        ),
        ("Europe/Berlin", "2026-03-23", "2026-04-06", "week", [("23 00:00", 167), ("30 00:00", 168)]),
        ("Europe/Berlin", "2026-03-01", "2026-05-01", "month", [("01 00:00", 743), ("01 00:00", 720)]),
        # Clocks that were put forward at midnight: the day began at one.
        (
            "America/Sao_Paulo",
            "2018-11-03",
            "2018-11-06",
            "day",
            [("03 00:00", 24), ("04 01:00", 23), ("05 00:00", 24)],
        ),
        ("America/Sao_Paulo", "2018-02-17", "2018-02-19", "day", [("17 00:00", 25), ("18 00:00", 24)]),
        # Half an hour is skipped, and half an hour comes twice.
        (
            "Australia/Lord_Howe",
            "2026-10-04T01:00",
            "2026-10-04T04:00",
            "hour",
            [("04 01:00", 1), ("04 02:30", 0.5), ("04 03:00", 1)],
        ),
        (
            "Australia/Lord_Howe",
            "2026-04-05T00:00",
            "2026-04-05T03:00",
            "hour",
            [("05 00:00", 1), ("05 01:00", 1), ("05 01:30", 0.5), ("05 02:00", 1)],
        ),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-06", "day", [("05 00:00", 24.5)]),
        ("Asia/Kolkata", "2026-03-28", "2026-03-30", "day", [("28 00:00", 24), ("29 00:00", 24)]),
        # A date that was skipped altogether.
        ("Pacific/Apia", "2011-12-29", "2012-01-01", "day", [("29 00:00", 24), ("31 00:00", 24)]),
        # Midnight twice.
        ("America/Havana", "2026-11-01", "2026-11-03", "day", [("01 00:00", 25), ("02 00:00", 24)]),
    ],
)
def test_buckets_follow_the_clocks_on_the_wall(
    zone: str, since: str, until: str, bucket: Bucket, expected: list[tuple[str, float]]
) -> None:
    assert lengths(zone, since, until, bucket) == expected


def test_the_first_and_the_last_bucket_are_cut() -> None:
    found = lengths("UTC", "2026-03-28T13:20", "2026-03-30T00:30", "day")
    assert [hours for _, hours in found] == [pytest.approx(10 + 40 / 60), 24, 0.5]


def test_too_many_buckets_are_refused() -> None:
    zone = ZoneInfo("UTC")
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 11, tzinfo=UTC)
    assert len(edges(since, until, bucket="day", zone=zone, most=10)) == 11
    with pytest.raises(ValueError, match="more than 9 buckets"):
        edges(since, until, bucket="day", zone=zone, most=9)


@given(MOMENTS, st.sampled_from(ZONES), st.sampled_from(("hour", "day", "week", "month")))
def test_a_bucket_holds_the_moments_that_have_its_name(moment: datetime, zone: str, bucket: Bucket) -> None:
    where = ZoneInfo(zone)
    start, end = begin(moment, bucket=bucket, zone=where), end_of(moment, bucket=bucket, zone=where)
    assert start <= moment < end
    inside = [start, moment, end - timedelta(microseconds=1)]
    assert len({name(one, where, bucket) for one in inside}) == 1
    assert name(start - timedelta(microseconds=1), where, bucket) != name(start, where, bucket)
    assert name(end, where, bucket) != name(moment, where, bucket)
    earlier = begin(moment, bucket=bucket, zone=where, back=1)
    assert earlier < start


@given(st.lists(MOMENTS, min_size=2, max_size=5, unique=True), st.sampled_from([SPANS, SPANS[:2], SPANS[:1], ()]))
def test_stretches_cover_each_bucket_once(marks: list[datetime], spans: tuple[int, ...]) -> None:
    marks.sort()
    stretches = cover(marks, spans)
    for number, (opens, closes) in enumerate(pairwise(marks)):
        mine = [one for one in stretches if one.number == number]
        joints = [micros(opens), *(one.closes for one in mine)]
        assert [one.opens for one in mine] == joints[:-1]
        assert joints[-1] == micros(closes)
    for one in stretches:
        assert one.span in (0, *spans)
        if one.span:
            assert one.opens % (one.span * MICROS) == one.closes % (one.span * MICROS) == 0
    finest = min(spans, default=0)
    assert all(one.closes - one.opens < finest * MICROS for one in stretches if finest and not one.span)


@given(
    MOMENTS,
    st.integers(1, 60),
    st.sampled_from(ZONES),
    st.sampled_from(("hour", "day", "week", "month")),
    st.sampled_from([SPANS, SPANS[:2], SPANS[:1], ()]),
)
def test_runs_say_what_their_stretches_say(
    since: datetime, length: int, zone: str, bucket: Bucket, spans: tuple[int, ...]
) -> None:
    marks = edges(since, since + timedelta(days=length), bucket=bucket, zone=ZoneInfo(zone), most=2000)
    stretches = cover(marks, spans)
    said = []
    for run in runs(stretches):
        opens = range(run.opens, run.closes, run.period)
        assert run.length <= run.period
        assert run.closes - opens[-1] == run.length
        said += [Stretch(run.number + n, run.span, at, at + run.length) for n, at in enumerate(opens)]
    assert sorted(said, key=lambda one: one.opens) == stretches


def test_alike_buckets_are_one_run() -> None:
    since, until = datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 10, 30, tzinfo=UTC)
    found = {}
    for zone in ("UTC", "Europe/Berlin", "Asia/Kolkata"):
        marks = edges(since, until, bucket="day", zone=ZoneInfo(zone), most=100)
        found[zone] = [(one.span, one.length // MICROS) for one in runs(cover(marks, SPANS[:2])) if one.span]
    # The clocks were changed on 25 October; 22 hours are left of the first day, and the last has one.
    berlin = [(3600, hours * 3600) for hours in (22, 24, 25, 24, 1)]
    assert found["UTC"] == [(86_400, 86_400)]
    assert found["Europe/Berlin"] == berlin
    assert found["Asia/Kolkata"] == [(3600, 18 * 3600), (3600, 23 * 3600), (3600, 5 * 3600)]


def name(moment: datetime, zone: ZoneInfo, bucket: Bucket) -> tuple[object, ...]:
    """What the wall says of a moment, as far as its bucket is concerned."""
    local = moment.astimezone(zone)
    day: date = local.date()
    if bucket == "hour":
        return day, local.hour, local.utcoffset()
    if bucket == "day":
        return (day,)
    return tuple(day.isocalendar()[:2]) if bucket == "week" else (day.year, day.month)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
