"""The owned-table rule, read from the metadata and tried on both databases."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Table, insert, text
from sqlalchemy.exc import IntegrityError

from service.db.all_tables import metadata
from service.db.engine import Database
from service.db.tables import attempts, completions, conversation_tags, conversations, events, messages, users

OWNED = [table for table in metadata.sorted_tables if "user_id" in table.c]
# Nouns that are addressed by a number of their own.
NOUNS = [table for table in OWNED if "id" in table.c]
FREE = {"users", "limits", "id_blocks", "models", "model_prices", "folded_until"}
# What was charged outlives whoever caused it.
LASTING = {"ledger_entries", "usage_deltas", "usage_rollups"}


def names(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


def test_every_table_has_an_owner_or_is_known_to_have_none() -> None:
    assert set(metadata.tables) - {table.name for table in OWNED} == FREE
    assert {table.name for table in NOUNS} == {"keys", "conversations", "messages", "completions", "ledger_entries"}


@pytest.mark.parametrize("table", OWNED, ids=lambda table: table.name)
def test_the_owner_comes_first_in_the_primary_key(table: Table) -> None:
    assert names(table)[0] == "user_id"
    assert not table.c.user_id.nullable
    if table in NOUNS:
        assert names(table) == ["user_id", "id"]


@pytest.mark.parametrize("table", OWNED, ids=lambda table: table.name)
def test_foreign_keys_between_owned_tables_carry_the_owner(table: Table) -> None:
    links = list(table.foreign_key_constraints)
    if table.name in LASTING:
        assert links == []
        return
    assert links, "nobody owns its rows"
    for link in links:
        columns, target = [column.name for column in link.columns], link.referred_table
        if target is users:
            assert (columns, link.ondelete) == (["user_id"], "CASCADE")
        else:
            assert columns[0] == "user_id"
            assert link.elements[0].column.name == "user_id"
            assert len(columns) == len(names(target))


@dataclass(frozen=True, slots=True)
class Rows:
    """A database with a conversation, a message and a completion of user 1, and a conversation of user 2."""

    database: Database

    async def add(self, table: Table, **values: Any) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(insert(table), values)


def message(user_id: int, number: int, talk: int, parent: int | None = None) -> dict[str, Any]:
    place = {"line_id": number, "depth": 0 if parent is None else 1, "parent_id": parent}
    return {"user_id": user_id, "id": number, "conversation_id": talk, "role": "user", "content": "x", **place}


def completion(user_id: int, number: int, talk: int) -> dict[str, Any]:
    ids = {"user_id": user_id, "id": number, "conversation_id": talk}
    return {**ids, "model": "m", "provider": "p", "status": "completed"}


@pytest.fixture
async def rows(database_url: str) -> AsyncIterator[Rows]:
    made = Rows(Database(database_url, synchronous="normal"))
    for number in (1, 2):
        await made.add(users, id=number, username=f"u{number}", username_key=f"u{number}")
        await made.add(conversations, user_id=number, id=number * 10)
    await made.add(messages, **message(1, 100, 10))
    await made.add(completions, **completion(1, 500, 10))
    yield made
    await made.database.close()


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (messages, message(2, 101, 10)),
        (messages, message(2, 101, 20, parent=100)),
        (messages, message(1, 101, 20)),
        (messages, message(3, 101, 10)),
        (messages, message(1, 100, 10)),
        (completions, completion(2, 501, 10)),
        (conversation_tags, {"user_id": 2, "conversation_id": 10, "tag": "x"}),
        (events, {"user_id": 2, "completion_id": 500, "seq": 1, "last_seq": 1, "data": "[]"}),
        (attempts, {"user_id": 2, "completion_id": 500, "number": 1, "provider": "p", "upstream_model": "m",
                    "status": "failed"}),
        (conversations, {"user_id": 3, "id": 30}),
    ],
)  # fmt: skip
async def test_the_database_itself_refuses_what_belongs_to_another(
    rows: Rows, table: Table, values: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError):
        await rows.add(table, **values)


async def test_the_same_rows_of_the_owner_are_taken(rows: Rows) -> None:
    await rows.add(messages, **message(1, 101, 10, parent=100))
    await rows.add(messages, **message(2, 101, 20))
    await rows.add(completions, **completion(2, 501, 20))
    await rows.add(events, user_id=1, completion_id=500, seq=1, last_seq=1, data="[]")


async def test_with_a_user_goes_all_that_they_own(rows: Rows) -> None:
    async with rows.database.transaction() as connection:
        await connection.execute(text("DELETE FROM users WHERE id = 1"))
    async with rows.database.reading() as connection:
        for table in OWNED:
            if table.name not in LASTING:
                query = text(f"SELECT count(*) FROM {table.name} WHERE user_id = 1")
                assert (await connection.execute(query)).scalar() == 0
