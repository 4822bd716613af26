"""Budgets and limits: held before a turn, settled by its end, right across workers, leaking nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from random import shuffle

import pytest

from service.db.ids import Ids
from service.domain.history import Line
from service.domain.meters import Meters, Prices
from service.domain.periods import period
from service.errors import DatabaseUnavailable, EverturnError, LimitExceeded
from service.providers.base import Ending
from service.repositories.limits import put_limits, sweep_holds
from service.turns.engine import Engine
from service.turns.live import Live
from service.turns.opening import Opening, Sampling
from tests.turns.house import ENDING, MODEL, House, open_house

# At 2 dollars a million tokens out and nothing in: one turn may cost a thousandth of a dollar, and does.
DEAR = replace(MODEL, prices=Prices(Decimal(0), Decimal(2)))
FREE = replace(MODEL, prices=Prices(Decimal(0), Decimal(0)))
ANSWER = 500
NANO = 1_000_000


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as opened:
        yield opened


def opening(user_id: int = 1, key_id: int | None = None, model: object = DEAR) -> Opening:
    line = (Line("user", "Hello?"),)
    sampling = Sampling(max_tokens=ANSWER)
    return Opening(user_id, key_id, model, lines=line, prompt=line, sampling=sampling, streamed=True)  # type: ignore[arg-type]


async def limit(house: House, scope: str = "user", subject: int = 1, **values: int | None) -> None:
    async with house.database.transaction() as connection:
        await put_limits(connection, scope, subject, values=values)


async def send(engine: Engine, one: Opening) -> Live | LimitExceeded:
    try:
        return await engine.begin(one)
    except LimitExceeded as refused:
        return refused


async def test_two_hundred_at_once_spend_no_dollar_more_than_the_budget_for_ten(house: House) -> None:
    await limit(house, day_nano=10 * NANO)
    house.provider.script = ["Hi", Ending("stop", Meters(output_tokens=ANSWER))]
    other = Engine(house.database, Ids(house.database), house.registry, lease_seconds=30)
    engines = (house.engine, other)
    sent = await asyncio.gather(*(send(engines[n % 2], opening()) for n in range(200)))
    begun = [one for one in sent if isinstance(one, Live)]
    refused = [one for one in sent if isinstance(one, LimitExceeded)]
    await asyncio.gather(*(live.finished.wait() for live in begun))
    await other.drain(5)
    assert (len(begun), len(refused)) == (10, 190)
    (spent,) = (await house.rows("SELECT sum(cost_nano) FROM ledger_entries"))[0]
    assert spent == 10 * NANO
    assert {one.retry_after is not None and one.retry_after > 0 for one in refused} == {True}
    # What is free passes an empty purse; another user has their own.
    assert isinstance(await send(house.engine, opening(model=FREE)), Live)
    assert isinstance(await send(house.engine, opening(user_id=2)), Live)


async def test_many_users_fill_everybodys_limit_and_none_passes_their_own(house: House) -> None:
    """Flushes of two workers lock the same limits, in whatever order their turns came."""
    others = ", ".join(f"({number}, 'u{number}', 'u{number}')" for number in range(3, 21))
    await house.write(f"INSERT INTO users (id, username, username_key) VALUES {others}")
    await limit(house, "all", 0, requests_minute=50)
    for user in range(1, 21):
        await limit(house, "user", user, requests_minute=4)
    other = Engine(house.database, Ids(house.database), house.registry, lease_seconds=30)
    asked = [(n, user) for n in range(10) for user in range(2, 21)]
    shuffle(asked)
    # Somebody is sure to pass the own limit while there is room in everybody's.
    asked = [*((n, 1) for n in range(10)), *asked]
    sent = await asyncio.gather(*(send((house.engine, other)[n % 2], opening(user_id=user)) for n, user in asked))
    begun = [one for one in sent if isinstance(one, Live)]
    await asyncio.gather(*(live.finished.wait() for live in begun))
    await other.drain(5)
    assert len(begun) == 50
    assert max(Counter(live.turn.user_id for live in begun).values()) <= 4
    refused = {quota["scope"] for one in sent if isinstance(one, LimitExceeded) for quota in [facts(one)]}
    assert refused == {"all", "user"}


def facts(refused: LimitExceeded) -> dict[str, object]:
    quota = refused.facts["quota"]
    assert isinstance(quota, dict)
    return quota


async def test_a_begin_that_is_sent_again_holds_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to its commit was lost; the limit is full by then, with its own hold."""
    await limit(house, requests_minute=1)
    journal, tries = house.engine._journal, 0
    commit = journal._commit

    async def lose(work: object) -> object:
        nonlocal tries
        written = await commit(work)  # type: ignore[arg-type]  # whatever it is given
        tries += 1
        if tries == 1:
            raise DatabaseUnavailable
        return written

    monkeypatch.setattr(journal, "_commit", lose)
    live = await house.engine.begin(opening())
    await live.finished.wait()
    assert [(quota.limit, quota.left) for quota in live.quotas] == [(1, 0)]
    assert len(await house.rows("SELECT 1 FROM holds WHERE settled_at IS NOT NULL")) == 1
    assert isinstance(await send(house.engine, opening()), LimitExceeded)


