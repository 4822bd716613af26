"""The search index follows the messages, whoever writes them: triggers, cascades, older messages, and equal words."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, text, update
from sqlalchemy.exc import IntegrityError

from service.db.backfill import fill_search
from service.db.engine import Database
from service.db.migrate import downgrade, upgrade
from service.db.tables import conversations, messages, users
from service.domain.words import LONGEST_TEXT, LONGEST_WORD, fold
from tests.api.documents import Rows, message, rewrite, two_users
from tests.conftest import MakeDatabase

BEFORE = "2026_11_25_ledger"


@pytest.fixture
async def rows(database_url: str) -> AsyncIterator[Rows]:
    async with two_users(database_url) as made:
        yield made


async def test_a_message_is_indexed_with_its_marks(rows: Rows) -> None:
    await rows.write(message(1, "Hello, World!"), message(2, "Hello again", 2, role="assistant"))
    assert await rows.words() == {1: "hello world", 2: "hello again"}
    assert await rows.find("hello") == {1, 2}
    assert await rows.find("hello", "u_1") == {1}
    assert await rows.find("hello", "c_20", "r_assistant") == {2}
    assert await rows.find("hello", "u_1", "c_20") == set()


async def test_an_answer_that_is_written_at_the_turns_end_is_found_then(rows: Rows) -> None:
    await rows.write(message(1, "", role="assistant", status="in_progress"))
    assert await rows.words() == {}
    await rows.write(rewrite(1, "The answer"))
    assert await rows.find("answer") == {1}
    await rows.write(rewrite(1, "Another one"))
    assert (await rows.find("answer"), await rows.find("another")) == (set(), {1})
    await rows.write(update(messages).values(metadata={"x": 1}))
    assert await rows.find("another") == {1}
    await rows.write(rewrite(1, "?!"))
    assert await rows.words() == {}


async def test_a_transaction_that_is_rolled_back_indexes_nothing(rows: Rows) -> None:
    with pytest.raises(IntegrityError):
        await rows.write(message(1, "secret"), message(1, "secret"))
    assert (await rows.words(), await rows.find("secret")) == ({}, set())


@pytest.mark.parametrize(
    "removal",
    [
        delete(messages).where(messages.c.user_id == 1),
        delete(conversations).where(conversations.c.user_id == 1),
        delete(users).where(users.c.id == 1),
    ],
    ids=["messages", "conversation", "user"],
)
async def test_what_is_deleted_or_erased_is_gone_from_the_index(rows: Rows, removal: Any) -> None:
    await rows.write(*(message(number, f"secret w{number}") for number in range(1, 30)), message(99, "secret", 2))
    await rows.write(removal)
    assert list(await rows.words()) == [99]
    assert (await rows.find("secret"), await rows.find("w7")) == ({99}, set())


async def test_many_messages_of_one_second_are_all_indexed(rows: Rows) -> None:
    async with rows.database.transaction() as connection:
        numbers = range(1, 1001)
        one = {"user_id": 1, "conversation_id": 10, "depth": 0, "role": "user", "content": "same"}
        await connection.execute(insert(messages), [{**one, "id": n, "line_id": n} for n in numbers])
    assert await rows.find("same") == set(numbers)


async def test_the_index_outlives_a_vacuum(rows: Rows) -> None:
    await rows.write(message(1, "one"), message(2, "two"), message(3, "three"))
    await rows.write(delete(messages).where(messages.c.id == 1))
    async with rows.database.engine.connect() as connection:
        options = {"isolation_level": "AUTOCOMMIT"} if rows.database.dialect == "postgresql" else {}
        connection = await connection.execution_options(**options)
        if rows.database.dialect == "sqlite":
            await connection.rollback()
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute("VACUUM")
        else:
            await connection.execute(text("VACUUM messages"))
    assert (await rows.find("three"), await rows.find("one")) == ({3}, set())


def test_older_messages_are_filled_in_and_newer_ones_left_alone(database_url: str) -> None:
    downgrade(database_url, BEFORE)

    async def before() -> None:
        rows = Rows(Database(database_url))
        await rows.write(
            insert(users).values(id=1, username="u", username_key="u"),
            insert(conversations).values(user_id=1, id=10),
            *(message(number, "?" if number % 5 == 0 else f"old w{number}") for number in range(1, 26)),
        )
        await rows.database.close()

    asyncio.run(before())
    upgrade(database_url, "2026_11_25_search")

    async def after() -> None:
        rows = Rows(Database(database_url))
        assert await rows.words() == {}
        await rows.write(message(100, "new"), rewrite(3, "changed"), delete(messages).where(messages.c.id == 4))
        assert await fill_search(rows.database, 7) == 4
        assert await fill_search(rows.database, 7) == 0
        expected = {n: f"old w{n}" for n in range(1, 26) if n % 5 and n != 4} | {3: "changed", 100: "new"}
        assert await rows.words() == expected
        assert await rows.find("old") == set(expected) - {3, 100}
        await rows.check()
        await rows.database.close()

    asyncio.run(after())


def test_filling_goes_on_where_it_was_killed(database_url: str) -> None:
    async def run() -> None:
        rows = Rows(Database(database_url))
        await rows.write(
            insert(users).values(id=1, username="u", username_key="u"),
            insert(conversations).values(user_id=1, id=10),
            *(message(number, f"w{number}") for number in range(1, 11)),
            text("DELETE FROM search_documents"),
            text("INSERT INTO search_backfill VALUES (1, 6)"),
        )
        await rows.database.close()

    asyncio.run(run())
    upgrade(database_url)

    async def found() -> set[int]:
        rows = Rows(Database(database_url))
        try:
            return set(await rows.words())
        finally:
            await rows.database.close()

    assert asyncio.run(found()) == {7, 8, 9, 10}


@pytest.fixture(scope="module")
def folding(make_database: MakeDatabase) -> Iterator[Any]:
    """Folds texts by Postgres' function, many at once."""
    with make_database("postgres") as url:
        database = Database(url, pool=1)
        runner = asyncio.Runner()

        async def ask(texts: list[str]) -> list[str]:
            async with database.reading() as connection:
                query = text("SELECT search_words(one) FROM unnest(CAST(:texts AS text[])) AS one")
                return [row[0] for row in await connection.execute(query, {"texts": texts})]

        yield lambda texts: runner.run(ask(texts))
        runner.run(database.close())
        runner.close()


TEXTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60), max_size=30)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(TEXTS)
@example(
    ["İstanbul ΣΊΣΥΦΟΣ ΣΑΣ Straße ǅ ﬁ ½ … ﷺ", "हिन्दी कि ก็ดี 한국어 がぎ ｶﾞ ＡＢＣ", "a_b-c don't x@y.z", "🎉👍🏽❤️ 🇩🇪"]
)
@example(["x" * 70 + " y", "é" * 70, "w " * LONGEST_TEXT, "今" * (LONGEST_TEXT + 5), "\t\n \r", "Ⅷ ㎒ ①"])
def test_both_databases_read_the_same_words(folding: Any, texts: list[str]) -> None:
    assert folding(texts) == [fold(one) for one in texts]


def test_every_character_gives_the_same_words(folding: Any) -> None:
    """Beside those that are younger than this Python or this Postgres, which may not know each other's capitals."""
    characters = [chr(n) for n in range(1, 0x20000) if not 0xD800 <= n < 0xE000]
    texts = [f"a{character}b {character}" for character in characters]
    ours = [fold(one) for one in texts]
    theirs = [one for at in range(0, len(texts), 20_000) for one in folding(texts[at : at + 20_000])]
    differ = [c for c, one, other in zip(characters, ours, theirs, strict=True) if one != other]
    assert len(differ) < 200, [hex(ord(c)) for c in differ][:50]
    assert [c for c in differ if c < "\u1c80"] == []


def test_words_are_bounded() -> None:
    assert fold("x" * 1000) == "x" * LONGEST_WORD
    assert len(fold("﷽" * LONGEST_TEXT)) <= 200_000
    assert fold("a" * (LONGEST_TEXT - 1) + " b c").split() == ["a" * LONGEST_WORD]
