"""What is folded when, and what is left as it is."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import event

from service.db.engine import Database
from service.db.migrate import downgrade
from service.domain.events import Event, unpack
from service.repositories.folds import START, list_due
from service.turns.folds import Folds
from service.turns.hub import Hub
from service.turns.live import Lives
from tests.folds.desk import ANSWERS, WORDS, Desk, reached
from tests.patience import until
from tests.turns.house import ENDING, House, open_house


async def test_what_the_message_does_not_hold_stays_and_is_not_looked_at_again(desk: Desk) -> None:
    changed, broken = await desk.answered(*WORDS, ENDING), await desk.answered(*WORDS, ENDING)
    await desk.house.write(f"UPDATE messages SET content = 'x' WHERE completion_id = {changed}")
    await desk.house.write(f"UPDATE events SET data = '[7]' WHERE seq = 1 AND completion_id = {broken}")
    following = await desk.answered(*WORDS, ENDING)
    rows, before = await desk.rows(changed), await desk.streams(changed)
    await desk.fold()
    assert await desk.rows(changed) == rows
    assert await desk.streams(changed) == before
    assert len(await desk.rows(broken)) > 1
    assert len(await desk.rows(following)) == 1
    assert await Folds(desk.house.database, -1.0)._look() == []


@pytest.mark.parametrize("forlorn", [False, True])
async def test_what_runs_is_waited_for_but_not_for_ever(database_url: str, forlorn: bool) -> None:
    gate = asyncio.Event()
    async with open_house(database_url) as house:
        journals = Folds(house.database, -1.0)
        house.provider.script = ["One, ", gate, "two", ENDING]
        running = await house.begin()
        await until(lambda: reached(running, 1), "its first piece")
        house.provider.script = [*WORDS, ENDING]
        later = await house.begin()
        await later.finished.wait()
        await journals.fold()
        assert await _folded(house) == set()
        if forlorn:
            sooner = "interval '2 days'" if "postgres" in database_url else "172800000000"
            named = f"WHERE id = {running.turn.completion_id}"
            await house.write(f"UPDATE completions SET created_at = created_at - {sooner} {named}")
            await journals.fold()
            assert await _folded(house) == {later.turn.completion_id}
        gate.set()
        await running.finished.wait()
        await journals.fold()
        assert (running.turn.completion_id in await _folded(house)) is not forlorn
        assert later.turn.completion_id in await _folded(house)
        for live in (running, later):
            hub = Hub(house.database, Lives())
            assert [event async for some in hub.follow(*live.turn.name) for event in some] == live.events


async def test_what_is_not_stored_is_left_to_be_forgotten(desk: Desk) -> None:
    live = await desk.begin("One, ", "two", ENDING, stored=False)
    await live.finished.wait()
    assert await desk.fold() == 0
    assert all(row.spans is None for row in await desk.rows(live.turn.completion_id))


async def test_journals_wait_for_their_hours(desk: Desk) -> None:
    number = await desk.answered("One, ", "two", ENDING)
    assert await Folds(desk.house.database, 1.0).fold() == 0
    assert len(await desk.rows(number)) == 3
    assert await desk.fold() == 2


async def test_what_is_due_is_found_by_an_index_however_many_there_are(database_url: str) -> None:
    database = Database(database_url)
    sent: list[tuple[str, Any]] = []
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *sending: sent.append(sending[2:4]))
    try:
        async with database.reading() as connection:
            await list_due(connection, START, seconds=86_400.0, patience=86_400.0, most=20)
            statement, values = sent[-1]
            if database.dialect == "postgresql":
                # On an empty table it would do without.
                await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
                await connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
            explain = "EXPLAIN" if database.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
            plan = " ".join(map(str, await connection.exec_driver_sql(f"{explain} {statement}", values)))
    finally:
        await database.close()
    bound = "Index Cond: ((ROW(created_at, id)" if database.dialect == "postgresql" else "((created_at,id)>(?,?)"
    assert "ix_completions_created_at_id" in plan
    assert bound in plan
    assert "sort" not in plan.lower()


async def test_the_version_before_gets_its_rows_back(database_url: str) -> None:
    async with open_house(database_url) as house:
        made = []
        for name in ("words", "thoughts between", "broken off"):
            house.provider.script = list(ANSWERS[name])
            made.append(await house.begin())
            await made[-1].finished.wait()
        await Folds(house.database, -1.0).fold()
        (gone,) = await house.rows(f"SELECT message_id FROM completions WHERE id = {made[0].turn.completion_id}")
        await house.write(
            "UPDATE events SET said = (SELECT content FROM messages WHERE id = " + f"{gone[0]})"
            f" WHERE completion_id = {made[0].turn.completion_id}"
        )
        await house.write(f"DELETE FROM messages WHERE id = {gone[0]}")
    await asyncio.to_thread(downgrade, database_url, "2026_11_26_totals")
    database = Database(database_url)
    try:
        async with database.reading() as connection:
            rows = await connection.exec_driver_sql("SELECT completion_id, seq, data FROM events ORDER BY seq")
            told: dict[int, list[Event]] = {}
            for number, seq, data in map(tuple, rows):
                told.setdefault(number, []).extend(unpack(seq, json.loads(data)))
    finally:
        await database.close()
    assert told == {live.turn.completion_id: live.events for live in made}


async def _folded(house: House) -> set[int]:
    return {row[0] for row in await house.rows("SELECT completion_id FROM events WHERE spans IS NOT NULL")}
