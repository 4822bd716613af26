"""What proves the ledger, on both databases: that it finds each mistake, mends rollups, and corrects prices."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic_core import from_json
from sqlalchemy import insert

from service.db.tables import completions
from service.domain.meters import Meters, Prices
from service.providers.base import Model
from service.providers.registry import Registry, Source
from service.repositories import rollups
from service.usecases import audit
from service.usecases.audit import Proof, Repricing
from service.usecases.folding import Folding
from service.usecases.usage import UsageAsk
from tests.ledger.house import FAR, House, entry, open_house, some_entries
from tests.turns.house import ToldProvider

SINCE = datetime(2026, 3, 20, tzinfo=UTC)
LATER = SINCE + timedelta(days=30)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as opened:
        yield opened


def wrong(proof: Proof) -> set[str]:
    return {finding.what for finding in proof.findings if finding.mistakes}


async def test_an_honest_ledger_holds(house: House) -> None:
    assert (await house.audit.verify()).holds
    await house.book(some_entries(house, 2000, since=SINCE, days=21, seed=1))
    assert (await house.audit.verify()).holds
    await house.folding.fold()
    proof = await house.audit.verify()
    assert proof.holds
    assert (proof.charges, proof.corrections, proof.orphans) == (2000, 0, 2000)
    assert (await house.rows("SELECT count(*) FROM usage_deltas"))[0][0] == 0


LEVELS = {"user by hour", "user by day", "everybody by quarter of an hour", "everybody by hour", "everybody by day"}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE usage_rollups SET cost_nano = cost_nano + 1 WHERE user_id = 0 AND span = 3600", {"everybody by hour"}),
        ("UPDATE usage_rollups SET output_tokens = 0 WHERE user_id > 0 AND span = 86400", {"user by day"}),
        ("UPDATE usage_rollups SET unpriced = 9 WHERE span = 900", {"everybody by quarter of an hour"}),
        ("DELETE FROM usage_rollups WHERE user_id > 0 AND span = 3600", {"user by hour"}),
        ("DELETE FROM usage_rollups", LEVELS),
        ("DELETE FROM ledger_entries WHERE completion_id = 7", LEVELS),
        ("UPDATE ledger_entries SET cost_nano = 1 WHERE completion_id = 7", LEVELS),
        ("UPDATE ledger_entries SET model = 'z' WHERE completion_id = 7", LEVELS),
        ("UPDATE usage_rollups SET start = start + 31536000 WHERE span = 900", {"everybody by quarter of an hour"}),
    ],
)
async def test_each_mistake_is_found_and_a_rebuild_mends_it(house: House, statement: str, expected: set[str]) -> None:
    await house.book(some_entries(house, 300, since=SINCE, days=21, seed=2))
    await house.folding.fold()
    await house.run(statement)
    proof = await house.audit.verify()
    assert wrong(proof) == {f"rollups, {level}" for level in expected}
    assert all(mistake for finding in proof.findings for mistake in finding.mistakes)
    await house.audit.rebuild()
    assert (await house.audit.verify()).holds


async def test_what_is_not_folded_may_be_wrong_as_well(house: House) -> None:
    await house.book([entry(1, house.ada, SINCE)])
    await house.run("UPDATE usage_deltas SET requests = 2")
    assert wrong(await house.audit.verify()) == {f"rollups, {level}" for level in LEVELS}


def completion(house: House, number: int, **fields: Any) -> dict[str, Any]:
    meters = dict.fromkeys(Meters.__slots__, 1)
    ended = {"status": "completed", "finished_at": SINCE, "attempt_count": 1, "cost_nano": 1}
    return {"user_id": house.ada, "id": number, "model": "m", "provider": "p", **meters, **ended, **fields}


@pytest.mark.parametrize(
    ("fields", "charges", "right"),
    [
        ({}, [{}], True),
        ({}, [], False),
        ({"cost_nano": 2}, [{}], False),
        ({"cost_nano": None}, [{}], False),
        ({"cost_nano": None}, [{"cost_nano": None}], True),
        ({"cost_nano": 0}, [{"cost_nano": None}], False),
        ({"output_tokens": 2}, [{}], False),
        ({"attempt_count": 2}, [{}], False),
        ({"attempt_count": 2, "cost_nano": 2}, [{}, {"output_tokens": 0, "input_tokens": 0}], False),
        ({"attempt_count": 2}, [{}, dict.fromkeys((*Meters.__slots__, "cost_nano"), 0)], True),
        ({"attempt_count": 0, "cost_nano": None, **dict.fromkeys(Meters.__slots__)}, [], True),
        ({"finished_at": None, "status": "in_progress", "cost_nano": None}, [], True),
    ],
)
async def test_the_charges_are_compared_with_the_completions(
    house: House, fields: dict[str, Any], charges: list[dict[str, Any]], right: bool
) -> None:
    async with house.core.database.transaction() as connection:
        await connection.execute(insert(completions), completion(house, 1, **fields))
    await house.book(
        [
            entry(n, house.ada, SINCE, completion_id=1, attempt=n, **{"cost_nano": 1} | charge)
            for n, charge in enumerate(charges, 1)
        ]
    )
    assert wrong(await house.audit.verify()) == (set() if right else {"completions"})


@pytest.mark.parametrize("stretch", [1, 40, 10_000])
async def test_a_rebuild_by_days_is_one_by_days_of_any_number(
    house: House, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    monkeypatch.setattr(rollups, "STRETCH", stretch)
    monkeypatch.setattr(audit, "PAUSE_SECONDS", 0.0)
    await house.book(some_entries(house, 300, since=SINCE, days=21, seed=5))
    await house.folding.fold()
    await house.book([entry(n, house.ada, SINCE + timedelta(days=n % 30)) for n in range(1000, 1050)])
    for column, change in (("start", "start + 31536000"), ("requests", "requests + 1")):
        await house.run(f"UPDATE usage_rollups SET {column} = {change}")
    await house.run(
        "INSERT INTO usage_rollups (user_id, span, start, model, provider, key_id, requests, errors, unpriced,"
        " input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nano)"
        " VALUES (0, 86400, 0, 'm', 'p', 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),"
        " (0, 86400, 8639913600, 'm', 'p', 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)"
    )
    assert wrong(await house.audit.verify()) == {f"rollups, {level}" for level in LEVELS}
    await house.audit.rebuild()
    assert (await house.audit.verify()).holds


async def test_turns_go_on_between_the_days_of_a_rebuild(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "STRETCH", 1)
    monkeypatch.setattr(audit, "PAUSE_SECONDS", 0.05)
    if house.core.database.dialect != "sqlite":
        pytest.skip("there nobody waits")
    await house.book([entry(n, house.ada, SINCE + timedelta(days=n)) for n in range(1, 21)])
    rebuilding = asyncio.create_task(house.audit.rebuild())
    written = 0
    while not rebuilding.done():
        written += 1
        await house.book([entry(1000 + written, house.ada, SINCE + timedelta(days=written % 25))])
        await asyncio.sleep(0.01)
    await rebuilding
    assert written > 10
    assert (await house.audit.verify()).holds


async def test_a_rebuild_counts_what_is_written_meanwhile(house: House) -> None:
    entries = some_entries(house, 1200, since=SINCE, days=21, seed=3)
    others = Folding(house.core.database)

    async def write() -> None:
        for start in range(200, 1200, 50):
            await house.book(entries[start : start + 50])
            await others.fold()

    await house.book(entries[:200])
    await asyncio.gather(write(), *(house.audit.rebuild() for _ in range(3)))
    assert (await house.audit.verify()).holds
    assert (await house.rows("SELECT sum(requests) FROM usage_rollups WHERE user_id = 0 AND span = 86400"))[0][
        0
    ] <= 1200
    await house.folding.fold()
    assert (await house.audit.verify()).holds


async def test_many_fold_at_once(house: House) -> None:
    entries = some_entries(house, 2000, since=SINCE, days=3, seed=4)
    folders = [Folding(house.core.database) for _ in range(4)]

    async def write(part: int) -> None:
        for start in range(part * 500, part * 500 + 500, 25):
            await house.book(entries[start : start + 25])

    async def fold(folder: Folding) -> None:
        for _ in range(20):
            await folder.fold()

    await asyncio.gather(*(write(part) for part in range(4)), *(fold(folder) for folder in folders))
    await house.folding.fold()
    assert (await house.audit.verify()).holds
    report = await house.usage.report(UsageAsk(None, SINCE, LATER))
    assert report.total["requests"] == 2000


async def test_an_entry_that_is_there_already_adds_nothing(house: House) -> None:
    await house.book([entry(1, house.ada, SINCE)])
    columns = "user_id, id, completion_id, attempt, model, provider, input_tokens, cache_read_tokens,"
    columns += " cache_write_tokens, output_tokens, reasoning_tokens, price_source, provenance"
    values = f"{house.ada}, {FAR + 1}, 1, 1, 'm', 'p', 1, 1, 1, 1, 1, 'settings', 'provider'"
    await house.run(f"INSERT INTO ledger_entries ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING")
    await house.run(
        f"INSERT INTO ledger_entries ({columns}) SELECT {values} WHERE 1 = 1 ON CONFLICT (user_id, id) DO NOTHING"
    )
    assert (await house.rows("SELECT sum(requests) FROM usage_deltas"))[0][0] == 1
    assert (await house.audit.verify()).holds


def catalogue(**prices: str) -> Registry:
    """One model for each name, at so many dollars per million input tokens."""
    models = [
        Model(name, provider="p", upstream=name, source="settings", prices=Prices(Decimal(price), Decimal(0)))
        for name, price in prices.items()
    ]
    return Registry([Source(ToldProvider(name="p"), tuple(models), prefixed=False)])


async def test_repricing_books_corrections_and_touches_no_entry(house: House) -> None:
    charges = [
        entry(1, house.ada, SINCE, model="a", input_tokens=1000, cost_nano=2_000_000),
        entry(2, house.ada, SINCE + timedelta(days=1), model="b", input_tokens=1000, cost_nano=None),
        entry(3, house.bob, SINCE + timedelta(days=2), model="gone", input_tokens=1000, cost_nano=None),
        entry(4, house.bob, SINCE - timedelta(days=1), model="a", input_tokens=1000, cost_nano=2_000_000),
    ]
    for one in charges:
        one.update(dict.fromkeys(Meters.__slots__[1:], 0))
    await house.book(charges)
    await house.folding.fold()
    before = await house.rows("SELECT * FROM ledger_entries ORDER BY booked_at, id")
    dry = await house.audit.reprice(Repricing(SINCE, dry=True), catalogue(a="3", b="0.5"))
    assert (dry.seen, dry.corrected, dry.nano) == (3, 2, 1_000_000 + 500_000)
    assert await house.rows("SELECT * FROM ledger_entries ORDER BY booked_at, id") == before
    done = await house.audit.reprice(Repricing(SINCE), catalogue(a="3", b="0.5"))
    assert (done.seen, done.corrected, done.nano) == (3, 2, 1_500_000)
    assert (dict(done.by_model), dict(done.unpriced)) == ({"a": 1_000_000, "b": 500_000}, {"gone": 1})
    after = await house.rows("SELECT * FROM ledger_entries ORDER BY booked_at, id")
    assert after[:4] == before
    shown = [(row.kind, row.revision, bool(row.first_price), row.model, row.cost_nano) for row in after[4:]]
    assert shown == [("correction", 1, False, "a", 1_000_000), ("correction", 1, True, "b", 500_000)]
    # It counts on the day of the charge, and is booked today.
    report = await house.usage.report(UsageAsk(None, SINCE, SINCE + timedelta(days=3)))
    costs = [(one.sums["requests"], one.sums["unpriced"], one.sums["cost_usd"]) for one in report.buckets]
    assert costs == [(1, 0, "0.003"), (1, 0, "0.0005"), (1, 1, None)]
    assert report.unpriced_models == ["gone"]
    assert (await house.audit.verify()).holds


async def test_repricing_again_changes_nothing_and_back_again_takes_it_back(house: House) -> None:
    await house.book([entry(1, house.ada, SINCE, model="a", input_tokens=1000, output_tokens=0, cost_nano=7)])
    zero = {"cache_read_tokens": 0, "cache_write_tokens": 0}
    await house.book([entry(2, house.ada, SINCE, model="b", input_tokens=1000, cost_nano=None, **zero)])
    for price, corrected in (("3", 2), ("3", 0), ("2", 2), ("2", 0), ("3", 2)):
        done = await house.audit.reprice(Repricing(SINCE), catalogue(a=price, b=price))
        assert done.corrected == corrected
    assert [
        row.revision for row in await house.rows("SELECT revision FROM ledger_entries WHERE model = 'b' ORDER BY 1")
    ] == [
        0,
        1,
        2,
        3,
    ]
    report = await house.usage.report(UsageAsk(None, SINCE, LATER, groups=("model",)))
    # The second one's cache tokens cost as much as others: a has one of each.
    assert {g["model"]: g["cost_usd"] for g in from_json(report.buckets[0].groups)} == {"a": "0.003006", "b": "0.003"}
    assert (report.total["unpriced"], report.unpriced_models) == (0, [])
    assert (await house.audit.verify()).holds


@pytest.mark.slow
@pytest.mark.other
async def test_two_who_reprice_at_once_correct_once(house: House) -> None:
    await house.book(some_entries(house, 1500, since=SINCE, days=5, seed=5))
    registry = catalogue(a="3", b="2", c="1")
    # Entries of the models b and c are of the provider q, whom nobody knows any more.
    await house.run("UPDATE ledger_entries SET provider = 'p'")
    await house.audit.rebuild()
    await asyncio.gather(*(house.audit.reprice(Repricing(SINCE), registry) for _ in range(4)))
    assert (await house.audit.reprice(Repricing(SINCE), registry)).corrected == 0
    assert (await house.audit.verify()).holds
    report = await house.usage.report(UsageAsk(None, SINCE, LATER))
    assert report.total["unpriced"] == 0


async def test_repricing_takes_a_time_and_a_model(house: House) -> None:
    days = [SINCE + timedelta(days=n) for n in range(4)]
    await house.book([entry(n, house.ada, day, model="ab"[n % 2]) for n, day in enumerate(days, 1)])
    wish = Repricing(days[1], days[3], "a")
    assert (await house.audit.reprice(wish, catalogue(a="3", b="3"))).seen == 1
