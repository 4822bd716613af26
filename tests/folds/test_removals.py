"""Folded journals of answers that are deleted, erased, copied and edited."""

import asyncio
from pathlib import Path
from secrets import token_hex

import pytest
from sqlalchemy import delete
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from service.db.failures import is_rollback
from service.db.scrub import scrub
from service.db.tables import messages
from service.repositories.folds import keep_said, write_folds
from service.turns import folds
from service.turns.folds import Folds
from tests.api.steps import call
from tests.folds.desk import ANSWERS, WORDS, Desk, delete_question, reached
from tests.patience import until
from tests.turns.house import ENDING


@pytest.fixture
def together(desk: Desk) -> Desk:
    """Where two can write at the same time."""
    if desk.house.database.dialect == "sqlite":
        pytest.skip("it has one writer at a time")
    return desk


async def test_a_message_that_is_deleted_takes_nothing_from_the_stream(desk: Desk) -> None:
    """As it is where the journal is not folded."""
    script = ANSWERS["thoughts first"]
    early, folded = await desk.answered(*script), await desk.answered(*script)
    before = [await desk.streams(number) for number in (early, folded)]
    await delete_question(desk, early)
    await desk.fold()
    await delete_question(desk, folded)
    assert [await desk.streams(number) for number in (early, folded)] == before
    (row,) = await desk.rows(folded)
    assert row.said == "".join(WORDS) * 2
    record = await call(desk.client, "GET", f"/completions/{folded}", expect=200)
    assert record["content"] is None
    for number in (early, folded):
        await call(desk.client, "DELETE", f"/completions/{number}", expect=204)
        assert await desk.rows(number) == []
        assert (await desk.stream(number)).count(b"id: ") == 2


async def test_a_message_may_be_deleted_while_it_is_folded(desk: Desk) -> None:
    numbers = [await desk.answered("One, ", "two", ENDING) for _ in range(12)]
    before = [await desk.streams(number) for number in numbers]
    await asyncio.gather(desk.fold(), *(delete_question(desk, number) for number in numbers))
    while await desk.fold():
        pass
    assert [await desk.streams(number) for number in numbers] == before


async def test_what_is_being_deleted_is_passed_over(together: Desk) -> None:
    desk = together
    numbers = [await desk.answered("One, ", "two", ENDING) for _ in range(2)]
    before = [await desk.streams(number) for number in numbers]
    record = await call(desk.client, "GET", f"/completions/{numbers[0]}", expect=200)
    async with desk.house.database.transaction() as connection:
        await keep_said(connection, desk.user_id, [record["message_id"]])
        await desk.fold()
        await connection.execute(delete(messages).where(messages.c.id == record["message_id"]))
    assert [len(await desk.rows(number)) for number in numbers] == [3, 1]
    assert [await desk.streams(number) for number in numbers] == before


async def test_who_deletes_waits_for_a_fold_that_is_being_written(together: Desk) -> None:
    desk = together
    number = await desk.answered("One, ", "two", ENDING)
    before = await desk.streams(number)
    (batch,) = await Folds(desk.house.database, -1.0)._look()

    async def waits() -> bool:
        here = "datname = current_database() AND wait_event_type = 'Lock'"
        return bool(await desk.house.rows(f"SELECT 1 FROM pg_stat_activity WHERE {here}"))

    async with desk.house.database.transaction() as connection:
        assert await folds._write(connection, batch)
        deleting = asyncio.create_task(delete_question(desk, number))
        await until(waits, "the deletion to wait")
    await deleting
    (row,) = await desk.rows(number)
    assert row.said == "One, two"
    assert await desk.streams(number) == before


@pytest.mark.parametrize("folding", [True, False])
async def test_who_sees_one_moment_from_before_the_other_is_done_again(together: Desk, folding: bool) -> None:
    """A database may be set so: what a fold or a deletion would not see ends it, instead of losing the text."""
    desk, database = together, together.house.database
    number = await desk.answered("One, ", "two", ENDING)
    record = await call(desk.client, "GET", f"/completions/{number}", expect=200)
    (batch,) = await Folds(database, -1.0)._look()
    answer = [record["message_id"]]
    async with database.reading() as connection:
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.exec_driver_sql("SELECT count(*) FROM events")
        if folding:
            await call(desk.client, "DELETE", f"/messages/{answer[0]}", expect=200)
            late = write_folds(connection, batch.folds)
        else:
            await desk.fold()
            late = keep_said(connection, desk.user_id, answer)
        with pytest.raises(DBAPIError) as failure:
            await late
    assert is_rollback(failure.value)


async def test_a_turn_that_runs_does_not_wait_for_a_deletion(together: Desk) -> None:
    desk = together
    gate = asyncio.Event()
    live = await desk.begin("One, ", gate, "two", ENDING)
    await until(lambda: reached(live, 1), "its first piece")
    async with desk.house.database.transaction() as connection:
        await keep_said(connection, desk.user_id, [live.turn.message_id or 0])
        gate.set()
        await asyncio.wait_for(live.finished.wait(), 10)
    assert b"[DONE]" in await desk.stream(live.turn.completion_id)


async def test_an_answer_that_is_erased_while_it_is_folded_leaves_nothing(desk: Desk) -> None:
    numbers = [await desk.answered("A canary: ", "peep", ENDING) for _ in range(10)]
    erasing = (call(desk.client, "DELETE", f"/completions/{number}", expect=204) for number in numbers)
    await asyncio.gather(desk.fold(), *erasing)
    assert [await desk.rows(number) for number in numbers] == [[]] * len(numbers)


async def test_a_user_who_is_erased_leaves_no_word(desk: Desk) -> None:
    """Neither that was journalled, nor that a message held, nor that a folded row kept of a deleted one."""
    word = token_hex(8)
    numbers = [await desk.answered("A canary: ", f"{word} ", word * 300, ENDING) for _ in range(2)]
    await desk.fold()
    rows = [row for number in numbers for row in await desk.rows(number)]
    assert not any(word in row.data for row in rows)
    await delete_question(desk, numbers[0])
    (row,) = await desk.rows(numbers[0])
    assert word in row.said
    receipt = await call(desk.admin, "DELETE", f"/users/{desk.user_id}", expect=200)
    assert receipt["erased"]["events"] == 2
    assert [await desk.rows(number) for number in numbers] == [[], []]
    if desk.url.startswith("sqlite"):
        await until(lambda: scrub(desk.house.database, 5.0), "what was erased to be overwritten")
        files = Path(make_url(desk.url).database or "").parent.glob("*.db*")
        assert [path.name for path in files if word.encode() in path.read_bytes()] == []


async def test_other_branches_and_copies_have_no_part_in_it(desk: Desk) -> None:
    number = await desk.answered(*WORDS, ENDING)
    before = await desk.streams(number)
    await desk.fold()
    record = await call(desk.client, "GET", f"/completions/{number}", expect=200)
    path = f"/conversations/{record['conversation_id']}"
    copy = await call(desk.client, "POST", f"{path}/fork", {"message_id": record["message_id"]}, expect=201)
    await call(desk.client, "PATCH", f"/messages/{record['message_id']}", {"content": "Better."}, expect=200)
    await call(desk.client, "DELETE", f"/conversations/{copy['id']}", expect=204)
    assert await desk.streams(number) == before
    await call(desk.client, "DELETE", path, expect=204)
    assert await desk.rows(number) == []