async def test_what_a_turn_does_not_use_is_given_back(house: House) -> None:
    await limit(house, day_nano=NANO)
    house.provider.script = ["Hi", Ending("stop", Meters(output_tokens=ANSWER // 5))]
    for _ in range(5):
        live = await house.engine.begin(opening())
        await live.finished.wait()
        # Less is left now than a whole turn may cost.
        refused = await send(house.engine, opening())
        assert isinstance(refused, LimitExceeded)
        await limit(house, day_nano=(await spent(house)) + NANO)
    assert await spent(house) == NANO


async def spent(house: House) -> int:
    return int((await house.rows("SELECT coalesce(sum(cost_nano), 0) FROM ledger_entries"))[0][0])


@pytest.mark.parametrize(("scope", "subject"), [("all", 0), ("key", 7), ("user", 1)])
async def test_turns_at_once(house: House, scope: str, subject: int) -> None:
    await limit(house, scope, subject, streams=2)
    gate = asyncio.Event()
    house.provider.script = ["Hi", gate, ENDING]
    sent = await asyncio.gather(*(send(house.engine, opening(key_id=7)) for _ in range(20)))
    begun = [one for one in sent if isinstance(one, Live)]
    assert len(begun) == 2
    gate.set()
    await asyncio.gather(*(live.finished.wait() for live in begun))
    assert isinstance(await send(house.engine, opening(key_id=7)), Live)


async def test_requests_and_tokens_a_minute(house: House) -> None:
    await limit(house, requests_minute=3)
    sent = [await send(house.engine, opening()) for _ in range(5)]
    assert [isinstance(one, Live) for one in sent] == [True] * 3 + [False] * 2
    refused = sent[-1]
    assert isinstance(refused, LimitExceeded)
    assert refused.retry_after is not None
    assert 1 <= refused.retry_after <= 61
    await limit(house, requests_minute=None, tokens_minute=10)
    assert isinstance(await send(house.engine, opening()), LimitExceeded)
    await limit(house, tokens_minute=10_000)
    assert isinstance(await send(house.engine, opening()), Live)


async def test_a_hold_that_nobody_settles_expires(house: House) -> None:
    """Its completion went with its conversation, and then its worker was killed."""
    await limit(house, streams=1)
    later = {
        "sqlite": "(julianday('now') - 2440587.5) * 86400000000 + 60000000",
        "postgresql": "now() + interval '60 s'",
    }
    at = later[house.database.dialect]
    columns = "user_id, completion_id, nano, tokens, expires_at"
    await house.write(f"INSERT INTO holds ({columns}) VALUES (1, 999999, 1, 1, {at})")
    assert isinstance(await send(house.engine, opening()), LimitExceeded)
    await house.write("UPDATE holds SET expires_at = created_at WHERE completion_id = 999999")
    live = await send(house.engine, opening())
    assert isinstance(live, Live)
    await live.finished.wait()
    # Old ones are swept, those of the last two minutes are still counted as requests.
    old = {"sqlite": "created_at - 200000000", "postgresql": "created_at - interval '200 s'"}[house.database.dialect]
    await house.write(f"UPDATE holds SET created_at = {old} WHERE completion_id = 999999")
    async with house.database.transaction() as connection:
        await sweep_holds(connection)
    assert await house.rows("SELECT completion_id, settled_at IS NULL FROM holds") == [(live.turn.completion_id, False)]


async def test_a_hold_is_put_off_while_its_turn_runs(house: House) -> None:
    await limit(house, streams=1)
    gate = asyncio.Event()
    house.provider.script = ["Hi", gate, ENDING]
    live = await house.engine.begin(opening())
    soon = {"sqlite": "created_at + 1000000", "postgresql": "created_at + interval '1 s'"}[house.database.dialect]
    await house.write(f"UPDATE holds SET expires_at = {soon}")
    async with house.database.transaction() as connection:
        await sweep_holds(connection)
    later = {"sqlite": "created_at + 500000000", "postgresql": "created_at + interval '500 s'"}[house.database.dialect]
    assert (await house.rows(f"SELECT expires_at > {later}, settled_at IS NULL FROM holds")) == [(True, True)]
    gate.set()
    await live.finished.wait()
    async with house.database.transaction() as connection:
        await sweep_holds(connection)
    assert (await house.rows("SELECT settled_at IS NULL FROM holds")) == [(False,)]


async def test_a_turn_whose_conversation_is_deleted_settles_what_it_held(house: House) -> None:
    await limit(house, streams=1)
    gate = asyncio.Event()
    house.provider.script = ["Hi", gate, ENDING]
    live = await house.engine.begin(opening())
    await house.write("DELETE FROM conversations")
    assert isinstance(await send(house.engine, opening()), LimitExceeded)
    gate.set()
    await live.finished.wait()
    assert await house.rows("SELECT count(*) FROM ledger_entries") == [(1,)]
    assert isinstance(await send(house.engine, opening()), Live)


async def test_a_turn_that_waits_holds_for_the_prompt_that_it_will_have(house: House) -> None:
    await limit(house, tokens_minute=2000)
    gate = asyncio.Event()
    house.provider.script = ["Hi", gate, ENDING]
    first = await house.engine.begin(opening())
    waiting = replace(opening(), prompt=(), waits_for=first.turn.completion_id, expected=1000)
    refused = await send(house.engine, waiting)
    assert isinstance(refused, LimitExceeded)
    assert (await house.rows("SELECT tokens FROM holds")) == [(ANSWER + 6,)]
    gate.set()


async def test_a_turn_that_could_not_begin_gives_its_hold_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await limit(house, streams=1)

    async def fail(*_: object) -> None:
        raise EverturnError("no")

    with monkeypatch.context() as broken:
        broken.setattr(house.engine._journal, "begin", fail)
        with pytest.raises(EverturnError, match="no"):
            await house.engine.begin(opening())
    assert isinstance(await send(house.engine, opening()), Live)


async def test_without_limits_nothing_is_held(house: House) -> None:
    await (await house.engine.begin(opening())).finished.wait()
    assert await house.rows("SELECT 1 FROM holds") == []


def test_periods_are_of_utc() -> None:
    wednesday = 1_764_115_200 - 1_764_115_200 % 86_400 + 5000
    for name, days in (("day", 1), ("week", 7)):
        start, end = period(name, wednesday)
        assert start <= wednesday < end == start + days * 86_400
        assert start % 86_400 == 0
    assert (period("week", wednesday)[0] - 345_600) % 604_800 == 0
    assert period("month", 1_767_225_599) == (1_764_547_200, 1_767_225_600)
