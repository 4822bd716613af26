"""Who counted what a call used: the provider, the provider a part of it, or nobody, and what failed calls cost."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.domain.meters import Meters
from service.providers.base import Counted, Ending, ProviderFailure
from service.turns.running import Retries
from service.usecases.audit import Audit
from tests.turns.house import ENDING, METERS, House, open_house

CUT = ProviderFailure("truncated", "The answer stopped before its end.")
ASKED = Meters(input_tokens=100, cache_read_tokens=20)
COLUMNS = "provenance, error_kind, input_tokens, cache_read_tokens, output_tokens, cost_nano"


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as opened:
        yield opened
        assert (await Audit(opened.database, opened.ids).verify()).holds


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (["Hello", ENDING], ("provider", None, 10, 3, 5)),
        # The input was counted before the cut, and what came after it is estimated.
        ([Counted(ASKED, False), "12345678", CUT], ("partial", "truncated", 100, 20, 2)),
        # A frame with both came before the cut: to the token.
        (["12345678", Counted(METERS, True), CUT], ("partial", "truncated", 10, 3, 5)),
        ([Counted(ASKED, False), "12345678", Ending("stop")], ("partial", None, 100, 20, 2)),
        ([Counted(ASKED, False), Counted(METERS, True), "x", ENDING], ("provider", None, 10, 3, 5)),
        # No count at all, and one that cannot be.
        (["12345678", CUT], ("estimated", "truncated", 6, 0, 2)),
        ([Counted(Meters(input_tokens=10**12), False), "12345678", CUT], ("estimated", "truncated", 6, 0, 2)),
    ],
)
async def test_who_counted(house: House, script: list[object], expected: tuple[object, ...]) -> None:
    house.provider.script = script
    live = await house.begin()
    await live.finished.wait()
    (entry,) = await house.rows(f"SELECT {COLUMNS} FROM ledger_entries")
    assert tuple(entry)[:2] == expected[:2]
    assert tuple(entry)[3:5] == expected[3:]
    # How a prompt is estimated is history's to say.
    assert entry.input_tokens == expected[2] or entry.provenance == "estimated"
    (record,) = await house.rows("SELECT input_tokens, cache_read_tokens, output_tokens, cost_nano FROM completions")
    assert tuple(record) == tuple(entry)[2:]


async def test_an_attempt_that_failed_after_its_input_was_counted_is_paid_for(database_url: str) -> None:
    """The provider read the prompt and broke off: that costs, and the turn's record has it with the next attempt's."""
    async with open_house(database_url, retries=Retries(most=1, first=0.0)) as house:
        house.provider.script = [Counted(ASKED, False), gate := asyncio.Event(), CUT]
        live = await house.begin()
        while not house.provider.calls:  # noqa: ASYNC110  # the moment between two attempts is wanted
            await asyncio.sleep(0)
        house.provider.script = ["Hello", ENDING]
        gate.set()
        await live.finished.wait()
        await check_retried(house)


async def check_retried(house: House) -> None:
    first, second = await house.rows(f"SELECT {COLUMNS} FROM ledger_entries ORDER BY attempt")
    assert tuple(first)[:5] == ("partial", "truncated", 100, 20, 0)
    assert tuple(second)[:5] == ("provider", None, 10, 3, 5)
    (record,) = await house.rows("SELECT input_tokens, output_tokens, cost_nano, attempt_count FROM completions")
    assert tuple(record) == (110, 5, first.cost_nano + second.cost_nano, 2)
    assert first.cost_nano > 0
    assert (await Audit(house.database, house.ids).verify()).holds


async def test_a_call_that_was_refused_costs_nothing(house: House) -> None:
    house.provider.script = [ProviderFailure("refused", "No.", status=400)]
    live = await house.begin()
    await live.finished.wait()
    (entry,) = await house.rows(f"SELECT {COLUMNS} FROM ledger_entries")
    assert tuple(entry) == ("estimated", "refused", 0, 0, 0, 0)
    (delta,) = await house.rows("SELECT requests, errors, unpriced FROM usage_deltas")
    assert tuple(delta) == (1, 1, 0)
