"""What is large is removed in many statements, none of which takes more than the others: none is ended for its time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import event, func, insert, select

from service.config import Settings
from service.db.all_tables import metadata
from service.db.engine import Database
from service.db.tables import attempts, completions, conversations, events, messages
from service.domain.history import Line
from service.domain.tree import Place
from service.main import Core, build_core
from service.providers.registry import Registry
from service.repositories import removals
from service.repositories.conversations import move_leaf
from service.repositories.messages import add_messages, row_of
from service.repositories.users import lock_admins
from service.usecases.conversations import Conversations, Draft
from service.usecases.messages import Messages
from service.usecases.users import UserDraft
from tests.conftest import PEPPER

MOST = 7
LARGE, SMALL = 60, 3
LONG = 20_000


def talks_of(core: Core) -> Conversations:
    return Conversations(core.database, core.ids, core.pager, core.claims, core.images, Registry(()))


@dataclass(frozen=True, slots=True)
class House:
    """Somebody with a large conversation, small ones, and completions outside of any."""

    core: Core
    user_id: int
    large: int
    ids: list[int]

    async def count(self, *names: str) -> dict[str, int]:
        """How many rows of the user's there are."""
        found = {}
        async with self.core.database.reading() as connection:
            for name in names:
                table = metadata.tables[name]
                mine = select(func.count()).select_from(table).where(table.c.user_id == self.user_id)
                found[name] = (await connection.execute(mine)).scalar_one()
        return found

    @contextmanager
    def removed(self) -> Iterator[list[tuple[str, int]]]:
        """The tables and counts of what each DELETE of the with-block took, but not of what went with it."""
        noted: list[tuple[str, int]] = []

        def note(_connection: object, cursor: Any, statement: str, *_: object) -> None:
            if statement.startswith("DELETE"):
                noted.append((statement.split()[2], cursor.rowcount))

        engine = self.core.database.engine.sync_engine
        event.listen(engine, "after_cursor_execute", note)
        try:
            yield noted
        finally:
            event.remove(engine, "after_cursor_execute", note)


