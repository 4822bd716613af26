"""Rows for the tests of the search index: two users who have a conversation each, and what the index holds of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, text, update

from service.db.engine import Database
from service.db.tables import conversations, messages, users


@dataclass(frozen=True, slots=True)
class Rows:
    """A database with two users, who have a conversation each."""

    database: Database

    async def write(self, *statements: Any) -> None:
        async with self.database.transaction() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def words(self) -> dict[int, str]:
        """The words that are indexed, by the message's number."""
        async with self.database.reading() as connection:
            found = await connection.execute(text("SELECT message_id, words FROM search_documents"))
            return {row[0]: row[1] for row in found}

    async def find(self, *terms: str) -> set[int]:
        """The messages that the index itself gives for words and marks which all must be there."""
        if self.database.dialect == "postgresql":
            condition = "search_terms(user_id, conversation_id, role, created_at, words) @@ CAST(:asked AS tsquery)"
            query = f"SELECT message_id FROM search_documents WHERE {condition}"
            asked = " & ".join(f"'{term}'" for term in terms)
        else:
            query = (
                "SELECT message_id FROM search_documents JOIN search_index ON search_index.rowid = place"
                " WHERE search_index MATCH :asked"
            )
            asked = " AND ".join(f'"{term}"' for term in terms)
        async with self.database.reading() as connection:
            if self.database.dialect == "postgresql":
                await connection.execute(text("SET LOCAL enable_seqscan = off"))
            return {row[0] for row in await connection.execute(text(query), {"asked": asked})}

    async def check(self) -> None:
        """The index holds what the documents hold, no more and no less. SQLite can tell, and raises."""
        if self.database.dialect == "sqlite":
            await self.write(text("INSERT INTO search_index (search_index, rank) VALUES ('integrity-check', 1)"))


def message(number: int, content: str, user_id: int = 1, **values: Any) -> Any:
    row = {
        "user_id": user_id, "id": number, "conversation_id": user_id * 10, "line_id": number, "depth": 0,
        "role": "user", "content": content, **values,
    }  # fmt: skip
    return insert(messages).values(row)


def rewrite(number: int, content: str) -> Any:
    return update(messages).where(messages.c.id == number).values(content=content)


@asynccontextmanager
async def two_users(database_url: str) -> AsyncIterator[Rows]:
    """The rows on a migrated database; the index is checked at the end."""
    made = Rows(Database(database_url, synchronous="normal"))
    for number in (1, 2):
        await made.write(
            insert(users).values(id=number, username=f"u{number}", username_key=f"u{number}"),
            insert(conversations).values(user_id=number, id=number * 10),
        )
    try:
        yield made
        await made.check()
    finally:
        await made.database.close()
