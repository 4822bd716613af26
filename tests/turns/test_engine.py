"""A turn's life on both databases: begin, run, finish."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from service.domain.tree import Position
from service.errors import Conflict
from service.providers.base import Delta, Ending, ProviderFailure
from service.turns.ending import End, close_turn
from service.turns.live import Live
from service.turns.opening import Branch
from tests.turns.house import ENDING, FAILURE, House, open_house

OPEN = "SELECT count(*) FROM completions WHERE status = 'in_progress'"


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with open_house(database_url) as house:
        yield house


async def test_accepted_turn_is_committed_before_the_provider_answers(house: House) -> None:
    house.provider.script = [gate := asyncio.Event(), "late", ENDING]
    live = await house.begin("Are you there?")
    rows = await house.rows("SELECT role, content, status FROM messages ORDER BY depth")
    assert [tuple(row) for row in rows] == [("user", "Are you there?", "completed"), ("assistant", "", "in_progress")]
    lease = "SELECT status, worker, lease_expires_at, epoch FROM completions"
    (row,) = await house.rows(lease)
    assert (row.status, row.worker, row.epoch) == ("in_progress", house.engine.worker, 1)
    assert row.lease_expires_at is not None
    assert (await house.rows("SELECT status FROM attempts"))[0].status == "in_progress"
    gate.set()
    await live.finished.wait()
    assert (await house.rows(OPEN))[0][0] == 0


async def test_finish_records_answer_usage_cost_and_ledger(house: House) -> None:
    live = await house.begin()
    await live.finished.wait()
    (message,) = await house.rows("SELECT content, status, model FROM messages WHERE role = 'assistant'")
    assert tuple(message) == ("Hello", "completed", "told")
    (done,) = await house.rows(
        "SELECT status, finish_reason, input_tokens, cache_read_tokens, output_tokens, reasoning_tokens, cost_nano,"
        " temperature, finished_at, lease_expires_at FROM completions"
    )
    # 13 tokens read at $1 a million and 5 written at $2 are 23 millionths of a dollar.
    assert tuple(done)[:8] == ("completed", "stop", 10, 3, 5, 2, 23_000, 0.5)
    assert done.finished_at is not None
    assert done.lease_expires_at is None
    (entry,) = await house.rows("SELECT cost_nano, provenance, price_source, output_tokens, kind FROM ledger_entries")
    assert tuple(entry) == (23_000, "provider", "settings", 5, "charge")
    (attempt,) = await house.rows("SELECT status, upstream_id, finished_at FROM attempts")
    assert (attempt.status, attempt.upstream_id) == ("completed", "up-1")


async def test_events_are_journalled_before_they_are_shown(house: House) -> None:
    gates = [asyncio.Event() for _ in range(5)]
    house.provider.script = [part for n, gate in enumerate(gates) for part in (f"w{n} ", gate)] + [ENDING]
    live = await house.begin()
    seen = 0
    async with aclosing(live.follow()) as batches:
        async for batch in batches:
            seen = batch[-1].seq
            (row,) = await house.rows("SELECT max(last_seq) AS stored FROM events")
            assert row.stored >= seen
            for gate in gates[: len(live.answer.text)]:
                gate.set()
    assert seen == 7  # five words, usage, done
    rows = await house.rows("SELECT seq, last_seq, data FROM events ORDER BY seq")
    numbers = [seq for row in rows for seq in range(row.seq, row.last_seq + 1)]
    assert numbers == list(range(1, 8))
    assert sum(len(json.loads(row.data)) for row in rows) == 7


async def test_reader_that_leaves_does_not_stop_the_turn(house: House) -> None:
    house.provider.script = ["first ", gate := asyncio.Event(), "last", ENDING]
    live = await house.begin()
    async with aclosing(live.follow()) as batches:
        await anext(batches)
    gate.set()
    await live.finished.wait()
    (row,) = await house.rows("SELECT content FROM messages WHERE role = 'assistant'")
    assert row.content == "first last"


async def test_caller_cancelled_while_the_begin_commits_leaves_a_whole_turn(house: House) -> None:
    call = asyncio.create_task(house.begin())
    while house.engine.running == 0:  # noqa: ASYNC110  # the very moment between the two is wanted
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await house.engine.drain(10)
    (row,) = await house.rows("SELECT content, status FROM messages WHERE role = 'assistant'")
    assert tuple(row) == ("Hello", "completed")


@pytest.mark.parametrize("spoken", [[], ["half an "]])
async def test_provider_failure_keeps_the_question_and_what_came(house: House, spoken: list[str]) -> None:
    house.provider.script = [*spoken, FAILURE]
    live = await house.begin("Keep me")
    await live.finished.wait()
    assert live.error is not None
    assert (live.error.status, live.error.code, live.error.retry_after) == (503, "provider_unavailable", 3)
    rows = await house.rows("SELECT content, status FROM messages ORDER BY depth")
    status = "incomplete" if spoken else "failed"
    assert [tuple(row) for row in rows] == [("Keep me", "completed"), ("".join(spoken), status)]
    (attempt,) = await house.rows("SELECT status, error_kind FROM attempts")
    assert tuple(attempt) == (status, "overloaded")
    (entry,) = await house.rows("SELECT provenance, output_tokens, cost_nano FROM ledger_entries")
    assert entry.provenance == "estimated"
    assert (entry.output_tokens > 0) == (entry.cost_nano > 0) == bool(spoken)
    assert live.events[-1].kind == "error"


async def test_answer_without_usage_is_estimated(house: House) -> None:
    house.provider.script = ["12345678", Ending("length")]
    live = await house.begin()
    await live.finished.wait()
    (row,) = await house.rows("SELECT status, finish_reason, output_tokens FROM completions")
    assert tuple(row) == ("incomplete", "length", 2)
    assert (await house.rows("SELECT provenance FROM ledger_entries"))[0][0] == "estimated"


async def test_adapter_that_breaks_is_an_end_too(house: House) -> None:
    house.provider.script = [ZeroDivisionError("a bug")]
    live = await house.begin()
    await live.finished.wait()
    (row,) = await house.rows("SELECT status, error_code, error_detail FROM completions")
    assert (row.status, row.error_code) == ("failed", "internal_error")
    assert "bug" not in row.error_detail


async def test_second_finish_changes_nothing(house: House) -> None:
    live = await house.begin()
    await live.finished.wait()
    again = Live(live.turn)
    again.hear([Delta("text", "something else")])
    closing = close_turn(again, End(ending=ENDING), registry=house.registry, pending=again.take_pending())
    assert not await house.engine._journal.finish(closing.finish)
    (row,) = await house.rows("SELECT content FROM messages WHERE role = 'assistant'")
    assert row.content == "Hello"
    assert (await house.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 1


async def test_worker_of_an_older_epoch_writes_nothing(house: House) -> None:
    house.provider.script = ["mine ", gate := asyncio.Event(), "not mine any more", ENDING]
    live = await house.begin()
    async with aclosing(live.follow()) as batches:
        await anext(batches)
    await house.write("UPDATE completions SET epoch = 2, worker = 'another'")
    gate.set()
    await live.finished.wait()
    (row,) = await house.rows("SELECT content, status FROM messages WHERE role = 'assistant'")
    assert tuple(row) == ("", "in_progress")
    assert (await house.rows("SELECT max(last_seq) FROM events"))[0][0] == 1
    assert (await house.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 0


async def test_turn_of_an_erased_conversation_is_still_accounted(house: House) -> None:
    house.provider.script = ["gone ", gate := asyncio.Event(), "soon", ENDING]
    live = await house.begin()
    async with aclosing(live.follow()) as batches:
        await anext(batches)
    await house.write("DELETE FROM conversations")
    gate.set()
    await live.finished.wait()
    assert (await house.rows("SELECT count(*) FROM completions"))[0][0] == 0
    (entry,) = await house.rows("SELECT cost_nano, provenance FROM ledger_entries")
    assert tuple(entry) == (23_000, "provider")


async def test_sends_that_race_for_one_place_make_one_turn(house: House) -> None:
    first = await house.begin()
    await first.finished.wait()
    assert first.turn.conversation_id
    assert first.turn.message_id
    (line,) = await house.rows("SELECT line_id FROM messages WHERE role = 'assistant'")
    branch = Branch(first.turn.conversation_id, Position(first.turn.message_id, line.line_id, 1, True))
    others = [house.begin(f"new {n}") for n in range(5)]
    raced = await asyncio.gather(
        *(house.begin(f"race {n}", branch=branch) for n in range(5)), *others, return_exceptions=True
    )
    won = [one for one in raced[:5] if isinstance(one, Live)]
    assert len(won) == 1
    assert all(isinstance(one, Conflict) for one in raced[:5] if one is not won[0])
    assert all(isinstance(one, Live) for one in raced[5:])  # one bad turn spoils only itself
    for live in (one for one in raced if isinstance(one, Live)):
        await live.finished.wait()
    (row,) = await house.rows(
        f"SELECT message_count, active_leaf_id FROM conversations WHERE id = {branch.conversation_id}"
    )
    assert tuple(row) == (4, won[0].turn.message_id)
    assert (await house.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 7


async def test_many_turns_at_once_are_all_written(house: House) -> None:
    lives = await asyncio.gather(*(house.begin(f"q{n}", streamed=n % 2 == 0) for n in range(120)))
    await asyncio.gather(*(live.finished.wait() for live in lives))
    (row,) = await house.rows("SELECT count(*) AS n, sum(cost_nano) AS cost FROM ledger_entries")
    assert (row.n, row.cost) == (120, 120 * 23_000)
    assert (await house.rows("SELECT count(*) FROM messages WHERE content = 'Hello'"))[0][0] == 120
    assert (await house.rows(OPEN))[0][0] == 0


async def test_drain_ends_what_still_runs_as_incomplete(house: House) -> None:
    house.provider.script = ["so far ", asyncio.Event(), ENDING]
    live = await house.begin()
    async with aclosing(live.follow()) as batches:
        await anext(batches)
    await house.engine.drain(0.01)
    (row,) = await house.rows("SELECT status, error_code FROM completions")
    assert tuple(row) == ("incomplete", "worker_lost")
    (row,) = await house.rows("SELECT content FROM messages WHERE role = 'assistant'")
    assert row.content == "so far "


async def test_turn_outlives_cut_database_connections(house: House, database_url: str) -> None:
    if not database_url.startswith("postgres"):
        pytest.skip("SQLite has no connections to cut")
    gates = [asyncio.Event() for _ in range(20)]
    house.provider.script = [part for n, gate in enumerate(gates) for part in (f"w{n} ", gate)] + [ENDING]
    live = await house.begin()
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with aclosing(live.follow()) as batches:
        async for batch in batches:
            if batch[-1].seq % 5 == 0:
                await house.rows(cut)
            for gate in gates[: batch[-1].seq]:
                gate.set()
    (row,) = await house.rows("SELECT content, status FROM messages WHERE role = 'assistant'")
    assert tuple(row) == ("".join(f"w{n} " for n in range(20)), "completed")


async def test_unstored_turn_leaves_no_text_in_messages(house: House) -> None:
    from dataclasses import replace

    from service.domain.history import Line
    from service.turns.opening import Opening, Sampling
    from tests.turns.house import MODEL

    line = (Line("user", "off the record"),)
    opening = Opening(1, None, MODEL, line, line, Sampling(), streamed=False)
    live = await house.engine.begin(replace(opening, stored=False))
    await live.finished.wait()
    assert live.turn.message_id is None
    for table in ("messages", "conversations"):
        assert (await house.rows(f"SELECT count(*) FROM {table}"))[0][0] == 0
    assert (await house.rows("SELECT max(last_seq) FROM events"))[0][0] == 4  # for who follows it, for some seconds
    assert (await house.rows("SELECT count(*) FROM ledger_entries"))[0][0] == 1


def test_failure_is_told_from_success() -> None:
    assert ProviderFailure("refused", "no").retryable is False
    assert FAILURE.retryable is True