@pytest.fixture
async def house(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(removals, "AT_ONCE", MOST)
    pepper = SecretStr(PEPPER)
    core = build_core(
        Settings(database_url=database_url, pepper=pepper, local_model="off", sqlite_synchronous="normal")
    )
    user = await core.users.create(UserDraft("ada"))
    talks = talks_of(core)
    numbers = [(await talks.create(user.id, Draft())).made.id for _ in range(5)]
    ids = list(await core.ids.take("message", LARGE + 4 * SMALL))
    sizes, first = [LARGE] + [SMALL] * 4, ids[:LARGE]
    outside = await core.ids.take("completion", 2 * MOST)
    async with core.database.transaction() as connection:
        for talk, size in zip(numbers, sizes, strict=True):
            mine, ids = ids[:size], ids[size:]
            await fill(connection, user.id, talk, mine)
        for number in outside:
            await connection.execute(insert(completions), record(user.id, number, None, "outside"))
    yield House(core, user.id, numbers[0], first)
    await core.close()


async def fill(connection: Any, user_id: int, talk: int, ids: list[int]) -> None:
    """A tree whose nodes hang below any of those before them, with a completion and events for each."""
    chance = Random(len(ids))
    places: dict[int, dict[str, Any]] = {}
    for at, number in enumerate(ids):
        parent = chance.choice(ids[max(0, at - 4) : at]) if at else None
        taken = {row["parent_id"] for row in places.values()}
        above = places[parent] if parent else None
        row: dict[str, Any] = {
            "user_id": user_id,
            "id": number,
            "conversation_id": talk,
            "parent_id": parent,
            "line_id": above["line_id"] if above and parent not in taken else number,
            "depth": above["depth"] + 1 if above else 0,
            "role": "user",
            "content": f"number {number}",
        }
        places[number] = row
        await connection.execute(insert(messages), row)
        await connection.execute(insert(completions), record(user_id, number * 1000, talk, "inside"))
        own = {"user_id": user_id, "completion_id": number * 1000}
        await connection.execute(
            insert(attempts), {**own, "number": 1, "provider": "p", "upstream_model": "m", "status": "completed"}
        )
        for seq in range(3):
            await connection.execute(insert(events), {**own, "seq": seq, "last_seq": seq, "data": "[]"})
    await move_leaf(connection, user_id, talk, leaf_id=ids[-1], added=len(ids))


def record(user_id: int, number: int, talk: int | None, model: str) -> dict[str, Any]:
    told = {"user_id": user_id, "id": number, "conversation_id": talk, "model": model}
    return {**told, "provider": "p", "status": "completed"}


async def delete_talk(house: House) -> None:
    talks = talks_of(house.core)
    await talks.delete(house.user_id, house.large)


async def delete_root(house: House) -> None:
    talks = Messages(house.core.database, house.core.ids, house.core.pager, house.core.claims, house.core.images)
    assert await talks.delete(house.user_id, house.ids[0]) == LARGE


async def erase(house: House) -> None:
    receipt = await house.core.erasures.erase(house.user_id)
    assert (receipt.erased["messages"], receipt.erased["events"]) == (LARGE + 4 * SMALL, 3 * (LARGE + 4 * SMALL))


REMOVALS: dict[str, tuple[Callable[[House], Awaitable[None]], dict[str, int]]] = {
    "a conversation": (delete_talk, {"conversations": 4, "messages": 4 * SMALL, "completions": 4 * SMALL + 2 * MOST}),
    "a message": (delete_root, {"conversations": 5, "messages": 4 * SMALL}),
    "a user": (erase, {"conversations": 0, "messages": 0, "completions": 0, "attempts": 0, "events": 0}),
}


@pytest.mark.parametrize(("remove", "left"), REMOVALS.values(), ids=REMOVALS)
async def test_what_is_large_is_removed_in_parts(house: House, remove: Any, left: dict[str, int]) -> None:
    with house.removed() as parts:
        await remove(house)
    assert await house.count(*left) == left
    large = [count for table, count in parts if table in ("messages", "completions")]
    assert len(large) >= LARGE // MOST, parts
    assert max(large) <= MOST
    # By the time that they go few messages are left that go with them.
    assert max([count for table, count in parts if table == "conversations"], default=0) <= MOST // SMALL


async def test_a_long_talk_that_just_came_can_be_deleted(
    house: House, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the database knows how much there is: it would compare every message with every other."""
    monkeypatch.undo()
    ids = [house.ids[0], *range(10**9, 10**9 + LONG)]
    rows = [
        row_of(house.user_id, house.large, Place(own, above, house.ids[0], 10_000 + at), Line("user", "Hello"))
        for at, (above, own) in enumerate(pairwise(ids))
    ]
    loading = Database(database_url, synchronous="normal", statement_seconds=None)
    async with loading.transaction() as connection:
        await add_messages(connection, rows)
    await loading.close()
    # Connections of its own: the plans of the others are of when there was little.
    elsewhere = Database(database_url, synchronous="normal")
    talks = Messages(elsewhere, house.core.ids, house.core.pager, house.core.claims, house.core.images)
    assert await talks.delete(house.user_id, house.ids[0]) == LARGE + LONG
    await elsewhere.close()


async def test_an_admins_turns_do_not_wait_for_an_erasure(house: House) -> None:
    admin = await house.core.users.create(UserDraft("root", role="admin"))
    talks = talks_of(house.core)
    if house.core.database.dialect == "sqlite":
        pytest.skip("there one writes at a time")
    async with house.core.database.transaction() as connection:
        assert await lock_admins(connection) == [admin.id]
        await asyncio.wait_for(talks.create(admin.id, Draft()), 10)


async def test_what_is_small_is_removed_at_once(house: House) -> None:
    async with house.core.database.reading() as connection:
        query = select(conversations.c.id).where(conversations.c.user_id == house.user_id)
        small = max((await connection.execute(query)).scalars())
    talks = talks_of(house.core)
    with house.removed() as parts:
        await talks.delete(house.user_id, small)
    assert parts == [("conversations", 1)]
