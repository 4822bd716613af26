"""Reports against entries added up one by one, on both databases, whatever is folded and wherever the clocks change."""

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic_core import from_json
from sqlalchemy import insert

from service.db.tables import conversation_tags, conversations
from service.domain.buckets import edges
from service.domain.meters import to_dollars
from service.errors import ReportTooLarge, Unprocessable
from service.usecases.usage import Group, Report, Usage, UsageAsk, columns_of
from tests.ledger.house import Entry, House, entry, open_house, some_entries

SINCE = datetime(2026, 3, 20, tzinfo=UTC)
METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
FIELD = {"user": "user_id", "key": "key_id", "conversation": "conversation_id"}


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as opened:
        yield opened


def local(zone: str, text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


# Over the changes of the clocks where there are any, and from and to odd moments.
ASKS = [
    UsageAsk(None, SINCE, datetime(2026, 4, 10, tzinfo=UTC), groups=("model",)),
    UsageAsk(None, local("Europe/Berlin", "2026-03-25"), local("Europe/Berlin", "2026-04-05"), "day", "Europe/Berlin"),
    UsageAsk(
        None,
        local("Europe/Berlin", "2026-03-29"),
        local("Europe/Berlin", "2026-03-30"),
        "hour",
        "Europe/Berlin",
        ("model", "provider"),
    ),
    UsageAsk(
        None,
        local("Asia/Kolkata", "2026-03-22"),
        local("Asia/Kolkata", "2026-04-08"),
        "day",
        "Asia/Kolkata",
        ("model",),
    ),
    UsageAsk(
        None,
        local("Australia/Lord_Howe", "2026-04-04"),
        local("Australia/Lord_Howe", "2026-04-07"),
        "hour",
        "Australia/Lord_Howe",
    ),
    UsageAsk(None, SINCE + timedelta(hours=3, microseconds=7), SINCE + timedelta(days=9, seconds=1.5), "day", "UTC"),
    UsageAsk(None, SINCE + timedelta(minutes=1), SINCE + timedelta(minutes=2), "hour", "UTC", ("user", "key")),
    UsageAsk(None, SINCE, SINCE + timedelta(days=40), "month", "America/Sao_Paulo", ("user",)),
    UsageAsk(None, SINCE, SINCE + timedelta(days=21), "week", "Asia/Kathmandu", ("key", "provider")),
    UsageAsk(None, SINCE, SINCE + timedelta(days=5), "day", "UTC", ("conversation", "model", "user")),
]


@pytest.mark.parametrize("folded", ["nothing", "half", "all"])
async def test_a_report_is_what_the_entries_add_up_to(house: House, folded: str) -> None:
    entries = some_entries(house, 3000, since=SINCE, days=21, seed=7)
    await house.book(entries[:1500])
    if folded != "nothing":
        await house.folding.fold()
    await house.book(entries[1500:])
    if folded == "all":
        await house.folding.fold()
    for everybody in ASKS:
        for user_id in (None, house.ada):
            ask = UsageAsk(
                user_id, everybody.since, everybody.until, everybody.bucket, everybody.timezone, everybody.groups
            )
            report = await house.usage.report(ask)
            expected = by_hand(house, entries, ask)
            assert told(report, ask.groups) == expected, ask
            assert (report.buckets[0].start, report.buckets[-1].end) == (ask.since, ask.until)
            summed = [sums for groups in expected for sums in groups.values()]
            assert report.total["requests"] == sum(one[0] for one in summed)
            assert Decimal(report.total["cost_usd"]) * 10**9 == sum(one[-1] for one in summed)
            assert report.unpriced_models == (["c"] if any(one[2] for one in summed) else [])


@pytest.mark.parametrize("ask", [ASKS[0], ASKS[2], ASKS[9]])
async def test_a_file_says_what_the_report_says(house: House, ask: UsageAsk) -> None:
    await house.book(some_entries(house, 2000, since=SINCE, days=21, seed=8))
    report = await house.usage.report(ask)
    lines = [line async for batch in house.usage.lines(ask) for line in batch]
    assert all(list(line) == columns_of(ask) for line in lines)
    expected = []
    for bucket in report.buckets:
        span = {"start": bucket.start, "end": bucket.end}
        names = columns_of(ask)[2:-9]
        expected += [span | group for group in from_json(bucket.groups) or [dict.fromkeys(names) | bucket.sums]]
    assert lines == expected


async def test_empty_buckets_are_shown_and_cost_nothing(house: House) -> None:
    await house.book([entry(1, house.ada, SINCE + timedelta(days=2))])
    ask = UsageAsk(None, SINCE, SINCE + timedelta(days=4), groups=("model",))
    buckets = (await house.usage.report(ask)).buckets
    assert [(one.sums["requests"], one.sums["cost_usd"], len(from_json(one.groups))) for one in buckets] == [
        (0, "0", 0),
        (0, "0", 0),
        (1, "0.000000001", 1),
        (0, "0", 0),
    ]
    lines = [line async for batch in house.usage.lines(ask) for line in batch]
    assert [(line["model"], line["requests"]) for line in lines] == [(None, 0), (None, 0), ("m", 1), (None, 0)]


async def test_without_times_a_report_ends_with_the_bucket_of_now(house: House) -> None:
    now = datetime.now(UTC)
    await house.book([entry(1, house.ada, now), entry(2, house.ada, now - timedelta(days=29))])
    for zone in ("UTC", "Asia/Kolkata", "America/Los_Angeles"):
        report = await house.usage.report(UsageAsk(None, timezone=zone))
        assert len(report.buckets) == 30
        assert report.total["requests"] == 2
        assert report.buckets[-1].start <= datetime.now(UTC) < report.until
    assert len((await house.usage.report(UsageAsk(None, bucket="month"))).buckets) == 12
    # Until a moment of today, what was written in this quarter of an hour is there too.
    report = await house.usage.report(UsageAsk(None, since=now - timedelta(hours=1), until=datetime.now(UTC)))
    assert report.total["requests"] == 1


async def test_what_has_no_price_is_listed_and_not_zero(house: House) -> None:
    free: dict[str, Any] = {"model": "free", "cost_nano": 0}
    none: dict[str, Any] = {"model": "none", "cost_nano": None}
    await house.book([entry(n, house.ada, SINCE, **which) for n, which in enumerate((free, none, none), 1)])
    report = await house.usage.report(UsageAsk(house.ada, SINCE, SINCE + timedelta(days=1), groups=("model",)))
    groups = {group["model"]: (group["cost_usd"], group["unpriced"]) for group in from_json(report.buckets[0].groups)}
    assert groups == {"free": ("0", 0), "none": (None, 2)}
    assert (report.total["cost_usd"], report.total["unpriced"], report.unpriced_models) == ("0", 2, ["none"])


async def test_a_conversation_with_two_tags_is_in_both_and_once_in_the_sum(house: House) -> None:
    async with house.core.database.transaction() as connection:
        await connection.execute(insert(conversations), [{"user_id": house.ada, "id": n} for n in (10, 11)])
        tags = [(10, "red"), (10, "blue"), (11, "blue")]
        await connection.execute(
            insert(conversation_tags),
            [{"user_id": house.ada, "conversation_id": talk, "tag": tag} for talk, tag in tags],
        )
    talks = (10, 11, 11, None)
    await house.book([entry(n, house.ada, SINCE, conversation_id=talk) for n, talk in enumerate(talks, 1)])
    # Somebody else's conversation of the same number has none of these tags.
    await house.book([entry(9, house.bob, SINCE, conversation_id=10)])
    for user_id, untagged in ((house.ada, 1), (None, 2)):
        report = await house.usage.report(UsageAsk(user_id, SINCE, SINCE + timedelta(days=1), groups=("tag",)))
        groups = {group["tag"]: group["requests"] for group in from_json(report.buckets[0].groups)}
        assert groups == {"red": 1, "blue": 3, None: untagged}
        assert report.total["requests"] == report.buckets[0].sums["requests"] == 3 + untagged


async def test_the_database_writes_groups_as_json_and_in_order(house: House) -> None:
    names = ['say "x"', "back\\slash", "tab\tand\nline", "modèle-ß-模型-😀", "{curly}%s:1", "' quote"]
    costs = [0, 1, 10**9, 123_456_789_012_345_678, 1_500, 10 * 10**9 + 1]
    booked = zip(names, costs, strict=True)
    await house.book([entry(n, house.ada, SINCE, model=m, cost_nano=c) for n, (m, c) in enumerate(booked, 1)])
    await house.book([entry(n, house.bob, SINCE, model=names[0], cost_nano=-(10**n), key_id=5) for n in range(7, 10)])
    ask = UsageAsk(None, SINCE, SINCE + timedelta(days=1), groups=("model", "user", "key"))
    groups = from_json((await house.usage.report(ask)).buckets[0].groups)
    found = [(one["model"], one["username"], one["key_id"], one["cost_usd"]) for one in groups]
    expected = [(m, "ada", None, to_dollars(c)) for m, c in zip(names, costs, strict=True)]
    assert found == sorted([*expected, (names[0], "bob", 5, "-1.11")])
    lines = [line async for batch in house.usage.lines(ask) for line in batch]
    assert [{name: line[name] for name in groups[0]} for line in lines] == groups


@pytest.mark.parametrize(
    ("ask", "where"),
    [
        (UsageAsk(None, SINCE, SINCE), "since"),
        (UsageAsk(None, SINCE, SINCE - timedelta(days=1)), "since"),
        (UsageAsk(None, SINCE, SINCE + timedelta(days=999), "hour"), "bucket"),
        (UsageAsk(None, timezone="Europe/Atlantis"), "timezone"),
        (UsageAsk(None, timezone="../../etc/passwd"), "timezone"),
        (UsageAsk(None, timezone="europe/berlin"), "timezone"),
    ],
)
async def test_what_cannot_be_asked(house: House, ask: UsageAsk, where: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        await house.usage.report(ask)
    assert caught.value.loc == ("query", where)
    with pytest.raises(Unprocessable):
        [line async for line in house.usage.lines(ask)]


async def test_a_report_that_takes_too_long_is_ended(house: House) -> None:
    await house.book(some_entries(house, 2000, since=SINCE, days=21, seed=9))
    hasty = Usage(house.core.database, house.core.pager, timeout=0.001)
    slow = UsageAsk(None, SINCE, SINCE + timedelta(days=60), "hour", groups=("conversation", "user"))
    for _ in range(10):
        with pytest.raises(ReportTooLarge, match=r"more than 0\.001 s"):
            await hasty.report(slow)
        with pytest.raises(ReportTooLarge):
            [line async for batch in hasty.lines(slow) for line in batch]
    # The connections are as good as before.
    for _ in range(2):
        assert (await house.usage.report(slow)).total["requests"] == 2000


async def test_hours_of_months_are_added_up_before_anything_is_folded(house: House) -> None:
    await house.book(some_entries(house, 4000, since=SINCE, days=90, seed=10))
    patient = Usage(house.core.database, house.core.pager, timeout=3)
    ask = UsageAsk(None, SINCE, SINCE + timedelta(days=90), "hour", "Europe/Berlin", ("model",))
    report = await patient.report(ask)
    assert (len(report.buckets), report.total["requests"]) == (90 * 24, 4000)


async def test_too_many_rows_are_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.usecases.usage.MOST_ROWS", 3)
    await house.book([entry(n, house.ada, SINCE, model=f"m{n}") for n in range(1, 5)])
    with pytest.raises(ReportTooLarge, match="more than 3 rows"):
        await house.usage.report(UsageAsk(None, SINCE, SINCE + timedelta(days=1), groups=("model",)))


def by_hand(house: House, entries: list[Entry], ask: UsageAsk) -> list[dict[tuple[Any, ...], tuple[int, ...]]]:
    """For each bucket the sums of each group: requests, errors, unpriced, meters, cost."""
    assert ask.since
    assert ask.until
    marks = edges(ask.since, ask.until, bucket=ask.bucket, zone=ZoneInfo(ask.timezone), most=10_000)
    found = []
    for opens, closes in pairwise(marks):
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 9)
        for one in entries:
            if opens <= one["created_at"] < closes and ask.user_id in (None, one["user_id"]):
                sums = groups[tuple(shown(house, group, one) for group in ask.groups)]
                told = (1, one["error_kind"] is not None, one["cost_nano"] is None, *(one[m] for m in METERS))
                for index, value in enumerate((*told, one["cost_nano"] or 0)):
                    sums[index] += value
        found.append({group: tuple(sums) for group, sums in groups.items()})
    return found


def shown(house: House, group: Group, one: Entry) -> Any:
    value = one[FIELD.get(group, group)]
    return None if group == "user" and value not in (house.ada, house.bob) else value


def told(report: Report, groups: tuple[Group, ...]) -> list[dict[tuple[Any, ...], tuple[int, ...]]]:
    """What a report says, in the form of `by_hand`."""
    found = []
    for bucket in report.buckets:
        parts = from_json(bucket.groups) if groups else [bucket.sums] if bucket.sums["requests"] else []
        found.append({tuple(part[FIELD.get(g, g)] for g in groups): sums_of(part) for part in parts})
        assert (
            sums_of(bucket.sums) == tuple(sum(column) for column in zip(*found[-1].values(), strict=True)) or (0,) * 9
        )
    return found


def sums_of(part: dict[str, Any]) -> tuple[int, ...]:
    cost = 0 if part["cost_usd"] is None else int(Decimal(part["cost_usd"]) * 10**9)
    return (part["requests"], part["errors"], part["unpriced"], *(part[meter] for meter in METERS), cost)
