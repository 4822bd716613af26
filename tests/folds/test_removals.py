"""Folded journals of answers that are deleted, erased, copied and edited."""

import asyncio
from pathlib import Path
from secrets import token_hex

from sqlalchemy.engine import make_url

from service.db.scrub import scrub
from tests.api.steps import call
from tests.folds.desk import ANSWERS, WORDS, Desk, delete_question
from tests.patience import until
from tests.turns.house import ENDING


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
    numbers = [await desk.answered("One, ", "two, ", "three", ENDING) for _ in range(25)]
    before = [await desk.streams(number) for number in numbers]
    await asyncio.gather(desk.fold(), *(delete_question(desk, number) for number in numbers))
    while await desk.fold():
        pass
    assert [await desk.streams(number) for number in numbers] == before


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
